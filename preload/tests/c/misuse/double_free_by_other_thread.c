/* A block is freed by its thread, then by another. */
#include "misuse.h"

static void *free_it(void *block) {
    free(block);
    return NULL;
}

int main(void) {
    begin();
    void *block = announce(block_of(100)), *neighbour = block_of(100);
    free(block);
    join(start(free_it, block));
    free(neighbour);
    return 0;
}
