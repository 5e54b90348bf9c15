/* A child that only ever frees what its parent had. It has no background thread then, and need not; it must not hang.
 * */
#include "check.h"

enum { COUNT = 200 };

int main(void) {
    begin();
    static void *blocks[COUNT];
    for (unsigned index = 0; index < COUNT; index++) {
        blocks[index] = malloc(MIB);
        CHECK(blocks[index] != NULL);
        fill(blocks[index], MIB, index);
    }
    pid_t child = fork();
    if (child == 0) {
        for (unsigned index = 0; index < COUNT; index++) {
            CHECK(is_filled(blocks[index], MIB, MIB, index));
            free(blocks[index]);
        }
        /* The next block has it given back. */
        free(malloc(3 * MIB));
        await_resident_below(100 * MIB);
        _exit(0);
    }
    await(child);
    for (unsigned index = 0; index < COUNT; index++) CHECK(is_filled(blocks[index], MIB, MIB, index));
    return 0;
}
