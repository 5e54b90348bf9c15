/* cfree: free, by its name of old, which glibc's headers no longer have. */
#include "check.h"

void cfree(void *block);

int main(void) {
    begin();
    errno = ENOTTY;
    cfree(NULL);
    for (size_t bytes = 1; bytes < 64 * MIB; bytes *= 4) {
        void *block = calloc(1, bytes);
        CHECK(block != NULL);
        cfree(block);
    }
    CHECK(errno == ENOTTY);
    struct mallinfo2 before = mallinfo2();
    for (int round = 0; round < 1000; round++) cfree(malloc(100 * KIB));
    CHECK(mallinfo2().uordblks <= before.uordblks + 10 * MIB);
    return 0;
}
