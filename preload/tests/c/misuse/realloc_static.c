/* A pointer in static memory is reallocated: told, left alone, and there is no memory. */
#include "misuse.h"

static char place[64] = CONTENTS;

int main(void) {
    begin();
    realloc_foreign(place);
    return 0;
}
