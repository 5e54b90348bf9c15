/* Threads end while others free their blocks. */
#include "check.h"

enum { ROUNDS = 300, BLOCKS = 600, FREERS = 3 };

static void *blocks[BLOCKS];
static pthread_barrier_t filled, ended;

static void *make(void *nothing) {
    for (unsigned index = 0; index < BLOCKS; index++) {
        size_t bytes = index % 200 == 0 ? MIB : index % 50 == 0 ? 30000 : index % 500;
        blocks[index] = malloc(bytes);
        CHECK(blocks[index] != NULL);
        fill(blocks[index], bytes, index);
    }
    pthread_barrier_wait(&filled);
    return nothing;
}

static void *free_some(void *number) {
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&filled);
        for (unsigned index = (unsigned)(uintptr_t)number; index < BLOCKS; index += FREERS) {
            size_t bytes = index % 200 == 0 ? MIB : index % 50 == 0 ? 30000 : index % 500;
            CHECK(is_filled(blocks[index], bytes, bytes, index));
            free(blocks[index]);
        }
        pthread_barrier_wait(&ended);
    }
    return NULL;
}

int main(void) {
    begin();
    CHECK(pthread_barrier_init(&filled, NULL, FREERS + 1) == 0 && pthread_barrier_init(&ended, NULL, FREERS + 1) == 0);
    pthread_t freers[FREERS];
    for (uintptr_t index = 0; index < FREERS; index++) freers[index] = start(free_some, (void *)index);
    size_t before = 0;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t maker = start(make, NULL);
        pthread_barrier_wait(&ended);
        join(maker);
        if (round == ROUNDS / 3) before = mallinfo2().arena;
    }
    CHECK(mallinfo2().arena <= before + 64 * MIB);
    for (unsigned index = 0; index < FREERS; index++) join(freers[index]);
    return 0;
}
