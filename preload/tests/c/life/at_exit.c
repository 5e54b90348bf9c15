/* Blocks are had and freed in atexit handlers and destructors, down to the last one. */
#include "check.h"

static void *kept;
static int handlers;

static void use(void) {
    CHECK(is_filled(kept, MIB, MIB, 1));
    free(kept);
    churn(5, 500);
    kept = malloc(MIB);
    CHECK(kept != NULL);
    fill(kept, MIB, 1);
    handlers++;
}

static void *use_on_thread(void *nothing) {
    use();
    return nothing;
}

static void use_with_thread(void) {
    join(start(use_on_thread, NULL));
}

__attribute__((destructor)) static void destruct(void) {
    CHECK(handlers == 3);
    use();
}

__attribute__((destructor(101))) static void destruct_last(void) {
    CHECK(handlers == 4);
    use();
    free(kept);
    /* Had this not been reached, the answer would be another one. */
    _exit(0);
}

int main(void) {
    begin();
    kept = malloc(MIB);
    fill(kept, MIB, 1);
    CHECK(atexit(use) == 0 && atexit(use) == 0 && atexit(use_with_thread) == 0);
    exit(2);
}
