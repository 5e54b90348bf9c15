/* A program that frees 1 GiB and never calls again gets smaller all the same. So does a child. */
#include "check.h"

enum { COUNT = 1024 };

static void *blocks[COUNT];

static void use(void) {
    for (unsigned index = 0; index < COUNT; index++) {
        blocks[index] = malloc(MIB);
        CHECK(blocks[index] != NULL);
        memset(blocks[index], 1, MIB);
    }
    CHECK(resident_bytes() >= COUNT * MIB);
    for (unsigned index = 0; index < COUNT; index++) free(blocks[index]);
    await_resident_below(100 * MIB);
}

int main(void) {
    begin();
    use();
    pid_t child = fork();
    if (child == 0) {
        use();
        _exit(0);
    }
    await(child);
    return 0;
}
