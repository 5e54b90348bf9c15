/* What the programs that misuse the allocator share. */
#ifndef MISUSE_H
#define MISUSE_H

#include <sys/mman.h>
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

/* What lies in memory that is not the allocator's, and must be there afterwards. */
#define CONTENTS "untouched"

/* Memory that the program has mapped. */
static inline char *mapped(void) {
    char *place = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(place != MAP_FAILED);
    return strcpy(place, CONTENTS);
}

typedef void *(*malloc_function)(size_t);

/* The allocator that a library has of its own: see library/bump.c. */
static inline malloc_function other_allocator(void) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/bump.so", getenv("TEST_LIBRARIES"));
    void *library = dlopen(path, RTLD_NOW);
    CHECK(library != NULL);
    malloc_function its_malloc;
    void *function = dlsym(library, "my_malloc");
    CHECK(function != NULL);
    memcpy(&its_malloc, &function, sizeof function);
    return its_malloc;
}

/* What is not the allocator's is freed: told, left alone, and errno kept. */
static inline void free_foreign(char *place) {
    void *pointer = announce(place);
    errno = ENOTTY;
    free(pointer);
    CHECK(errno == ENOTTY);
    CHECK(strcmp(place, CONTENTS) == 0);
    survive();
}

/* It is reallocated: told, left alone, and there is no memory. */
static inline void realloc_foreign(char *place) {
    void *pointer = announce(place);
    FAILS(realloc(pointer, 200), ENOMEM);
    CHECK(strcmp(place, CONTENTS) == 0);
    survive();
}

/* Its usable size is asked for: told, and 0. */
static inline void usable_size_foreign(char *place) {
    void *pointer = announce(place);
    errno = ENOTTY;
    CHECK(malloc_usable_size(pointer) == 0);
    CHECK(errno == ENOTTY);
    CHECK(strcmp(place, CONTENTS) == 0);
    survive();
}

#endif
