/* memalign: alignments are rounded up to a power of two; those beyond the largest one are EINVAL. */
#include "check.h"

int main(void) {
    begin();
    const size_t aligns[][2] = {
        {0, 1},     {1, 1},       {3, 4},       {5, 8},             {8, 8},             {17, 32},
        {100, 128}, {4096, 4096}, {4097, 8192}, {2 * MIB, 2 * MIB}, {3 * MIB, 4 * MIB}, {GIB, GIB}};
    for (unsigned index = 0; index < sizeof aligns / sizeof *aligns; index++) {
        for (size_t bytes = 0; bytes <= 40 * MIB; bytes = bytes * 30 + 1) {
            void *block = memalign(opaque(aligns[index][0]), bytes);
            CHECK(block != NULL && is_aligned(block, aligns[index][1]) && is_aligned(block, _Alignof(max_align_t)));
            fill(block, bytes, index);
            CHECK(is_filled(block, bytes, bytes, index));
            free(block);
        }
    }
    FAILS(memalign(opaque(SIZE_MAX / 2 + 2), 1), EINVAL);
    FAILS(memalign(opaque(SIZE_MAX), 1), EINVAL);
    FAILS(memalign(opaque(SIZE_MAX / 2 + 1), 1), ENOMEM);
    FAILS(memalign(opaque(4096), opaque(LARGEST)), ENOMEM);
    FAILS(memalign(opaque(4096), opaque(LARGEST + 1)), ENOMEM);
    FAILS(memalign(opaque(0), opaque(SIZE_MAX)), ENOMEM);
    return 0;
}
