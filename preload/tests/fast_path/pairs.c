/* `pairs ROUNDS` makes that many rounds of 64 blocks of 64 bytes, as tests/fast_path.rs does through GlobalAlloc. */
#include <stdlib.h>

int main(int count, char **arguments) {
    long rounds = count > 1 ? atol(arguments[1]) : 1;
    void *blocks[64];
    for (long round = 0; round < rounds; round++) {
        for (int block = 0; block < 64; block++)
            blocks[block] = malloc(64);
        __asm__ volatile("" : : "r"(blocks) : "memory");
        for (int block = 0; block < 64; block++)
            free(blocks[block]);
    }
    return 0;
}
