/* A program closes all its descriptors and goes on: memory is given back, and no number of its is taken. */
#include "check.h"

static void *work(void *seed) {
    churn((unsigned)(uintptr_t)seed, 2000);
    return NULL;
}

static void *use_much(void *nothing) {
    char *block = malloc(300 * MIB);
    CHECK(block != NULL);
    memset(block, 1, 300 * MIB);
    free(block);
    return nothing;
}

int main(void) {
    begin();
    /* Standard error as well: who fails from here on says nothing, but ends with 1. */
    CHECK(close_range(0, ~0U, 0) == 0);
    for (int round = 0; round < 2; round++) {
        pthread_t threads[4];
        for (uintptr_t index = 0; index < 4; index++) threads[index] = start(work, (void *)index);
        for (unsigned index = 0; index < 4; index++) join(threads[index]);
        join(start(use_much, NULL));
        await_resident_below(150 * MIB);
        /* The number is free, as it was. */
        CHECK(open("/dev/null", O_RDWR) == 0);
        CHECK(fcntl(1, F_GETFD) == -1 && fcntl(2, F_GETFD) == -1 && fcntl(3, F_GETFD) == -1);
        CHECK(close_range(0, ~0U, 0) == 0);
    }
    return 0;
}
