/* A pointer in static memory is freed: told, left alone, and errno kept. */
#include "misuse.h"

static char place[64] = CONTENTS;

int main(void) {
    begin();
    free_foreign(place);
    return 0;
}
