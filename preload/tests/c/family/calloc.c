/* calloc: all zero, also where memory was used before; products that overflow are ENOMEM. */
#include "check.h"

int main(void) {
    begin();
    const size_t none[][2] = {{0, 0}, {0, 8}, {8, 0}, {0, SIZE_MAX}, {SIZE_MAX, 0}};
    for (size_t index = 0; index < sizeof none / sizeof *none; index++) {
        void *block = calloc(opaque(none[index][0]), opaque(none[index][1]));
        CHECK(block != NULL);
        free(block);
    }

    for (size_t bytes = 1; bytes <= 100 * MIB; bytes = bytes * 3 + 1) {
        size_t count = bytes > 4 * MIB ? 1 : 32;
        void *blocks[32];
        for (int round = 0; round < 3; round++) {
            for (size_t index = 0; index < count; index++) {
                blocks[index] = round % 2 ? calloc(1, bytes) : calloc(bytes, 1);
                CHECK(blocks[index] != NULL && is_aligned(blocks[index], _Alignof(max_align_t)));
                CHECK(is_zero(blocks[index], bytes));
                memset(blocks[index], 0xa5, malloc_usable_size(blocks[index]));
            }
            for (size_t index = 0; index < count; index++) free(blocks[index]);
        }
    }
    /* Odd products: the last element counts. */
    unsigned char *table = calloc(1237, 7);
    CHECK(table != NULL && is_zero(table, 1237 * 7));
    free(table);

    const size_t too_large[][2] = {
        {SIZE_MAX, 2}, {2, SIZE_MAX}, {SIZE_MAX, SIZE_MAX}, {(size_t)1 << 32, (size_t)1 << 32}, {SIZE_MAX / 2 + 1, 2},
        {SIZE_MAX / 3 + 1, 3}, {1, LARGEST}, {1, LARGEST + 1}, {LARGEST, 2}, {SIZE_MAX, 1}};
    for (size_t index = 0; index < sizeof too_large / sizeof *too_large; index++)
        FAILS(calloc(opaque(too_large[index][0]), opaque(too_large[index][1])), ENOMEM);
    return 0;
}
