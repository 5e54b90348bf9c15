/* A pointer to a block of an allocator that a library has of its own is reallocated: told, left alone, and there is
 * no memory. */
#include "misuse.h"

int main(void) {
    begin();
    malloc_function its_malloc = other_allocator();
    char *place = strcpy(its_malloc(100), CONTENTS);
    realloc_foreign(place);
    CHECK((char *)its_malloc(100) > place);
    return 0;
}
