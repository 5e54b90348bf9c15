/* antifreeze.h: requests for warm memory, from asking to letting go, and answers to wrong arguments. */
#include "antifreeze.h"
#include "check.h"

_Static_assert(sizeof(struct antifreeze_progress) == 40, "as the library has it");
_Static_assert(offsetof(struct antifreeze_progress, hugepage_bytes) == 32, "as the library has it");

static struct antifreeze_progress progress_of(antifreeze_prewarm_request *request, uint64_t wait_ns) {
    struct antifreeze_progress progress;
    memset(&progress, 0xa5, sizeof progress);
    CHECK(antifreeze_prewarm_progress(request, wait_ns, &progress) == 0);
    CHECK(progress.state >= ANTIFREEZE_WARMING && progress.state <= ANTIFREEZE_REFUSED);
    return progress;
}

static int is_stopped(int state) {
    return state == ANTIFREEZE_PRESSURE || state == ANTIFREEZE_NO_HEAD_ROOM || state == ANTIFREEZE_HUGEPAGES_SCARCE;
}

/* What becomes of it in the end: the background thread notices in its own time. A minute is far more than that. */
static int end_of(antifreeze_prewarm_request *request) {
    int state;
    for (int round = 0; (state = progress_of(request, 0).state) <= ANTIFREEZE_READY; round++) {
        CHECK(round < 6000);
        usleep(10000);
    }
    return state;
}

int main(void) {
    begin();
    const uint64_t minute_ns = 60000000000;
    /* The first thing that the program asks for at all. */
    antifreeze_prewarm_request *request = antifreeze_prewarm(64 * MIB);
    CHECK(request != NULL);
    struct antifreeze_progress progress = progress_of(request, minute_ns);
    CHECK(progress.state == ANTIFREEZE_READY || is_stopped(progress.state));
    CHECK(progress.wanted_bytes == 64 * MIB && progress.faulted_bytes <= progress.wanted_bytes);
    CHECK(progress.hugepage_bytes <= progress.faulted_bytes);
    if (progress.state == ANTIFREEZE_READY) {
        CHECK(progress.warm_bytes == 64 * MIB);
        void *block = malloc(64 * MIB);
        CHECK(block != NULL);
        CHECK(end_of(request) == ANTIFREEZE_TAKEN);
        free(block);
    }
    antifreeze_prewarm_free(request);

    /* Cancelled when it is ready, and at once, when it may be ready already: what was freed above may still be warm. */
    for (int is_ready = 1; is_ready >= 0; is_ready--) {
        request = antifreeze_prewarm(64 * MIB);
        CHECK(request != NULL);
        CHECK(!is_ready || progress_of(request, minute_ns).state != ANTIFREEZE_WARMING);
        antifreeze_prewarm_cancel(request);
        int end = end_of(request);
        CHECK(end == ANTIFREEZE_CANCELLED || is_stopped(end));
        antifreeze_prewarm_free(request);
    }

    request = antifreeze_prewarm_blocks(3 * MIB);
    CHECK(request != NULL);
    progress = progress_of(request, minute_ns);
    CHECK(progress.wanted_bytes == 4 * MIB && progress.state != ANTIFREEZE_WARMING);
    antifreeze_prewarm_free(request);

    /* No address range is that large. */
    request = antifreeze_prewarm(opaque(SIZE_MAX));
    CHECK(request != NULL && progress_of(request, minute_ns).state == ANTIFREEZE_REFUSED);

    /* More than 16 at a time are refused; those before may still count, as what they warmed is there. */
    antifreeze_prewarm_request *requests[40];
    int refused = 0;
    for (unsigned index = 0; index < 40; index++) {
        requests[index] = antifreeze_prewarm(2 * MIB);
        CHECK(requests[index] != NULL);
        refused += progress_of(requests[index], 0).state == ANTIFREEZE_REFUSED;
    }
    CHECK(refused >= 40 - 16 && refused < 40);
    for (unsigned index = 0; index < 40; index++) {
        antifreeze_prewarm_cancel(requests[index]);
        antifreeze_prewarm_free(requests[index]);
    }
    errno = 0;
    CHECK(antifreeze_prewarm_progress(request, 0, NULL) == -1 && errno == EINVAL);
    antifreeze_prewarm_free(request);
    errno = 0;
    CHECK(antifreeze_prewarm_progress(NULL, 0, &progress) == -1 && errno == EINVAL);
    antifreeze_prewarm_cancel(NULL);
    antifreeze_prewarm_free(NULL);
    return 0;
}
