/* Signals that interrupt malloc and free at any place. What antifreeze.h allows in a handler works in all of them;
 * blocks can be had in those that interrupt something else, as POSIX has it. */
#include <signal.h>

#include "antifreeze.h"
#include "check.h"

enum { SIGNALS = 2000, THREADS = 2, BLOCKS = 256 };

/* A thread that begins or ends may be anywhere in the C library. */
static __thread volatile int is_in_malloc = 1;
static __thread int depth;
static int handled, interrupted, is_over;
static __thread char text[16384];

static void allocate_some(void) {
    void *blocks[20];
    for (unsigned index = 0; index < 20; index++) {
        blocks[index] = malloc(index * index * 10);
        CHECK(blocks[index] != NULL);
        fill(blocks[index], index * index * 10, index);
    }
    for (unsigned index = 0; index < 20; index++) free(blocks[index]);
}

static void on_signal(int number) {
    (void)number;
    int before = errno;
    struct antifreeze_numbers numbers;
    CHECK(++depth == 1);
    CHECK(antifreeze_get_numbers(&numbers, sizeof numbers) == 0 && numbers.reserved_bytes > 0);
    if (__atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED) % 100 == 0)
        CHECK(antifreeze_stats_text(text, sizeof text) > 0);
    if (is_in_malloc)
        __atomic_add_fetch(&interrupted, 1, __ATOMIC_RELAXED);
    else
        allocate_some();
    depth--;
    errno = before;
}

/* Much of its time is spent in malloc and free. */
static void *work(void *seed) {
    unsigned number = 1 + (unsigned)(uintptr_t)seed;
    void *blocks[BLOCKS] = {NULL};
    size_t sizes[BLOCKS] = {0};
    while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
        is_in_malloc = 1;
        for (unsigned index = 0; index < BLOCKS; index++) {
            number = number * 1103515245 + 12345;
            free(blocks[index]);
            sizes[index] = (number >> 8) % (index == 0 ? 4 * MIB : 400);
            blocks[index] = malloc(sizes[index]);
        }
        is_in_malloc = 0;
        for (unsigned index = 0; index < BLOCKS; index++) {
            CHECK(blocks[index] != NULL);
            if (index > 0) memset(blocks[index], (int)index, sizes[index]);
        }
        for (unsigned index = 1; index < BLOCKS; index++) {
            const unsigned char *block = blocks[index];
            CHECK(sizes[index] == 0 || (block[0] == index && block[sizes[index] - 1] == index));
        }
    }
    is_in_malloc = 1;
    for (unsigned index = 0; index < BLOCKS; index++) free(blocks[index]);
    return NULL;
}

int main(void) {
    begin();
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t threads[THREADS];
    for (uintptr_t index = 0; index < THREADS; index++) threads[index] = start(work, (void *)index);
    /* Each is waited for, so that none is lost. */
    for (int sent = 0; sent < SIGNALS; sent++) {
        int before = __atomic_load_n(&handled, __ATOMIC_RELAXED);
        CHECK(pthread_kill(threads[sent % THREADS], SIGUSR1) == 0);
        while (__atomic_load_n(&handled, __ATOMIC_RELAXED) == before) usleep(1);
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
    for (unsigned index = 0; index < THREADS; index++) join(threads[index]);
    CHECK(interrupted > 0);
    return 0;
}
