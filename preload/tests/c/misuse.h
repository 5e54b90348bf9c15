/* What the programs that misuse the allocator share. */
#ifndef MISUSE_H
#define MISUSE_H

#include <sys/resource.h>

#include "check.h"

/* Says which pointer the misuse is about; the runner looks for it in the line that must come. */
static inline void *announce(const void *pointer) {
    const struct rlimit none = {0, 0};
    CHECK(setrlimit(RLIMIT_CORE, &none) == 0);
    CHECK(dprintf(STDOUT_FILENO, "%p\n", pointer) > 0);
    return hide(pointer);
}

/* A block that was written to. */
static inline void *block_of(size_t bytes) {
    void *block = malloc(bytes);
    CHECK(block != NULL);
    memset(block, 0xa5, bytes < 4096 ? bytes : 4096);
    return block;
}

/* Blocks can be had as before. */
static inline void survive(void) {
    churn(1, 1000);
}

#endif
