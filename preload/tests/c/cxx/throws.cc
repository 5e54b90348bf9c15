// Without memory and without a handler: bad_alloc from new, null from the form that must not throw.
#include "check.h"

#include <new>
#include <string>
#include <vector>

namespace {

struct alignas(128) Wide {
    char bytes[128];
};

struct Counted {
    static int live;
    Counted() { live++; }
    ~Counted() { live--; }
};
int Counted::live = 0;

template <typename Work>
bool throws(Work work) {
    try {
        Counted in_this_frame;
        work();
    } catch (const std::bad_alloc &error) {
        CHECK(error.what() != nullptr);
        return Counted::live == 0;
    }
    return false;
}

}  // namespace

int main() {
    begin();
    for (std::size_t bytes : {LARGEST - 15, LARGEST, LARGEST + 1, SIZE_MAX}) {
        bytes = opaque(bytes);
        CHECK(throws([&] { hide(::operator new(bytes)); }));
        CHECK(throws([&] { hide(::operator new[](bytes)); }));
        CHECK(::operator new(bytes, std::nothrow) == nullptr);
        CHECK(::operator new[](bytes, std::nothrow) == nullptr);
        for (std::size_t align_bytes : {std::size_t{8}, std::size_t{64}, std::size_t{2} << 20}) {
            const std::align_val_t align{align_bytes};
            CHECK(throws([&] { hide(::operator new(bytes, align)); }));
            CHECK(throws([&] { hide(::operator new[](bytes, align)); }));
            CHECK(::operator new(bytes, align, std::nothrow) == nullptr);
            CHECK(::operator new[](bytes, align, std::nothrow) == nullptr);
        }
    }
    const std::size_t many = opaque(std::size_t{1} << 55);
    CHECK(throws([&] { delete[] new Wide[many]; }));
    CHECK(throws([&] { delete[] new char[many * 64]; }));
    CHECK((new (std::nothrow) Wide[many]) == nullptr);
    CHECK(throws([&] { std::vector<char> table(std::size_t{1} << 62); }));
    CHECK(throws([&] { std::string text(std::size_t{1} << 61, 'x'); }));
    // Again and again, on a thread as well.
    auto many_times = [](void *nothing) -> void * {
        for (int round = 0; round < 200; round++) CHECK(throws([] { hide(::operator new(opaque(LARGEST))); }));
        return nothing;
    };
    join(start(many_times, nullptr));
    return 0;
}
