/* antifreeze.h: the version and the numbers, for programs with older and newer headers. */
#include "antifreeze.h"
#include "check.h"

_Static_assert(sizeof(struct antifreeze_numbers) == 11 * sizeof(uint64_t), "only grows at its end, and then knowingly");
_Static_assert(offsetof(struct antifreeze_numbers, backlog_bytes) == 80, "order is kept");

int main(void) {
    begin();
    unsigned major, minor, patch;
    CHECK(sscanf(antifreeze_version(), "%u.%u.%u", &major, &minor, &patch) == 3);

    struct antifreeze_numbers before, numbers;
    char *block = malloc(100 * MIB);
    CHECK(block != NULL);
    CHECK(antifreeze_get_numbers(&before, sizeof before) == 0);
    CHECK(before.allocated_bytes >= 100 * MIB && before.active_bytes >= before.allocated_bytes);
    CHECK(before.resident_bytes >= before.allocated_bytes && before.reserved_bytes >= before.resident_bytes);
    CHECK(before.metadata_bytes > 0 && before.write_lock_calls > 0);
    memset(block, 1, 100 * MIB);
    free(block);

    /* Each number is in its place: memory that was used and freed is purged. */
    antifreeze_purge(SIZE_MAX);
    for (int round = 0;; round++) {
        CHECK(antifreeze_get_numbers(&numbers, sizeof numbers) == 0);
        if (numbers.purge_calls > 0 && numbers.purged_bytes >= 64 * MIB) break;
        CHECK(round < 6000);
        usleep(10000);
    }
    CHECK(numbers.allocated_bytes < before.allocated_bytes - 90 * MIB);
    CHECK(numbers.purge_calls <= numbers.purged_bytes / 4096);

    /* A program of a later header: zeroes for what is not known here. */
    struct { struct antifreeze_numbers known; uint64_t unknown[5]; unsigned char beyond; } larger;
    memset(&larger, 0xa5, sizeof larger);
    CHECK(antifreeze_get_numbers(&larger.known, offsetof(__typeof__(larger), beyond)) == 0);
    CHECK(larger.known.reserved_bytes == numbers.reserved_bytes && is_zero(larger.unknown, sizeof larger.unknown));
    CHECK(larger.beyond == 0xa5);

    /* One of an earlier header: no more than it knows. */
    uint64_t earlier[3] = {7, 7, 7};
    CHECK(antifreeze_get_numbers((struct antifreeze_numbers *)hide(earlier), 16) == 0);
    CHECK(earlier[0] > 0 && earlier[0] != 7 && earlier[1] != 7 && earlier[2] == 7);
    CHECK(antifreeze_get_numbers((struct antifreeze_numbers *)hide(earlier), 8) == 0);

    for (size_t bytes = 0; bytes < 8; bytes++) {
        errno = 0;
        CHECK(antifreeze_get_numbers(&numbers, bytes) == -1 && errno == EINVAL);
    }
    errno = 0;
    CHECK(antifreeze_get_numbers(NULL, sizeof numbers) == -1 && errno == EINVAL);
    return 0;
}
