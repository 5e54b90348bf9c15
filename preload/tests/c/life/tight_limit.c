/* 512 MiB of address space: the program starts, fills them, is told that there is no more, and goes on. */
#include <sys/resource.h>

#include "check.h"

static pthread_barrier_t all_started;

static void *work(void *seed) {
    /* A thread's stack is address space, of which the allocator takes more when it grows, and keeps it. */
    pthread_barrier_wait(&all_started);
    churn((unsigned)(uintptr_t)seed, 1000);
    return NULL;
}

int main(int count, char **arguments) {
    begin();
    if (count == 1) {
        const struct rlimit limit = {512 * MIB, 512 * MIB};
        char *const again[] = {arguments[0], (char *)"again", NULL};
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        execv("/proc/self/exe", again);
        CHECK(0);
    }
    pthread_t threads[4];
    CHECK(pthread_barrier_init(&all_started, NULL, 4) == 0);
    for (uintptr_t index = 0; index < 4; index++) threads[index] = start(work, (void *)index);
    for (unsigned index = 0; index < 4; index++) join(threads[index]);
    void *blocks[512];
    unsigned had = 0;
    for (int round = 0; round < 3; round++) {
        for (had = 0; had < 512; had++) {
            errno = 0;
            blocks[had] = malloc(MIB);
            if (blocks[had] == NULL) break;
            fill(blocks[had], MIB, had);
        }
        CHECK(had > 64 && had < 512 && errno == ENOMEM);
        FAILS(malloc(512 * MIB), ENOMEM);
        FAILS(realloc(blocks[0], 512 * MIB), ENOMEM);
        for (unsigned index = 0; index < had; index++) {
            CHECK(is_filled(blocks[index], MIB, MIB, index));
            free(blocks[index]);
        }
        churn(7, 1000);
    }
    return 0;
}
