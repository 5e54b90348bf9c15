/* valloc: a block at a page. */
#include "check.h"

int main(void) {
    begin();
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t bytes = 0; bytes <= 40 * MIB; bytes = bytes * 9 + 1) {
        void *block = valloc(bytes);
        CHECK(block != NULL && is_aligned(block, page_bytes) && malloc_usable_size(block) >= bytes);
        fill(block, bytes, 1);
        free(block);
    }
    FAILS(valloc(opaque(LARGEST)), ENOMEM);
    FAILS(valloc(opaque(LARGEST + 1)), ENOMEM);
    FAILS(valloc(opaque(SIZE_MAX)), ENOMEM);
    return 0;
}
