/* mallinfo and mallinfo2: what is in use rises and falls with what the program takes, and an int is enough or full. */
#include "check.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static int is_between(size_t value, size_t least, size_t most) {
    return value >= least && value <= most;
}

int main(void) {
    begin();
    void *keeper = malloc(1);
    struct mallinfo2 before = mallinfo2();
    CHECK(before.uordblks > 0);

    char *block = malloc(100 * MIB);
    CHECK(block != NULL);
    memset(block, 1, 100 * MIB);
    struct mallinfo2 with = mallinfo2();
    CHECK(is_between(with.uordblks - before.uordblks, 100 * MIB, 104 * MIB));
    CHECK(with.arena >= with.uordblks && with.arena == with.uordblks + with.fordblks);
    CHECK(with.smblks == 0 && with.usmblks == 0 && with.fsmblks == 0 && with.hblks == 0 && with.hblkhd == 0);

    struct mallinfo small = mallinfo();
    CHECK(is_between((size_t)small.uordblks - before.uordblks, 100 * MIB, 104 * MIB));
    CHECK(small.arena > 0 && small.fordblks >= 0 && small.keepcost >= 0);

    free(block);
    struct mallinfo2 after = mallinfo2();
    CHECK(after.uordblks <= before.uordblks + 4 * MIB);
    CHECK(after.keepcost <= after.fordblks);

    /* Never touched, so it takes no memory; more than an int holds. */
    block = malloc(5 * GIB);
    if (block != NULL) {
        CHECK(mallinfo2().uordblks >= 5 * GIB);
        CHECK(mallinfo().uordblks == INT_MAX);
    }
    free(block);
    free(keeper);
    return 0;
}
