/* A pointer to a block of an allocator that a library has of its own is freed: told, left alone, and errno kept. */
#include "misuse.h"

int main(void) {
    begin();
    malloc_function its_malloc = other_allocator();
    char *place = strcpy(its_malloc(100), CONTENTS);
    free_foreign(place);
    CHECK((char *)its_malloc(100) > place);
    return 0;
}
