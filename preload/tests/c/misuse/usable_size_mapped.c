/* The usable size of a pointer to pages that the program has mapped is asked for: told, and 0. */
#include "misuse.h"

int main(void) {
    begin();
    usable_size_foreign(mapped());
    return 0;
}
