/* The background thread is started by requests for memory, never by free: a C library frees with locks held that
 * starting a thread needs. This program stands between the allocator and pthread_create. */
#include "check.h"

typedef int create_function(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static __thread int is_in_free;
static int started, started_in_free;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *), void *argument) {
    static create_function *next;
    if (next == NULL) {
        void *function = dlsym(RTLD_NEXT, "pthread_create");
        CHECK(function != NULL);
        memcpy(&next, &function, sizeof next);
    }
    started++;
    started_in_free += is_in_free;
    return next(thread, attributes, work, argument);
}

static void free_watched(void *block) {
    is_in_free = 1;
    free(block);
    is_in_free = 0;
}

static void use(size_t bytes) {
    char *blocks[40];
    for (unsigned index = 0; index < 40; index++) {
        blocks[index] = malloc(bytes);
        CHECK(blocks[index] != NULL);
        memset(blocks[index], 1, bytes);
    }
    for (unsigned index = 0; index < 40; index++) free_watched(blocks[index]);
}

int main(void) {
    begin();
    use(100);
    use(100 * KIB);
    use(8 * MIB);
    use(40 * MIB);
    CHECK(started_in_free == 0 && started == 1);
    /* Nor in a child, which has no such thread at first. */
    pid_t child = fork();
    if (child == 0) {
        started = 0;
        use(8 * MIB);
        CHECK(started_in_free == 0);
        /* What was freed is noted by the next request. */
        free_watched(malloc(1));
        free_watched(malloc(MIB));
        CHECK(started_in_free == 0 && started == 1);
        await_resident_below(150 * MIB);
        _exit(0);
    }
    await(child);
    return 0;
}
