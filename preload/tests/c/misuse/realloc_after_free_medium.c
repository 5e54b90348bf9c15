/* A medium block grows after it was freed. */
#include "misuse.h"

int main(void) {
    begin();
    void *block = announce(block_of(100 * KIB)), *neighbour = block_of(100 * KIB);
    free(block);
    block = realloc(hide(block), 4 * 100 * KIB);
    free(neighbour);
    CHECK(block == NULL);
    return 0;
}
