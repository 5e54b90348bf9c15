/* A pointer into the middle of a medium block is freed. */
#include "misuse.h"

int main(void) {
    begin();
    char *block = block_of(100 * KIB);
    free(announce(block + 4096));
    return 0;
}
