/* The usable size of a pointer in static memory is asked for: told, and 0. */
#include "misuse.h"

static char place[64] = CONTENTS;

int main(void) {
    begin();
    usable_size_foreign(place);
    return 0;
}
