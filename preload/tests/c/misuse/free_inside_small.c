/* A pointer into the middle of a small block is freed. */
#include "misuse.h"

int main(void) {
    begin();
    char *block = block_of(100);
    free(announce(block + 48));
    return 0;
}
