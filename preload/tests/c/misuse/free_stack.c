/* A pointer on the stack is freed: told, left alone, and errno kept. */
#include "misuse.h"

int main(void) {
    begin();
    char place[64] = CONTENTS;
    free_foreign(place);
    return 0;
}
