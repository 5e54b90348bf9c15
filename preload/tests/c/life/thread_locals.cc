// Destructors of C++'s thread-local objects allocate, free and throw.
#include "check.h"

#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

int destroyed;

struct Late {
    std::vector<std::string> texts;
    ~Late() {
        for (const std::string &text : texts) CHECK(text == std::string(text.size(), 'x'));
        texts.emplace_back(100000, 'y');
        try {
            throw std::runtime_error(std::string(500, 'z'));
        } catch (const std::runtime_error &error) {
            CHECK(strlen(error.what()) == 500);
        }
        churn(3, 100);
        __atomic_add_fetch(&destroyed, 1, __ATOMIC_RELAXED);
    }
};

thread_local Late first, second;

}  // namespace

int main() {
    begin();
    for (int round = 0; round < 15; round++) {
        std::vector<std::thread> threads;
        for (int thread = 0; thread < 8; thread++)
            threads.emplace_back([thread] {
                for (int count = 0; count < 100; count++) first.texts.emplace_back(std::size_t(count * thread), 'x');
                second.texts = first.texts;
            });
        for (std::thread &thread : threads) thread.join();
    }
    CHECK(destroyed == 15 * 8 * 2);
    return 0;
}
