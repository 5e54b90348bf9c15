// Every operator new and delete, by its name: blocks are as large and as aligned as asked, all forms of delete take
// them.
#include "check.h"

#include <new>

namespace {

const std::size_t sizes[] = {0, 1, 8, 16, 100, 4096, 100000, 1 << 20, 40 << 20};
const std::size_t aligns[] = {1, 2, 8, 16, 32, 64, 4096, 64 << 10, 2 << 20};

void *whole(void *block, std::size_t bytes, std::size_t align_bytes) {
    CHECK(block != nullptr && is_aligned(block, align_bytes) && malloc_usable_size(block) >= bytes);
    fill(block, bytes, 5);
    CHECK(is_filled(block, bytes, bytes, 5));
    return block;
}

void plain(std::size_t bytes) {
    const std::size_t least = alignof(max_align_t);
    ::operator delete(whole(::operator new(bytes), bytes, least));
    ::operator delete(whole(::operator new(bytes), bytes, least), bytes);
    ::operator delete(whole(::operator new(bytes, std::nothrow), bytes, least), std::nothrow);
    ::operator delete[](whole(::operator new[](bytes), bytes, least));
    ::operator delete[](whole(::operator new[](bytes), bytes, least), bytes);
    ::operator delete[](whole(::operator new[](bytes, std::nothrow), bytes, least), std::nothrow);
}

void aligned(std::size_t bytes, std::size_t align_bytes) {
    const std::align_val_t align{align_bytes};
    ::operator delete(whole(::operator new(bytes, align), bytes, align_bytes), align);
    ::operator delete(whole(::operator new(bytes, align), bytes, align_bytes), bytes, align);
    ::operator delete(whole(::operator new(bytes, align, std::nothrow), bytes, align_bytes), align, std::nothrow);
    ::operator delete[](whole(::operator new[](bytes, align), bytes, align_bytes), align);
    ::operator delete[](whole(::operator new[](bytes, align), bytes, align_bytes), bytes, align);
    ::operator delete[](whole(::operator new[](bytes, align, std::nothrow), bytes, align_bytes), align, std::nothrow);
}

}  // namespace

int main() {
    begin();
    errno = ENOTTY;
    for (std::size_t bytes : sizes) {
        plain(bytes);
        for (std::size_t align_bytes : aligns) aligned(bytes, align_bytes);
    }
    void *none = nullptr;
    ::operator delete(none);
    ::operator delete[](none);
    ::operator delete(none, std::align_val_t{64});
    ::operator delete(none, std::size_t{8});
    CHECK(errno == ENOTTY);
    void *first = ::operator new(0), *second = ::operator new(0);
    CHECK(first != second);
    ::operator delete(first);
    ::operator delete(second);
    // What is freed is had again: none of the forms above keeps its block.
    const std::size_t before = mallinfo2().uordblks;
    for (int round = 0; round < 100; round++) {
        plain(1 << 20);
        aligned(1 << 20, 4096);
    }
    CHECK(mallinfo2().uordblks <= before + (8 << 20));
    return 0;
}
