/* A large block is freed twice. */
#include "misuse.h"

int main(void) {
    begin();
    void *block = announce(block_of(MIB)), *neighbour = block_of(MIB);
    free(block);
    free(hide(block));
    free(neighbour);
    return 0;
}
