/* 2000 threads come and go, some leaving blocks to others: memory does not grow with their number. */
#include "check.h"

enum { THREADS = 2000, AT_ONCE = 40, BLOCKS = 50 };

static void *left[THREADS][BLOCKS];

static void *work(void *number) {
    uintptr_t own = (uintptr_t)number;
    free(malloc(own * 37));
    for (unsigned index = 0; index < BLOCKS; index++) {
        left[own][index] = malloc(index * 40 + 1);
        CHECK(left[own][index] != NULL);
        fill(left[own][index], index * 40 + 1, (unsigned)own);
    }
    /* Those of a thread that has ended. */
    if (own >= AT_ONCE) {
        for (unsigned index = 0; index < BLOCKS; index++) {
            CHECK(is_filled(left[own - AT_ONCE][index], index * 40 + 1, index * 40 + 1, (unsigned)(own - AT_ONCE)));
            free(left[own - AT_ONCE][index]);
        }
    }
    return NULL;
}

static void run(uintptr_t from, uintptr_t to) {
    pthread_t threads[AT_ONCE];
    for (; from < to; from += AT_ONCE) {
        for (uintptr_t index = 0; index < AT_ONCE; index++) threads[index] = start(work, (void *)(from + index));
        for (unsigned index = 0; index < AT_ONCE; index++) join(threads[index]);
    }
}

int main(void) {
    begin();
    run(0, 400);
    struct mallinfo2 before = mallinfo2();
    run(400, THREADS);
    struct mallinfo2 after = mallinfo2();
    CHECK(after.uordblks <= before.uordblks + 4 * MIB);
    /* A heap that is lost takes some MiB with it: 1600 of them would be seen. */
    CHECK(after.arena <= before.arena + 256 * MIB);
    return 0;
}
