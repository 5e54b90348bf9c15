/* A pointer on the stack is reallocated: told, left alone, and there is no memory. */
#include "misuse.h"

int main(void) {
    begin();
    char place[64] = CONTENTS;
    realloc_foreign(place);
    return 0;
}
