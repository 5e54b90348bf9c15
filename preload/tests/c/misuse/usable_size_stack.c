/* The usable size of a pointer on the stack is asked for: told, and 0. */
#include "misuse.h"

int main(void) {
    begin();
    char place[64] = "untouched";
    void *pointer = announce(place);
    errno = ENOTTY;
    CHECK(malloc_usable_size(pointer) == 0);
    CHECK(errno == ENOTTY);
    CHECK(strcmp(place, "untouched") == 0);
    survive();
    return 0;
}
