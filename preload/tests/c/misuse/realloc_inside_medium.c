/* A pointer into the middle of a medium block is reallocated. */
#include "misuse.h"

int main(void) {
    begin();
    char *block = block_of(100 * KIB);
    block = realloc(announce(block + 4096), 2 * 100 * KIB);
    CHECK(block == NULL);
    return 0;
}
