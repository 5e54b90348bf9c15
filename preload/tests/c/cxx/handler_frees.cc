// A handler that frees what it kept, until new finds memory: with a reservation so small that the program fills it.
#include "check.h"

#include <new>
#include <sys/resource.h>
#include <vector>

namespace {

std::vector<void *> kept;
int calls;

void free_some() {
    calls++;
    if (kept.empty()) {
        std::set_new_handler(nullptr);
        return;
    }
    for (int count = 0; count < 4 && !kept.empty(); count++) {
        free(kept.back());
        kept.pop_back();
    }
}

// Fills the address space that the program may have.
void fill_up() {
    for (;;) {
        void *block = malloc(MIB);
        if (block == nullptr) return;
        CHECK(kept.size() < kept.capacity());
        kept.push_back(block);
    }
}

}  // namespace

int main(int, char **arguments) {
    begin();
    const rlimit limit = {std::size_t{256} << 20, std::size_t{256} << 20};
    if (getenv("TEST_LIMITED") == nullptr) {
        CHECK(setenv("TEST_LIMITED", "1", 1) == 0 && setrlimit(RLIMIT_AS, &limit) == 0);
        execv("/proc/self/exe", arguments);
        CHECK(false);
    }
    kept.reserve(1000);
    fill_up();
    CHECK(kept.size() > 20 && kept.size() < 256);
    std::set_new_handler(free_some);
    for (int form = 0; form < 4; form++) {
        fill_up();
        const std::size_t before = kept.size();
        calls = 0;
        const std::size_t bytes = 12 * MIB;
        void *block = form == 0   ? ::operator new(bytes)
                      : form == 1 ? ::operator new[](bytes, std::align_val_t{4096})
                      : form == 2 ? ::operator new(bytes, std::nothrow)
                                  : ::operator new[](bytes, std::align_val_t{4096}, std::nothrow);
        CHECK(block != nullptr && calls >= 2 && kept.size() < before && std::get_new_handler() == free_some);
        fill(block, bytes, 1);
        ::operator delete(block);
    }
    return 0;
}
