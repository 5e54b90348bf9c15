/* malloc_stats: text on standard error, also without a word from the program before. */
#include "check.h"

int main(void) {
    begin();
    int ends[2], kept = dup(STDERR_FILENO);
    CHECK(kept >= 0 && pipe(ends) == 0 && dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    errno = ENOTTY;
    malloc_stats();
    int after = errno;
    dup2(kept, STDERR_FILENO);
    CHECK(after == ENOTTY);
    close(ends[1]);
    static char text[65536];
    ssize_t length = read(ends[0], text, sizeof text - 1);
    CHECK(length > 100 && text[length - 1] == '\n');
    CHECK(strstr(text, "allocated") != NULL);
    return 0;
}
