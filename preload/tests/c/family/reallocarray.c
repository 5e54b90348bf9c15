/* reallocarray: realloc of a product; one that overflows is ENOMEM and leaves the block as it was. */
#include "check.h"

int main(void) {
    begin();
    unsigned char *block = reallocarray(NULL, 10, 100);
    CHECK(block != NULL && malloc_usable_size(block) >= 1000);
    fill(block, 1000, 1);
    block = reallocarray(block, 1000, 100);
    CHECK(block != NULL && malloc_usable_size(block) >= 100000 && is_filled(block, 1000, 1000, 1));
    fill(block, 100000, 2);

    const size_t too_large[][2] = {
        {SIZE_MAX, 2},         {2, SIZE_MAX},    {(size_t)1 << 32, (size_t)1 << 32},
        {SIZE_MAX / 2 + 1, 2}, {1, LARGEST + 1}, {LARGEST, 1}};
    for (unsigned index = 0; index < sizeof too_large / sizeof *too_large; index++) {
        FAILS(reallocarray(hide(block), opaque(too_large[index][0]), opaque(too_large[index][1])), ENOMEM);
        CHECK(is_filled(block, 100000, 100000, 2));
    }
    block = reallocarray(block, 1, 100);
    CHECK(block != NULL && is_filled(block, 100000, 100, 2));
    errno = E2BIG;
    CHECK(reallocarray(block, opaque(0), 100) == NULL && errno == E2BIG);
    block = reallocarray(NULL, 100, opaque(0));
    CHECK(block != NULL);
    free(block);
    return 0;
}
