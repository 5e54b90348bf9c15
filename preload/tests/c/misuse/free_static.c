/* A pointer in static memory is freed: told, left alone, and errno kept. */
#include "misuse.h"

static char place[64] = "untouched";

int main(void) {
    begin();
    void *pointer = announce(place);
    errno = ENOTTY;
    free(pointer);
    CHECK(errno == ENOTTY);
    CHECK(strcmp(place, "untouched") == 0);
    survive();
    return 0;
}
