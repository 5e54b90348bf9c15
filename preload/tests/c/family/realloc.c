/* realloc: contents are kept between any two sizes; 0 frees; a failure leaves the block as it was. */
#include "check.h"

static const size_t sizes[] = {
    1,         16,        17,  100,     1000,     4096,     5000,     64 * KIB, 65 * KIB,
    512 * KIB, 513 * KIB, MIB, 3 * MIB, 31 * MIB, 32 * MIB, 33 * MIB, 100 * MIB};
enum { COUNT = sizeof sizes / sizeof *sizes };

static void *resize(void *block, size_t from, size_t to, unsigned seed) {
    block = realloc(block, to);
    CHECK(block != NULL && is_aligned(block, _Alignof(max_align_t)));
    CHECK(malloc_usable_size(block) >= to);
    CHECK(is_filled(block, from, from < to ? from : to, seed));
    return block;
}

int main(void) {
    begin();
    /* Every size to every other, through a neighbour that must not suffer. */
    for (unsigned from = 0; from < COUNT; from++) {
        for (unsigned to = 0; to < COUNT; to++) {
            if (sizes[from] > 4 * MIB && sizes[to] > 4 * MIB && from != to + 1 && to != from + 1) continue;
            void *block = malloc(sizes[from]), *neighbour = malloc(sizes[from]);
            CHECK(block != NULL && neighbour != NULL);
            fill(block, sizes[from], from + 1);
            fill(neighbour, sizes[from], from + 2);
            block = resize(block, sizes[from], sizes[to], from + 1);
            fill(block, sizes[to], from + 3);
            CHECK(is_filled(neighbour, sizes[from], sizes[from], from + 2));
            CHECK(is_filled(block, sizes[to], sizes[to], from + 3));
            free(block);
            free(neighbour);
        }
    }
    /* All the way up and down with one block, in steps. */
    size_t bytes = 16;
    void *block = malloc(bytes);
    fill(block, bytes, 7);
    while (bytes < 100 * MIB) {
        size_t more = bytes + bytes / 2 + 3;
        block = resize(block, bytes, more, 7);
        fill(block, more, 7);
        bytes = more;
    }
    while (bytes > 16) {
        size_t less = bytes / 2;
        block = resize(block, bytes, less, 7);
        fill(block, less, 7);
        bytes = less;
    }
    free(block);

    block = realloc(NULL, 100);
    CHECK(block != NULL);
    errno = E2BIG;
    CHECK(realloc(block, opaque(0)) == NULL && errno == E2BIG);
    block = realloc(NULL, opaque(0));
    CHECK(block != NULL);
    free(block);

    for (unsigned from = 0; from < COUNT; from++) {
        const size_t too_large[] = {LARGEST - 15, LARGEST, LARGEST + 1, SIZE_MAX};
        block = malloc(sizes[from]);
        fill(block, sizes[from], 9);
        for (unsigned index = 0; index < sizeof too_large / sizeof *too_large; index++)
            FAILS(realloc(hide(block), opaque(too_large[index])), ENOMEM);
        CHECK(is_filled(block, sizes[from], sizes[from], 9));
        free(block);
    }
    /* An aligned block may lose its alignment, not its contents. */
    block = aligned_alloc(64 * KIB, 64 * KIB);
    CHECK(block != NULL);
    fill(block, 64 * KIB, 11);
    block = resize(block, 64 * KIB, 3 * MIB, 11);
    free(block);
    return 0;
}
