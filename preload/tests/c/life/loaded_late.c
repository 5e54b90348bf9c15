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

/* Every way to a block and back: all of them are of the one allocator, though the program's names are another's. A block
 * that is not its own would be reported. */
static void use_all_names(void *library) {
    void *(*calloc_)(size_t, size_t), *(*reallocarray_)(void *, size_t, size_t), *(*memalign_)(size_t, size_t);
    void *(*aligned_alloc_)(size_t, size_t), *(*valloc_)(size_t), *(*pvalloc_)(size_t);
    int (*posix_memalign_)(void **, size_t, size_t);
    void (*cfree_)(void *), (*free_sized_)(void *, size_t), (*free_aligned_sized_)(void *, size_t, size_t);
    void (*delete_)(void *), (*delete_sized)(void *, size_t);
    void *(*new_)(size_t);
    size_t (*usable_size)(void *);
    find(library, "calloc", &calloc_);
    find(library, "reallocarray", &reallocarray_);
    find(library, "memalign", &memalign_);
    find(library, "aligned_alloc", &aligned_alloc_);
    find(library, "valloc", &valloc_);
    find(library, "pvalloc", &pvalloc_);
    find(library, "posix_memalign", &posix_memalign_);
    find(library, "cfree", &cfree_);
    find(library, "free_sized", &free_sized_);
    find(library, "free_aligned_sized", &free_aligned_sized_);
    find(library, "_Znwm", &new_);
    find(library, "_ZdlPv", &delete_);
    find(library, "_ZdlPvm", &delete_sized);
    find(library, "malloc_usable_size", &usable_size);
    void *aligned = NULL;
    CHECK(posix_memalign_(&aligned, 64, 100) == 0);
    void *blocks[] = {calloc_(10, 10),    their_realloc(NULL, 100), reallocarray_(NULL, 10, 10), memalign_(64, 100),
                      aligned_alloc_(64, 100), valloc_(100),        pvalloc_(100),               aligned,
                      new_(100),          new_(100)};
    for (unsigned index = 0; index < sizeof blocks / sizeof *blocks; index++)
        CHECK(blocks[index] != NULL && usable_size(blocks[index]) >= 100);
    cfree_(blocks[0]);
    CHECK(their_realloc(blocks[1], 0) == NULL);
    free_sized_(blocks[2], 100);
    free_aligned_sized_(blocks[3], 64, 100);
    for (unsigned index = 4; index < 8; index++) their_free(blocks[index]);
    delete_(blocks[8]);
    delete_sized(blocks[9], 100);
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
        use_all_names(library);
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
