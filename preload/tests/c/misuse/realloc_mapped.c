/* A pointer to pages that the program has mapped is reallocated: told, left alone, and there is no memory. */
#include "misuse.h"

int main(void) {
    begin();
    realloc_foreign(mapped());
    return 0;
}
