/* So many handlers of fork before anything has asked for memory that the C library needs some for its list: it holds the
 * list's lock then, and the first block of the process must not take that. */
#include "check.h"

enum { HANDLERS = 200 };

static int calls;

static void in_child(void) { calls++; }

static void register_handlers(void) {
    for (int index = 0; index < HANDLERS; index++) pthread_atfork(NULL, NULL, in_child);
}

/* Runs before the constructors of all libraries. */
__attribute__((section(".preinit_array"), used)) static void (*early)(void) = register_handlers;

int main(void) {
    begin();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(calls == HANDLERS ? 0 : 1);
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return 0;
}
