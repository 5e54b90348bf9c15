/* posix_memalign: the error is the answer, errno and the place are kept. */
#include "check.h"

int main(void) {
    begin();
    void *block;
    errno = ENOTTY;
    for (size_t align_bytes = sizeof(void *); align_bytes <= GIB; align_bytes *= 2) {
        for (size_t bytes = 0; bytes <= 40 * MIB; bytes = bytes * 50 + 1) {
            block = NULL;
            CHECK(posix_memalign(&block, align_bytes, bytes) == 0);
            CHECK(block != NULL && is_aligned(block, align_bytes) && is_aligned(block, _Alignof(max_align_t)));
            fill(block, bytes, 3);
            CHECK(is_filled(block, bytes, bytes, 3));
            free(block);
        }
    }
    void *const untouched = &block;
    block = untouched;
    const size_t wrong[] = {0, 1, 2, 3, 4, 7, 12, 24, 40, 4095, SIZE_MAX / 2 + 2, SIZE_MAX - 7, SIZE_MAX};
    for (unsigned index = 0; index < sizeof wrong / sizeof *wrong; index++)
        CHECK(posix_memalign(&block, opaque(wrong[index]), 64) == EINVAL && block == untouched);
    const size_t too_large[] = {LARGEST - 15, LARGEST, LARGEST + 1, SIZE_MAX};
    for (unsigned index = 0; index < sizeof too_large / sizeof *too_large; index++) {
        CHECK(posix_memalign(&block, 8, opaque(too_large[index])) == ENOMEM && block == untouched);
        CHECK(posix_memalign(&block, 2 * MIB, opaque(too_large[index])) == ENOMEM && block == untouched);
    }
    CHECK(posix_memalign(&block, opaque(SIZE_MAX / 2 + 1), 1) == ENOMEM && block == untouched);
    CHECK(errno == ENOTTY);
    return 0;
}
