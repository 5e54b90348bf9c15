/* The usable size of a pointer on the stack is asked for: told, and 0. */
#include "misuse.h"

int main(void) {
    begin();
    char place[64] = CONTENTS;
    usable_size_foreign(place);
    return 0;
}
