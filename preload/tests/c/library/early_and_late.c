/* A library that allocates when it is loaded and when it is unloaded. */
#include "check.h"

static void *block;

void *take(void);

__attribute__((constructor)) static void load(void) {
    block = malloc(100000);
    CHECK(block != NULL);
    fill(block, 100000, 3);
    churn(1, 100);
}

__attribute__((destructor)) static void unload(void) {
    CHECK(is_filled(block, 100000, 100000, 3));
    free(block);
    churn(2, 100);
}

/* A block that outlives the library. */
void *take(void) {
    static _Thread_local void *last;
    last = malloc(200);
    CHECK(last != NULL);
    fill(last, 200, 4);
    return last;
}
