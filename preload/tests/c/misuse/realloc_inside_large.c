/* A pointer into the middle of a large block is reallocated. */
#include "misuse.h"

int main(void) {
    begin();
    char *block = block_of(MIB);
    block = realloc(announce(block + 64 * KIB), 2 * MIB);
    CHECK(block == NULL);
    return 0;
}
