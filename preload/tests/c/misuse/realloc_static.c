/* A pointer in static memory is reallocated: told, left alone, and there is no memory. */
#include "misuse.h"

static char place[64] = "untouched";

int main(void) {
    begin();
    void *pointer = announce(place);
    FAILS(realloc(pointer, 200), ENOMEM);
    CHECK(strcmp(place, "untouched") == 0);
    survive();
    return 0;
}
