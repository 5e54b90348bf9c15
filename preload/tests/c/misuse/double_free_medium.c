/* A medium block is freed twice. */
#include "misuse.h"

int main(void) {
    begin();
    void *block = announce(block_of(100 * KIB)), *neighbour = block_of(100 * KIB);
    free(block);
    free(hide(block));
    free(neighbour);
    return 0;
}
