/* A small block grows after it was freed. */
#include "misuse.h"

int main(void) {
    begin();
    void *block = announce(block_of(100)), *neighbour = block_of(100);
    free(block);
    block = realloc(hide(block), 4 * 100);
    free(neighbour);
    CHECK(block == NULL);
    return 0;
}
