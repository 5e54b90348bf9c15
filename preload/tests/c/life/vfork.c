/* A child of vfork runs in its parent's memory: it may use blocks before exec or _exit, and starts no thread there. */
#include "check.h"

static const char *const nothing_to_do[] = {"/bin/true", NULL};

/* A function of its own: vfork returns twice. */
__attribute__((noinline)) static void spawn(int does_exec, size_t bytes) {
    pid_t child = vfork();
    if (child == 0) {
        char *block = malloc(bytes);
        if (block == NULL) _exit(1);
        memset(block, 1, bytes);
        free(block);
        if (does_exec) execv(nothing_to_do[0], (char *const *)nothing_to_do);
        _exit(does_exec);
    }
    await(child);
}

static void *spawn_many(void *nothing) {
    for (int round = 0; round < 20; round++) {
        churn(round, 100);
        spawn(round % 2, 1000);
    }
    return nothing;
}

int main(void) {
    begin();
    /* The first memory that is freed at all is freed there. */
    spawn(0, 300 * MIB);
    spawn(1, 300 * MIB);
    pthread_t threads[4];
    for (unsigned index = 0; index < 4; index++) threads[index] = start(spawn_many, NULL);
    for (unsigned index = 0; index < 4; index++) join(threads[index]);
    free(malloc(64 * MIB));
    await_resident_below(150 * MIB);
    return 0;
}
