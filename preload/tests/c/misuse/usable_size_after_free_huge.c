/* The usable size of a huge block is asked for after it was freed. */
#include "misuse.h"

int main(void) {
    begin();
    void *block = announce(block_of(64 * MIB));
    free(block);
    CHECK(malloc_usable_size(hide(block)) == 0);
    return 0;
}
