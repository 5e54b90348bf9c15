/* A block is freed by one name of free, then by another. */
#include "misuse.h"

int main(void) {
    begin();
    void *block = announce(aligned_alloc(4096, 100)), *neighbour = aligned_alloc(4096, 100);
    CHECK(realloc(block, opaque(0)) == NULL);
    free(hide(block));
    free(neighbour);
    return 0;
}
