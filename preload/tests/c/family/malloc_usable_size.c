/* malloc_usable_size: 0 for null, else at least what was asked for, and all of it the program's. */
#include "check.h"

int main(void) {
    begin();
    CHECK(malloc_usable_size(NULL) == 0);
    enum { COUNT = 3 };
    for (size_t bytes = 0; bytes <= 40 * MIB; bytes = bytes * 3 / 2 + 1) {
        unsigned char *blocks[COUNT];
        size_t usable[COUNT];
        errno = ENOTTY;
        for (unsigned index = 0; index < COUNT; index++) {
            blocks[index] = malloc(bytes);
            CHECK(blocks[index] != NULL);
            usable[index] = malloc_usable_size(blocks[index]);
            CHECK(usable[index] >= bytes && usable[index] < 2 * bytes + 16 * KIB + 2 * MIB);
            fill(blocks[index], usable[index], index);
        }
        CHECK(errno == ENOTTY);
        for (unsigned index = 0; index < COUNT; index++) {
            CHECK(malloc_usable_size(blocks[index]) == usable[index]);
            CHECK(is_filled(blocks[index], usable[index], usable[index], index));
            free(blocks[index]);
        }
    }
    void *aligned = aligned_alloc(64 * KIB, 3);
    CHECK(malloc_usable_size(aligned) >= 3);
    fill(aligned, malloc_usable_size(aligned), 1);
    free(aligned);
    return 0;
}
