/* Blocks are had before main: before any library's constructor, and in constructors. They are there later. */
#include "check.h"

enum { COUNT = 7 };
static const size_t sizes[COUNT] = {0, 1, 100, 40000, MIB, 33 * MIB, 64 * MIB};
static void *early[COUNT], *constructed[COUNT];

static void allocate_all(void **blocks) {
    for (unsigned index = 0; index < COUNT; index++) {
        blocks[index] = malloc(sizes[index]);
        CHECK(blocks[index] != NULL);
        fill(blocks[index], sizes[index], index);
        void *moved = realloc(calloc(1, 100), sizes[index] + 1);
        CHECK(moved != NULL);
        free(moved);
    }
}

/* Called before libraries are initialised, so nothing of the C library but what it promises then is used. */
static void before_all(void) {
    allocate_all(early);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = before_all;

__attribute__((constructor(101))) static void construct(void) {
    CHECK(early[0] != NULL);
    allocate_all(constructed);
}

int main(void) {
    begin();
    for (unsigned index = 0; index < COUNT; index++) {
        CHECK(is_filled(early[index], sizes[index], sizes[index], index));
        CHECK(is_filled(constructed[index], sizes[index], sizes[index], index));
        free(early[index]);
        free(constructed[index]);
    }
    churn(1, 1000);
    return 0;
}
