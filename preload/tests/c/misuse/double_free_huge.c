/* A huge block is freed twice. */
#include "misuse.h"

int main(void) {
    begin();
    void *block = announce(block_of(64 * MIB)), *neighbour = block_of(64 * MIB);
    free(block);
    free(hide(block));
    free(neighbour);
    return 0;
}
