/* Maps memory over populated memory a few times, in a function that is called through others. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define BYTES (256ul << 20)
#define ACCESS (PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)

__attribute__((noinline)) int index_grow(void)
{
    char *base = mmap(0, BYTES, ACCESS, PRIVATE, -1, 0);
    if (base == MAP_FAILED || madvise(base, BYTES, MADV_NOHUGEPAGE)) return 1;
    memset(base, 1, BYTES);
    int is_refused = mmap(base, BYTES, ACCESS, PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED;
    return munmap(base, BYTES) + is_refused;
}

__attribute__((noinline)) int serve_request(int number)
{
    volatile char page[64] = {0};
    page[number % 64] = 1;
    return index_grow() + page[1] - page[1];
}

int main(void)
{
    puts("ready");
    fflush(stdout);
    char line[8];
    if (!fgets(line, sizeof(line), stdin)) return 1;
    for (int number = 0; number < 3; number++)
        if (serve_request(number)) return 1;
    puts("done");
    fflush(stdout);
    return !fgets(line, sizeof(line), stdin);
}
