/* Destructors of thread keys allocate and free, before and after the allocator's own, in all iterations that the C
 * library makes. No heap is lost, also not by destructors that allocate in the last one, after which nobody is called. */
#include "check.h"

enum { KEYS = 6, THREADS = 300, AT_ONCE = 20 };

struct value {
    int rounds;
    void *block;
};

static pthread_key_t keys[KEYS];
static int destroyed;

static void destroy(void *argument) {
    struct value *value = argument;
    CHECK(is_filled(value->block, 1000, 1000, value->rounds));
    free(value->block);
    churn((unsigned)value->rounds, 20);
    __atomic_add_fetch(&destroyed, 1, __ATOMIC_RELAXED);
    if (++value->rounds == PTHREAD_DESTRUCTOR_ITERATIONS) {
        free(value);
        return;
    }
    value->block = malloc(1000);
    CHECK(value->block != NULL);
    fill(value->block, 1000, value->rounds);
    /* Once more, in the next iteration. */
    for (unsigned index = 0; index < KEYS; index++) {
        if (pthread_getspecific(keys[index]) == NULL) {
            CHECK(pthread_setspecific(keys[index], value) == 0);
            return;
        }
    }
    CHECK(0);
}

static void *work(void *nothing) {
    churn(9, 50);
    for (unsigned index = 0; index < KEYS; index++) {
        struct value *value = malloc(sizeof *value);
        CHECK(value != NULL);
        value->rounds = 0;
        value->block = malloc(1000);
        CHECK(value->block != NULL);
        fill(value->block, 1000, 0);
        CHECK(pthread_setspecific(keys[index], value) == 0);
    }
    return nothing;
}

static void run_threads(int count) {
    pthread_t threads[AT_ONCE];
    for (int done = 0; done < count; done += AT_ONCE) {
        for (int index = 0; index < AT_ONCE; index++) threads[index] = start(work, NULL);
        for (int index = 0; index < AT_ONCE; index++) join(threads[index]);
    }
}

/* Half of the keys are made before the allocator makes its own, which it does at the first block. */
static void make_first_keys(void) {
    for (unsigned index = 0; index < KEYS / 2; index++) CHECK(pthread_key_create(&keys[index], destroy) == 0);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = make_first_keys;

int main(void) {
    begin();
    free(malloc(1));
    for (unsigned index = KEYS / 2; index < KEYS; index++) CHECK(pthread_key_create(&keys[index], destroy) == 0);
    run_threads(THREADS);
    struct mallinfo2 before = mallinfo2();
    run_threads(THREADS);
    struct mallinfo2 after = mallinfo2();
    CHECK(destroyed == 2 * THREADS * KEYS * PTHREAD_DESTRUCTOR_ITERATIONS);
    CHECK(after.uordblks <= before.uordblks + MIB);
    CHECK(after.arena <= before.arena + 256 * MIB);
    return 0;
}
