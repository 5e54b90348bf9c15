// Much of the standard library, instantiated often, and a recursion of templates.
#include <algorithm>
#include <functional>
#include <future>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N> struct Chain {
    std::map<int, std::vector<std::string>> map;
    std::variant<int, std::string, std::shared_ptr<Chain<N - 1>>> next = std::make_shared<Chain<N - 1>>();
    long walk(long seed) {
        map[N].push_back(std::string(seed % 100, 'a' + N % 26));
        auto visit = [&](auto &value) -> long {
            if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::shared_ptr<Chain<N - 1>>>) {
                return value->walk(seed * 31 % 10007 + N);
            } else {
                return seed;
            }
        };
        return std::visit(visit, next) + map[N].back().size();
    }
};
template <> struct Chain<0> {
    long walk(long seed) { return seed; }
};

template <std::size_t... I> auto tuples(std::index_sequence<I...>) {
    return std::make_tuple(
        std::unordered_map<std::string, std::tuple<std::integral_constant<int, I>, std::string>>{}...);
}

struct alignas(128) Wide {
    long values[32];
};

static long work(int seed) {
    std::unordered_map<std::string, std::list<int>> table;
    for (int i = 0; i < 20000; i++) {
        table["key" + std::to_string(i * seed % 7919)].push_back(i);
    }
    std::vector<std::unique_ptr<Wide>> wide;
    for (int i = 0; i < 1000; i++) {
        wide.push_back(std::make_unique<Wide>());
        wide.back()->values[i % 32] = i;
    }
    long sum = 0;
    for (auto &[key, list] : table) {
        sum += std::accumulate(list.begin(), list.end(), long(key.size()));
    }
    for (auto &one : wide) {
        sum += std::accumulate(one->values, one->values + 32, 0L) + (reinterpret_cast<std::uintptr_t>(one.get()) % 128);
    }
    return sum;
}

int main() {
    std::cout << Chain<20>().walk(77) << "\n";
    std::cout << std::tuple_size_v<decltype(tuples(std::make_index_sequence<10>()))> << "\n";
    std::vector<std::future<long>> answers;
    for (int seed = 1; seed <= 8; seed++) {
        answers.push_back(std::async(std::launch::async, work, seed));
    }
    for (auto &answer : answers) {
        std::cout << answer.get() << "\n";
    }
    std::ostringstream text;
    for (int i = 0; i < 3000; i++) {
        text << "name" << i << "=" << i * i % 997 << ";";
    }
    std::string all = text.str();
    std::regex pattern("name([0-9]+)=([0-9]{1,2});");
    std::cout << std::distance(std::sregex_iterator(all.begin(), all.end(), pattern), std::sregex_iterator()) << "\n";
    try {
        std::vector<long> none(static_cast<std::size_t>(1) << 58);
        std::cout << none.size() << "\n";
    } catch (const std::bad_alloc &) {
        std::cout << "no memory\n";
    }
}
