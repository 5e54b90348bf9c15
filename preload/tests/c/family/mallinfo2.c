/* mallinfo2 counts small blocks of all threads, also of those that have ended. */
#include "check.h"

enum { COUNT = 10000, BYTES = 112 };

static void *blocks[2][COUNT];

static void *allocate(void *place) {
    for (unsigned index = 0; index < COUNT; index++) {
        ((void **)place)[index] = malloc(BYTES);
        CHECK(((void **)place)[index] != NULL);
    }
    return NULL;
}

int main(void) {
    begin();
    free(malloc(BYTES));
    size_t before = mallinfo2().uordblks;
    allocate(blocks[0]);
    join(start(allocate, blocks[1]));
    size_t with = mallinfo2().uordblks;
    CHECK(with >= before + 2 * COUNT * BYTES && with <= before + 4 * COUNT * BYTES);
    for (unsigned index = 0; index < COUNT; index++) {
        free(blocks[0][index]);
        free(blocks[1][index]);
    }
    CHECK(mallinfo2().uordblks <= before + COUNT * BYTES / 2);
    return 0;
}
