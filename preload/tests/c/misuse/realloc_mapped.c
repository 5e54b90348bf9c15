/* A pointer to pages that the program has mapped is reallocated: told, left alone, and there is no memory. */
#include <sys/mman.h>

#include "misuse.h"

int main(void) {
    begin();
    char *place = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(place != MAP_FAILED);
    strcpy(place, "untouched");
    void *pointer = announce(place);
    FAILS(realloc(pointer, 200), ENOMEM);
    CHECK(strcmp(place, "untouched") == 0);
    survive();
    return 0;
}
