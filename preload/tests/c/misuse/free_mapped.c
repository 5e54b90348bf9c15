/* A pointer to pages that the program has mapped is freed: told, left alone, and errno kept. */
#include "misuse.h"

int main(void) {
    begin();
    free_foreign(mapped());
    return 0;
}
