// Containers, strings, futures and exceptions on many threads.
#include "check.h"

#include <deque>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

std::mutex lock;
std::deque<std::unique_ptr<std::string>> exchange;

std::string text_of(int number) {
    const auto length = static_cast<std::size_t>(number % 300);
    return std::string(length, static_cast<char>('a' + number % 26)) + std::to_string(number);
}

int work(int seed) {
    std::map<int, std::string> tree;
    std::unordered_map<std::string, std::vector<int>> table;
    std::list<std::shared_ptr<int>> list;
    int caught = 0;
    for (int round = 0; round < 1000; round++) {
        const int number = (round * 7919 + seed) % 10007;
        tree[number] = text_of(number);
        table[tree[number]].push_back(round);
        list.push_back(std::make_shared<int>(number));
        if (round % 3 == 0) tree.erase(tree.begin());
        if (round % 5 == 0) list.pop_front();
        try {
            if (round % 7 == 0) throw std::runtime_error(text_of(number));
        } catch (const std::exception &error) {
            CHECK(text_of(number) == error.what());
            caught++;
        }
        // Blocks that one thread makes and another frees.
        std::unique_ptr<std::string> mine(new std::string(text_of(number))), taken;
        const std::lock_guard<std::mutex> guard(lock);
        exchange.push_back(std::move(mine));
        if (exchange.size() > 100) {
            taken = std::move(exchange.front());
            exchange.pop_front();
        }
    }
    for (const auto &entry : tree) CHECK(entry.second == text_of(entry.first));
    for (const auto &entry : table) CHECK(!entry.second.empty());
    return caught;
}

}  // namespace

int main() {
    begin();
    for (int round = 0; round < 2; round++) {
        std::vector<std::future<int>> results;
        for (int thread = 0; thread < 6; thread++) results.push_back(std::async(std::launch::async, work, thread * 31));
        for (auto &result : results) CHECK(result.get() == 999 / 7 + 1);
    }
    std::promise<int> promise;
    std::thread thrower([&] {
        try {
            throw std::out_of_range("carried");
        } catch (...) {
            promise.set_exception(std::current_exception());
        }
    });
    bool caught = false;
    try {
        promise.get_future().get();
    } catch (const std::out_of_range &error) {
        caught = strcmp(error.what(), "carried") == 0;
    }
    CHECK(caught);
    thrower.join();
    return 0;
}
