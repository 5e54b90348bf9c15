/* What the programs of these tests share. A failed check says where, and ends the program with 1. */
#ifndef CHECK_H
#define CHECK_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                                 \
    do {                                                                                                 \
        if (!(condition)) {                                                                              \
            dprintf(STDERR_FILENO, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);     \
            _exit(1);                                                                                    \
        }                                                                                                \
    } while (0)

/* The call gives null and this errno. */
#define FAILS(call, number)       \
    do {                          \
        errno = 0;                \
        CHECK((call) == NULL);    \
        CHECK(errno == (number)); \
    } while (0)

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define LARGEST ((size_t)PTRDIFF_MAX)

/* Numbers and pointers that the compiler cannot reason about: it warns of what these tests are for. */
static inline size_t opaque(size_t number) {
    volatile size_t hidden = number;
    return hidden;
}

static inline void *hide(const void *pointer) {
    const void *volatile hidden = pointer;
    return (void *)hidden;
}

static inline int is_aligned(const void *pointer, size_t align_bytes) {
    return (uintptr_t)pointer % align_bytes == 0;
}

/* The byte that belongs at `index`, so that parts that moved are told apart. */
static inline unsigned char byte_at(size_t index, unsigned seed) {
    return (unsigned char)(index ^ (index >> 8) ^ (index >> 16) ^ seed);
}

/* Every how many bytes a block of this size is looked at: all of a small one. */
static inline size_t step_of(size_t bytes) {
    return bytes <= 64 * KIB ? 1 : 509;
}

static inline void fill(void *block, size_t bytes, unsigned seed) {
    unsigned char *place = (unsigned char *)block;
    for (size_t index = 0; index < bytes; index += step_of(bytes)) place[index] = byte_at(index, seed);
    if (bytes > 0) place[bytes - 1] = byte_at(bytes - 1, seed);
}

/* Whether the first `kept` bytes of what was filled as `bytes` are still there. */
static inline int is_filled(const void *block, size_t bytes, size_t kept, unsigned seed) {
    const unsigned char *place = (const unsigned char *)block;
    for (size_t index = 0; index < kept; index += step_of(bytes))
        if (place[index] != byte_at(index, seed)) return 0;
    return kept < bytes || bytes == 0 || place[bytes - 1] == byte_at(bytes - 1, seed);
}

static inline int is_zero(const void *block, size_t bytes) {
    const unsigned char *place = (const unsigned char *)block;
    for (size_t index = 0; index < bytes; index++)
        if (place[index] != 0) return 0;
    return 1;
}

/* The program runs on the malloc that the runner meant it to: TEST_MALLOC ends the name of the file that has it. */
static inline void begin(void) {
    const char *wanted = getenv("TEST_MALLOC");
    void *(*function)(size_t) = malloc;
    void *address;
    Dl_info info;
    memcpy(&address, &function, sizeof address);
    CHECK(wanted != NULL && dladdr(address, &info) != 0);
    size_t length = strlen(info.dli_fname), ending = strlen(wanted);
    CHECK(length >= ending && strcmp(info.dli_fname + length - ending, wanted) == 0);
}

/* The child ends well. */
static inline void await(pid_t child) {
    int status = -1;
    CHECK(child > 0);
    while (waitpid(child, &status, 0) < 0) CHECK(errno == EINTR);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline pthread_t start(void *(*work)(void *), void *argument) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, work, argument);
    errno = error;
    CHECK(error == 0);
    return thread;
}

static inline void join(pthread_t thread) {
    int error = pthread_join(thread, NULL);
    errno = error;
    CHECK(error == 0);
}

/* Some work with blocks of all kinds; contents are checked. */
static inline void churn(unsigned seed, int rounds) {
    enum { COUNT = 64 };
    struct { void *block; size_t bytes; unsigned seed; } slots[COUNT];
    memset(slots, 0, sizeof slots);
    for (int round = 0; round < rounds; round++) {
        seed = seed * 1103515245 + 12345;
        unsigned index = (seed >> 16) % COUNT;
        CHECK(is_filled(slots[index].block, slots[index].bytes, slots[index].bytes, slots[index].seed));
        free(slots[index].block);
        seed = seed * 1103515245 + 12345;
        size_t bytes = (size_t)(seed >> 8) % ((size_t)16 << (seed >> 28));
        slots[index].block = malloc(bytes);
        CHECK(slots[index].block != NULL);
        slots[index].bytes = bytes;
        slots[index].seed = seed;
        fill(slots[index].block, bytes, seed);
    }
    for (unsigned index = 0; index < COUNT; index++) {
        CHECK(is_filled(slots[index].block, slots[index].bytes, slots[index].bytes, slots[index].seed));
        free(slots[index].block);
    }
}

/* Bytes of memory that the process has. Allocates nothing. */
static inline size_t resident_bytes(void) {
    char text[128] = "";
    unsigned long pages = 0;
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0);
    CHECK(read(file, text, sizeof text - 1) > 0);
    close(file);
    CHECK(sscanf(text, "%*u %lu", &pages) == 1);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Waits until the process has less memory than that. A minute is far more than it takes. */
static inline void await_resident_below(size_t bytes) {
    for (int round = 0; resident_bytes() >= bytes; round++) {
        CHECK(round < 6000);
        usleep(10000);
    }
}

#endif
