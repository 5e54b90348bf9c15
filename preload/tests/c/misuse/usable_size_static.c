/* The usable size of a pointer in static memory is asked for: told, and 0. */
#include "misuse.h"

static char place[64] = "untouched";

int main(void) {
    begin();
    void *pointer = announce(place);
    errno = ENOTTY;
    CHECK(malloc_usable_size(pointer) == 0);
    CHECK(errno == ENOTTY);
    CHECK(strcmp(place, "untouched") == 0);
    survive();
    return 0;
}
