/* A pointer to pages that the program has mapped is freed: told, left alone, and errno kept. */
#include <sys/mman.h>

#include "misuse.h"

int main(void) {
    begin();
    char *place = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(place != MAP_FAILED);
    strcpy(place, "untouched");
    void *pointer = announce(place);
    errno = ENOTTY;
    free(pointer);
    CHECK(errno == ENOTTY);
    CHECK(strcmp(place, "untouched") == 0);
    survive();
    return 0;
}
