/* The usable size of a pointer into the middle of a large block is asked for. */
#include "misuse.h"

int main(void) {
    begin();
    char *block = block_of(MIB);
    CHECK(malloc_usable_size(announce(block + 4096)) == 0);
    return 0;
}
