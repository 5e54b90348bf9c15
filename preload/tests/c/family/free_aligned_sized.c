/* free_aligned_sized of C23: frees what aligned_alloc gave; null is nothing; errno is kept. */
#include "check.h"

void free_aligned_sized(void *block, size_t align_bytes, size_t bytes);

int main(void) {
    begin();
    errno = ENOTTY;
    free_aligned_sized(NULL, 0, 0);
    free_aligned_sized(NULL, 64, 100);
    for (size_t align_bytes = 1; align_bytes <= 4 * MIB; align_bytes *= 2) {
        for (size_t bytes = 1; bytes <= 64 * MIB; bytes *= 64) {
            void *block = aligned_alloc(align_bytes, bytes);
            CHECK(block != NULL);
            free_aligned_sized(block, align_bytes, bytes);
        }
    }
    CHECK(errno == ENOTTY);
    struct mallinfo2 before = mallinfo2();
    for (int round = 0; round < 1000; round++) free_aligned_sized(aligned_alloc(4096, 100 * KIB), 4096, 100 * KIB);
    CHECK(mallinfo2().uordblks <= before.uordblks + 10 * MIB);
    return 0;
}
