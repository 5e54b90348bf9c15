/* A huge block grows after it was freed. */
#include "misuse.h"

int main(void) {
    begin();
    void *block = announce(block_of(64 * MIB)), *neighbour = block_of(64 * MIB);
    free(block);
    block = realloc(hide(block), 4 * 64 * MIB);
    free(neighbour);
    CHECK(block == NULL);
    return 0;
}
