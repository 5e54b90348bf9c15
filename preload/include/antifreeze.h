/* antifreeze: what a program can ask of the allocator that it runs on, beyond malloc and free.
 *
 * Link with -lantifreeze, or look these functions up with dlsym(RTLD_DEFAULT, ...) in a program that may run with
 * LD_PRELOAD=libantifreeze.so or without. All may be called from any thread at any time, also from an allocation hook;
 * none takes mmap_lock for writing. Sizes are bytes, times nanoseconds. See docs/OPERATIONS.md.
 */
#ifndef ANTIFREEZE_H
#define ANTIFREEZE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library's version, as "0.1.0". Never null. */
const char *antifreeze_version(void);

/* ---- Statistics ---- */

/* Numbers for a program; docs/STATS.md tells what to do when one is odd. The structure only ever grows at its end. */
struct antifreeze_numbers {
    uint64_t allocated_bytes;   /* in blocks that are in use */
    uint64_t active_bytes;      /* in slices and chunks that hold such blocks */
    uint64_t resident_bytes;    /* that may be backed by memory */
    uint64_t warm_bytes;        /* of these, free: to be used again or given back */
    uint64_t metadata_bytes;    /* the allocator's own records */
    uint64_t reserved_bytes;    /* address space, which is not memory */
    uint64_t write_lock_calls;  /* calls that took mmap_lock for writing since start-up */
    uint64_t over_budget_calls; /* calls that took longer than the option hold_budget */
    uint64_t purge_calls;       /* calls that gave memory back */
    uint64_t purged_bytes;      /* bytes that they covered */
    uint64_t backlog_bytes;     /* due to be given back, and not yet */
};

/* Fills in `*numbers`, of which the program's header knows `bytes` (sizeof *numbers); what the library does not know is
 * zero. 0; or -1 with errno EINVAL for null or less than 8 bytes.
 * Cost: about a millisecond for each GiB of small blocks. Allocates nothing; allowed in a signal handler. */
int antifreeze_get_numbers(struct antifreeze_numbers *numbers, size_t bytes);

/* Texts, printed as by snprintf: into `buffer` of `bytes` with a null at the end. Gives the length of the text without
 * that null. If that is not less than `bytes`, the buffer is empty and was too small; null and 0 ask for the length. It
 * may have grown by the next call: be generous. Allocates nothing; allowed in a signal handler but for
 * antifreeze_explain. */
size_t antifreeze_stats_text(char *buffer, size_t bytes);       /* for people; 8 KiB */
size_t antifreeze_stats_json(char *buffer, size_t bytes);       /* 32 KiB */
size_t antifreeze_stats_prometheus(char *buffer, size_t bytes); /* text format 0.0.4; 64 KiB */

/* What was found on the machine, which promises hold, and what weakens the others; 8 KiB. Some 75 system calls. */
size_t antifreeze_explain(char *buffer, size_t bytes);

/* The options in force, a line each: key = value (where it came from); 1 KiB. */
size_t antifreeze_options(char *buffer, size_t bytes);

/* ---- Giving memory back ---- */

/* Asks for up to `bytes` of freed memory to be given back soon, the longest free first; SIZE_MAX asks for all. Returns at
 * once: the background thread does it, in bounded pieces. */
void antifreeze_purge(size_t bytes);

/* With ANTIFREEZE_GOVERNOR=tick: does one piece of what is due on the calling thread, and gives the time until there is
 * more; -1 if there is nothing to do until memory is freed, and always without that option. */
int64_t antifreeze_tick(void);

/* ---- Warm memory ---- */

/* A request for memory to be faulted in ahead of need. */
typedef struct antifreeze_prewarm_request antifreeze_prewarm_request;

enum antifreeze_prewarm_state {
    ANTIFREEZE_WARMING = 0,          /* being made warm, or about to be */
    ANTIFREEZE_READY = 1,            /* all of it is warm and waits to be used */
    ANTIFREEZE_TAKEN = 2,            /* a block was allocated in it; seen up to a second later */
    ANTIFREEZE_CANCELLED = 3,        /* given back: cancelled */
    ANTIFREEZE_EXPIRED = 4,          /* given back: nobody used it in the time that the option prewarm_hold gives */
    ANTIFREEZE_PRESSURE = 5,         /* stopped, and given back: memory is short */
    ANTIFREEZE_NO_HEAD_ROOM = 6,     /* stopped with what was warm by then: no head-room for more */
    ANTIFREEZE_HUGEPAGES_SCARCE = 7, /* stopped with what was warm by then: no free hugepages */
    ANTIFREEZE_REFUSED = 8           /* not begun: too many requests (16), or no address range for it */
};

struct antifreeze_progress {
    int state;               /* of enum antifreeze_prewarm_state */
    uint64_t wanted_bytes;   /* asked for, in whole chunks of 2 MiB */
    uint64_t warm_bytes;     /* warm for it */
    uint64_t faulted_bytes;  /* that this request itself has made warm */
    uint64_t hugepage_bytes; /* of these, backed by hugepages */
};

/* Has memory made warm for one block of `bytes` that the program is about to allocate: twice a table that will double.
 * Returns at once. Null if there is no memory for the request itself. To be let go of by antifreeze_prewarm_free. */
antifreeze_prewarm_request *antifreeze_prewarm(size_t bytes);

/* The same for many blocks of up to 32 MiB each, `bytes` together. */
antifreeze_prewarm_request *antifreeze_prewarm_blocks(size_t bytes);

/* How far it has come, after waiting until it is done or for at most `wait_ns`; 0 does not wait. 0; or -1 with errno
 * EINVAL for null. */
int antifreeze_prewarm_progress(const antifreeze_prewarm_request *request, uint64_t wait_ns,
                                struct antifreeze_progress *progress);

/* Takes it back: what is warm and not used yet is given back like freed memory. Null is allowed. */
void antifreeze_prewarm_cancel(const antifreeze_prewarm_request *request);

/* Lets go of it; what is warm stays so until it is used or expires. Null is allowed. */
void antifreeze_prewarm_free(antifreeze_prewarm_request *request);

#ifdef __cplusplus
}
#endif

#endif
