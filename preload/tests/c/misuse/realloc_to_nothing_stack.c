/* A pointer on the stack is reallocated to 0 bytes: told as the free that it is. */
#include "misuse.h"

int main(void) {
    begin();
    char place[64] = "untouched";
    void *pointer = announce(place);
    errno = ENOTTY;
    CHECK(realloc(pointer, opaque(0)) == NULL && errno == ENOTTY);
    CHECK(strcmp(place, "untouched") == 0);
    survive();
    return 0;
}
