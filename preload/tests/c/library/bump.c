/* An allocator that is embedded in a library: it hands out parts of one array and takes nothing back. */
#include <stddef.h>

static _Alignas(16) char memory[1 << 16];
static size_t used;

void *my_malloc(size_t bytes);

void *my_malloc(size_t bytes) {
    size_t begin = used;
    used += (bytes + 15) / 16 * 16;
    return used <= sizeof memory ? memory + begin : NULL;
}
