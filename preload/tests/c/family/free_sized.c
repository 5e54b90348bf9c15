/* free_sized of C23: frees what malloc, calloc and realloc gave; null is nothing; errno is kept. */
#include "check.h"

void free_sized(void *block, size_t bytes);

int main(void) {
    begin();
    errno = ENOTTY;
    free_sized(NULL, 0);
    free_sized(NULL, 100);
    for (size_t bytes = 1; bytes < 64 * MIB; bytes = bytes * 3 + 1) {
        void *block = malloc(bytes);
        CHECK(block != NULL);
        free_sized(block, bytes);
        block = realloc(calloc(3, bytes), bytes);
        CHECK(block != NULL);
        free_sized(block, bytes);
    }
    free_sized(malloc(0), 0);
    CHECK(errno == ENOTTY);
    struct mallinfo2 before = mallinfo2();
    for (int round = 0; round < 1000; round++) free_sized(malloc(100 * KIB), 100 * KIB);
    CHECK(mallinfo2().uordblks <= before.uordblks + 10 * MIB);
    return 0;
}
