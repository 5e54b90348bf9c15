// A program that replaces operator new and delete by its own, as the standard allows for the plain forms alone: all other
// forms come down to these.
#pragma GCC diagnostic ignored "-Wsized-deallocation"
#include "check.h"

#include <new>

namespace {

constexpr std::size_t MARK = 0x600df00d;
constexpr std::size_t HEAD_BYTES = 32;
int live, aligned_live;

struct Sized {
    int numbers[10];
    ~Sized() { numbers[0] = 0; }
};

struct alignas(64) Wide {
    char bytes[64];
};

}  // namespace

void *operator new(std::size_t bytes) {
    if (bytes > LARGEST - HEAD_BYTES) throw std::bad_alloc();
    auto *block = static_cast<char *>(std::malloc(bytes + HEAD_BYTES));
    if (block == nullptr) throw std::bad_alloc();
    *reinterpret_cast<std::size_t *>(block) = MARK;
    live++;
    return block + HEAD_BYTES;
}

void operator delete(void *pointer) noexcept {
    if (pointer == nullptr) return;
    char *block = static_cast<char *>(pointer) - HEAD_BYTES;
    CHECK(*reinterpret_cast<std::size_t *>(block) == MARK);
    live--;
    std::free(block);
}

void *operator new(std::size_t bytes, std::align_val_t align) {
    void *block = nullptr;
    if (posix_memalign(&block, static_cast<std::size_t>(align), bytes) != 0) throw std::bad_alloc();
    aligned_live++;
    return block;
}

void operator delete(void *pointer, std::align_val_t) noexcept {
    aligned_live -= pointer != nullptr;
    std::free(pointer);
}

int main() {
    begin();
    delete static_cast<Sized *>(hide(new Sized));
    delete[] static_cast<Sized *>(hide(new Sized[5]));
    delete static_cast<Sized *>(hide(new (std::nothrow) Sized));
    delete[] static_cast<Sized *>(hide(new (std::nothrow) Sized[5]));
    ::operator delete(hide(::operator new[](100)));
    ::operator delete[](hide(::operator new(100)));
    ::operator delete[](hide(::operator new[](100)), std::nothrow);
    ::operator delete(hide(::operator new(100)), std::nothrow);
    ::operator delete(hide(::operator new(100)), std::size_t{100});
    ::operator delete[](hide(::operator new[](100)), std::size_t{100});
    // What the program's own operator throws is caught in the forms that must not throw.
    CHECK(::operator new(opaque(LARGEST), std::nothrow) == nullptr);
    CHECK(::operator new[](opaque(LARGEST), std::nothrow) == nullptr);
    CHECK(live == 0);
    void *kept = hide(::operator new[](100, std::nothrow));
    CHECK(live == 1);
    ::operator delete[](kept);

    const std::align_val_t align{64};
    delete static_cast<Wide *>(hide(new Wide));
    delete[] static_cast<Wide *>(hide(new Wide[5]));
    delete static_cast<Wide *>(hide(new (std::nothrow) Wide));
    delete[] static_cast<Wide *>(hide(new (std::nothrow) Wide[5]));
    ::operator delete(hide(::operator new[](100, align)), align, std::nothrow);
    ::operator delete[](hide(::operator new(100, align)), std::size_t{100}, align);
    CHECK(::operator new(opaque(LARGEST), align, std::nothrow) == nullptr);
    kept = hide(::operator new[](100, align, std::nothrow));
    CHECK(aligned_live == 1);
    ::operator delete[](kept, align, std::nothrow);
    CHECK(live == 0 && aligned_live == 0);
    return 0;
}
