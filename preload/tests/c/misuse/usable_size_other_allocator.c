/* The usable size of a pointer to a block of an allocator that a library has of its own is asked for: told, and 0. */
#include "misuse.h"

int main(void) {
    begin();
    malloc_function its_malloc = other_allocator();
    char *place = strcpy(its_malloc(100), CONTENTS);
    usable_size_foreign(place);
    CHECK((char *)its_malloc(100) > place);
    return 0;
}
