/* A pointer into the middle of a small block is reallocated. */
#include "misuse.h"

int main(void) {
    begin();
    char *block = block_of(100);
    block = realloc(announce(block + 48), 2 * 100);
    CHECK(block == NULL);
    return 0;
}
