/* A pointer on the stack is reallocated: told, left alone, and there is no memory. */
#include "misuse.h"

int main(void) {
    begin();
    char place[64] = "untouched";
    void *pointer = announce(place);
    FAILS(realloc(pointer, 200), ENOMEM);
    CHECK(strcmp(place, "untouched") == 0);
    survive();
    return 0;
}
