/* pvalloc: whole pages at a page; a size that overflows when rounded up is ENOMEM. */
#include "check.h"

int main(void) {
    begin();
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t bytes = 0; bytes <= 40 * MIB; bytes = bytes * 9 + 1) {
        size_t whole = (bytes + page_bytes - 1) / page_bytes * page_bytes;
        void *block = pvalloc(bytes);
        CHECK(block != NULL && is_aligned(block, page_bytes) && malloc_usable_size(block) >= whole);
        fill(block, whole, 1);
        free(block);
    }
    FAILS(pvalloc(opaque(LARGEST)), ENOMEM);
    FAILS(pvalloc(opaque(LARGEST + 1)), ENOMEM);
    FAILS(pvalloc(opaque(SIZE_MAX - page_bytes + 1)), ENOMEM);
    FAILS(pvalloc(opaque(SIZE_MAX - page_bytes + 2)), ENOMEM);
    FAILS(pvalloc(opaque(SIZE_MAX)), ENOMEM);
    return 0;
}
