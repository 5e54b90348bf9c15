/* A program of many threads forks: the child allocates, frees its parent's blocks, starts threads, and forks again. */
#include "check.h"

enum { BLOCKS = 1000, WORKERS = 2, FORKS = 4 };

static void *blocks[BLOCKS], *of_others[BLOCKS];
static int is_over;

static void *work(void *seed) {
    while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) churn((unsigned)(uintptr_t)seed, 300);
    return NULL;
}

static size_t size_of(unsigned index) {
    return index % 200 == 0 ? MIB : index == 1 ? 33 * MIB : index % 700;
}

static void *allocate_all(void *place) {
    for (unsigned index = 0; index < BLOCKS; index++) {
        void *block = malloc(size_of(index));
        CHECK(block != NULL);
        fill(block, size_of(index), index);
        ((void **)place)[index] = block;
    }
    return NULL;
}

static void free_all(void **place) {
    for (unsigned index = 0; index < BLOCKS; index++) {
        CHECK(is_filled(place[index], size_of(index), size_of(index), index));
        free(place[index]);
    }
}

static void *work_in_child(void *seed) {
    churn((unsigned)(uintptr_t)seed, 1000);
    return NULL;
}

static void child(int depth) {
    churn(depth, 500);
    free_all(blocks);
    free_all(of_others);
    pthread_t threads[3];
    for (uintptr_t index = 0; index < 3; index++) threads[index] = start(work_in_child, (void *)index);
    allocate_all(blocks);
    join(start(allocate_all, of_others));
    for (unsigned index = 0; index < 3; index++) join(threads[index]);
    if (depth < 2) {
        pid_t next = fork();
        if (next == 0) {
            child(depth + 1);
            /* Both ways to end. */
            if (depth == 1) exit(0);
            _exit(0);
        }
        await(next);
        churn(depth, 500);
    }
}

int main(void) {
    begin();
    pthread_t workers[WORKERS];
    for (uintptr_t index = 0; index < WORKERS; index++) workers[index] = start(work, (void *)index);
    allocate_all(blocks);
    join(start(allocate_all, of_others));
    for (int round = 0; round < FORKS; round++) {
        pid_t process = fork();
        if (process == 0) {
            child(0);
            _exit(0);
        }
        await(process);
    }
    /* What children did is not seen here. */
    free_all(blocks);
    free_all(of_others);
    __atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
    for (unsigned index = 0; index < WORKERS; index++) join(workers[index]);
    return 0;
}
