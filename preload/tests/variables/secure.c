/* Says whether the kernel calls this process secure, which makes the C library and ours distrust the environment. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

int main(void)
{
    free(malloc(1));
    return printf("secure: %lu\n", getauxval(AT_SECURE)) < 0;
}
