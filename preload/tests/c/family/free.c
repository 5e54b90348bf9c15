/* free: null is nothing; errno is kept, whatever kind of block it is and whoever frees it. */
#include "check.h"

static const size_t sizes[] = {0, 1, 16, 1000, 40000, 512 * KIB, MIB, 10 * MIB, 32 * MIB, 100 * MIB};
enum { COUNT = sizeof sizes / sizeof *sizes };

static void *blocks[COUNT];

static void *free_all(void *nothing) {
    for (unsigned index = 0; index < COUNT; index++) {
        errno = ENOTTY;
        free(blocks[index]);
        CHECK(errno == ENOTTY);
    }
    return nothing;
}

static void *allocate_all(void *nothing) {
    for (unsigned index = 0; index < COUNT; index++) {
        blocks[index] = malloc(sizes[index]);
        CHECK(blocks[index] != NULL);
        fill(blocks[index], sizes[index], index);
    }
    return nothing;
}

int main(void) {
    begin();
    errno = ENOTTY;
    free(NULL);
    CHECK(errno == ENOTTY);
    for (int round = 0; round < 3; round++) {
        allocate_all(NULL);
        free_all(NULL);
        allocate_all(NULL);
        join(start(free_all, NULL));
        join(start(allocate_all, NULL));
        free_all(NULL);
    }
    return 0;
}
