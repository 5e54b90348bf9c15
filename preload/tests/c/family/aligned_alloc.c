/* aligned_alloc: any power of two, any size, as in glibc since 2.38; other alignments are EINVAL. */
#include "check.h"

int main(void) {
    begin();
    for (size_t align_bytes = 1; align_bytes <= GIB; align_bytes *= 2) {
        const size_t sizes[] = {0, 1, 3, 16, 100, align_bytes / 2, align_bytes, align_bytes + 1, 100 * KIB, 40 * MIB};
        for (unsigned index = 0; index < sizeof sizes / sizeof *sizes; index++) {
            void *block = aligned_alloc(align_bytes, sizes[index]);
            CHECK(block != NULL && is_aligned(block, align_bytes) && is_aligned(block, _Alignof(max_align_t)));
            CHECK(malloc_usable_size(block) >= sizes[index]);
            if (sizes[index] <= 40 * MIB) fill(block, sizes[index], index);
            free(block);
        }
    }
    const size_t no_power[] = {0, 3, 5, 6, 24, 48, 4095, 4097, SIZE_MAX / 2, SIZE_MAX / 2 + 2, SIZE_MAX - 1, SIZE_MAX};
    for (unsigned index = 0; index < sizeof no_power / sizeof *no_power; index++) {
        FAILS(aligned_alloc(opaque(no_power[index]), 64), EINVAL);
        FAILS(aligned_alloc(opaque(no_power[index]), opaque(0)), EINVAL);
    }
    for (size_t align_bytes = 1; align_bytes != 0; align_bytes *= 2) {
        FAILS(aligned_alloc(opaque(align_bytes), opaque(LARGEST - 15)), ENOMEM);
        FAILS(aligned_alloc(opaque(align_bytes), opaque(LARGEST + 1)), ENOMEM);
        FAILS(aligned_alloc(opaque(align_bytes), opaque(SIZE_MAX)), ENOMEM);
    }
    FAILS(aligned_alloc(opaque(SIZE_MAX / 2 + 1), 1), ENOMEM);
    /* Many at once, small and aligned. */
    void *blocks[1000];
    for (unsigned index = 0; index < 1000; index++) {
        blocks[index] = aligned_alloc((size_t)32 << (index % 8), 40 + index);
        CHECK(blocks[index] != NULL && is_aligned(blocks[index], (size_t)32 << (index % 8)));
        fill(blocks[index], 40 + index, index);
    }
    for (unsigned index = 0; index < 1000; index++) {
        CHECK(is_filled(blocks[index], 40 + index, 40 + index, index));
        free(blocks[index]);
    }
    return 0;
}
