/* A pointer into the middle of a large block is freed. */
#include "misuse.h"

int main(void) {
    begin();
    char *block = block_of(MIB);
    free(announce(block + 64 * KIB));
    return 0;
}
