/* A pointer into the middle of a huge block is reallocated. */
#include "misuse.h"

int main(void) {
    begin();
    char *block = block_of(64 * MIB);
    block = realloc(announce(block + 2 * MIB), 2 * 64 * MIB);
    CHECK(block == NULL);
    return 0;
}
