/* malloc_trim: 1 if there is memory to give back, and then it is given back soon. */
#include "check.h"

int main(void) {
    begin();
    enum { COUNT = 200 };
    void *blocks[COUNT];
    for (unsigned index = 0; index < COUNT; index++) {
        blocks[index] = malloc(MIB);
        CHECK(blocks[index] != NULL);
        memset(blocks[index], 1, MIB);
    }
    size_t full = resident_bytes();
    CHECK(full >= COUNT * MIB);
    for (unsigned index = 0; index < COUNT; index++) free(blocks[index]);
    CHECK(malloc_trim(0) == 1);
    /* Nothing is kept back but what the allocator keeps warm for later. A minute is far more than it takes. */
    for (int round = 0; resident_bytes() > full - (COUNT - 60) * MIB; round++) {
        CHECK(round < 6000);
        usleep(10000);
    }
    CHECK(malloc_trim(opaque(SIZE_MAX)) >= 0);
    churn(3, 1000);
    return 0;
}
