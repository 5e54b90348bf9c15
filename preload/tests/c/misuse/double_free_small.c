/* A small block is freed twice. */
#include "misuse.h"

int main(void) {
    begin();
    void *block = announce(block_of(100)), *neighbour = block_of(100);
    free(block);
    free(hide(block));
    free(neighbour);
    return 0;
}
