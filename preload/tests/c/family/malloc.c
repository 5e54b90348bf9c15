/* malloc: blocks of every size are distinct, aligned and writable; too large is ENOMEM; success keeps errno. */
#include "check.h"

int main(void) {
    begin();
    void *none = malloc(0), *other = malloc(0);
    CHECK(none != NULL && other != NULL && none != other);
    free(none);
    free(other);

    errno = E2BIG;
    for (size_t bytes = 1; bytes <= 200 * MIB; bytes = bytes * 3 / 2 + 1) {
        unsigned char *first = malloc(bytes), *second = malloc(bytes);
        CHECK(first != NULL && second != NULL);
        CHECK(is_aligned(first, _Alignof(max_align_t)) && is_aligned(second, _Alignof(max_align_t)));
        CHECK(first + bytes <= second || second + bytes <= first);
        fill(first, bytes, 1);
        fill(second, bytes, 2);
        CHECK(is_filled(first, bytes, bytes, 1) && is_filled(second, bytes, bytes, 2));
        free(first);
        free(second);
    }
    CHECK(errno == E2BIG);

    const size_t too_large[] = {LARGEST - 4096, LARGEST - 15, LARGEST, LARGEST + 1,
                                SIZE_MAX - 4096, SIZE_MAX - 15, SIZE_MAX};
    for (size_t index = 0; index < sizeof too_large / sizeof *too_large; index++)
        FAILS(malloc(opaque(too_large[index])), ENOMEM);
    churn(1, 20000);
    return 0;
}
