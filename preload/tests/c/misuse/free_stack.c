/* A pointer on the stack is freed: told, left alone, and errno kept. */
#include "misuse.h"

int main(void) {
    begin();
    char place[64] = "untouched";
    void *pointer = announce(place);
    errno = ENOTTY;
    free(pointer);
    CHECK(errno == ENOTTY);
    CHECK(strcmp(place, "untouched") == 0);
    survive();
    return 0;
}
