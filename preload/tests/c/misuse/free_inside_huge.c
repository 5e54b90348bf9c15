/* A pointer into the middle of a huge block is freed. */
#include "misuse.h"

int main(void) {
    begin();
    char *block = block_of(64 * MIB);
    free(announce(block + 2 * MIB));
    return 0;
}
