/* A large block grows after it was freed. */
#include "misuse.h"

int main(void) {
    begin();
    void *block = announce(block_of(MIB)), *neighbour = block_of(MIB);
    free(block);
    block = realloc(hide(block), 4 * MIB);
    free(neighbour);
    CHECK(block == NULL);
    return 0;
}
