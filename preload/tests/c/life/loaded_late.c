/* The allocator is loaded by a program that runs on another one, used by its name on many threads, and "unloaded". */
#include "check.h"

static void *(*their_malloc)(size_t);
static void *(*their_realloc)(void *, size_t);
static void (*their_free)(void *);

static void find(void *library, const char *name, void *place) {
    void *function = dlsym(library, name);
    CHECK(function != NULL);
    memcpy(place, &function, sizeof function);
}

static void *work(void *seed) {
    for (unsigned round = 0; round < 2000; round++) {
        size_t bytes = (round * 7919 + (unsigned)(uintptr_t)seed) % (round % 100 == 0 ? 4 * MIB : 5000);
        unsigned char *block = their_malloc(bytes), *other = malloc(bytes);
        CHECK(block != NULL && other != NULL);
        fill(block, bytes, round);
        fill(other, bytes, round + 1);
        block = their_realloc(block, bytes + 100);
        CHECK(block != NULL && is_filled(block, bytes, bytes, round) && is_filled(other, bytes, bytes, round + 1));
        their_free(block);
        free(other);
    }
    return NULL;
}

static pthread_barrier_t unloaded;

static void *outlive(void *nothing) {
    work((void *)77);
    pthread_barrier_wait(&unloaded);
    /* The library is closed now, and this thread, which has used it, ends. */
    pthread_barrier_wait(&unloaded);
    return nothing;
}

int main(void) {
    begin();
    const int scopes[] = {RTLD_LOCAL, RTLD_GLOBAL};
    for (unsigned index = 0; index < 2; index++) {
        CHECK(pthread_barrier_init(&unloaded, NULL, 2) == 0);
        void *library = dlopen(getenv("TEST_LIBRARY"), RTLD_NOW | scopes[index]);
        if (library == NULL) dprintf(STDERR_FILENO, "%s\n", dlerror());
        CHECK(library != NULL);
        find(library, "malloc", &their_malloc);
        find(library, "realloc", &their_realloc);
        find(library, "free", &their_free);
        CHECK(their_malloc != malloc && their_free != free);
        pthread_t threads[4], late = start(outlive, NULL);
        for (uintptr_t number = 0; number < 4; number++) threads[number] = start(work, (void *)number);
        work((void *)5);
        for (unsigned number = 0; number < 4; number++) join(threads[number]);
        char *block = their_malloc(300 * MIB);
        CHECK(block != NULL);
        memset(block, 1, 300 * MIB);
        their_free(block);
        pthread_barrier_wait(&unloaded);
        CHECK(dlclose(library) == 0);
        pthread_barrier_wait(&unloaded);
        join(late);
        pid_t child = fork();
        if (child == 0) {
            churn(1, 100);
            _exit(0);
        }
        await(child);
        /* Its background thread goes on with what was freed. */
        await_resident_below(150 * MIB);
        CHECK(pthread_barrier_destroy(&unloaded) == 0);
    }
    return 0;
}
