/* An odd address is freed, which nobody owns: told and left alone. */
#include "misuse.h"

int main(void) {
    begin();
    void *pointer = announce(hide((void *)(uintptr_t)0x1001));
    free(pointer);
    survive();
    return 0;
}
