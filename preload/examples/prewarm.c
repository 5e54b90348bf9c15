/* A block of 256 MiB whose memory is made warm before it is needed, and what is known of it afterwards.
 *
 *     cc -o prewarm preload/examples/prewarm.c $(pkg-config --cflags --libs antifreeze) && ./prewarm
 */
#include <antifreeze.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MIB = 1 << 20 };

static const size_t BLOCK_BYTES = (size_t)256 * MIB;
/* A service would go on with other work, and look later. */
static const uint64_t WAIT_NS = 20 * UINT64_C(1000000000);

static int fail(const char *what)
{
    fprintf(stderr, "prewarm: %s: %s\n", what, strerror(errno));
    return EXIT_FAILURE;
}

static long page_faults(void)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static int print_numbers(const char *when)
{
    struct antifreeze_numbers numbers;
    if (antifreeze_get_numbers(&numbers, sizeof numbers) != 0)
        return -1;
    printf("%s: %llu MiB in use, %llu MiB warm, %llu calls have taken mmap_lock for writing\n", when,
           (unsigned long long)(numbers.allocated_bytes / MIB), (unsigned long long)(numbers.warm_bytes / MIB),
           (unsigned long long)numbers.write_lock_calls);
    return 0;
}

int main(void)
{
    printf("antifreeze %s\n", antifreeze_version());
    if (print_numbers("at start") != 0)
        return fail("antifreeze_get_numbers");

    antifreeze_prewarm_request *request = antifreeze_prewarm(BLOCK_BYTES);
    if (request == NULL)
        return fail("antifreeze_prewarm");
    struct antifreeze_progress progress;
    if (antifreeze_prewarm_progress(request, WAIT_NS, &progress) != 0)
        return fail("antifreeze_prewarm_progress");
    /* Any other state than this is no error: what is warm helps, and the rest is faulted in when it is touched. */
    printf("prewarm: %s, %llu of %llu MiB are warm, %llu MiB of them by hugepages\n",
           progress.state == ANTIFREEZE_READY ? "ready" : "not all of it", (unsigned long long)(progress.warm_bytes / MIB),
           (unsigned long long)(progress.wanted_bytes / MIB), (unsigned long long)(progress.hugepage_bytes / MIB));

    char *block = malloc(BLOCK_BYTES);
    if (block == NULL)
        return fail("malloc");
    const long faults_before = page_faults();
    memset(block, 1, BLOCK_BYTES); /* finds its memory there */
    printf("filling the block took %ld page faults\n", page_faults() - faults_before);
    antifreeze_prewarm_free(request);
    if (print_numbers("with the block") != 0)
        return fail("antifreeze_get_numbers");

    free(block);
    antifreeze_purge(SIZE_MAX); /* do not wait for decay: the background thread begins at once */

    char text[8192];
    size_t length = antifreeze_stats_text(text, sizeof text);
    if (length >= sizeof text) {
        fprintf(stderr, "prewarm: the statistics need %zu bytes\n", length + 1);
        return EXIT_FAILURE;
    }
    fputs(text, stdout);
    return EXIT_SUCCESS;
}
