/* antifreeze.h: a program that lends its own thread to give memory back; without that option a tick does nothing. */
#include "antifreeze.h"
#include "check.h"

int main(int count, char **arguments) {
    (void)count;
    begin();
    if (getenv("ANTIFREEZE_GOVERNOR") == NULL) {
        free(malloc(64 * MIB));
        CHECK(antifreeze_tick() == -1);
        CHECK(setenv("ANTIFREEZE_GOVERNOR", "tick", 1) == 0);
        execv("/proc/self/exe", arguments);
        CHECK(0);
    }
    char *block = malloc(256 * MIB);
    CHECK(block != NULL);
    memset(block, 1, 256 * MIB);
    free(block);
    antifreeze_purge(SIZE_MAX);
    CHECK(resident_bytes() >= 256 * MIB);
    for (int round = 0; resident_bytes() > 128 * MIB; round++) {
        CHECK(round < 20000);
        int64_t next_ns = antifreeze_tick();
        CHECK(next_ns >= -1);
        usleep(next_ns > 1000000 || next_ns < 0 ? 1000 : (useconds_t)(next_ns / 1000));
    }
    return 0;
}
