/* malloc_info: XML to a stream; other options than 0, and a stream that cannot be written, are refused. */
#include "check.h"

int main(void) {
    begin();
    char *text = NULL;
    size_t length = 0;
    void *block = malloc(64 * MIB);
    FILE *stream = open_memstream(&text, &length);
    CHECK(stream != NULL && block != NULL);
    CHECK(malloc_info(0, stream) == 0);
    CHECK(fclose(stream) == 0);
    CHECK(strncmp(text, "<malloc version=\"1\">\n", 21) == 0);
    CHECK(length > 10 && strcmp(text + length - 10, "</malloc>\n") == 0);
    unsigned long long allocated = 0;
    const char *line = strstr(text, "<total type=\"allocated\"");
    CHECK(line != NULL && sscanf(line, "<total type=\"allocated\" size=\"%llu\"/>", &allocated) == 1);
    CHECK(allocated >= 64 * MIB && allocated < 128 * MIB);
    free(text);
    free(block);

    errno = 0;
    CHECK(malloc_info(1, stdout) == -1 && errno == EINVAL);
    FILE *full = fopen("/dev/full", "w");
    CHECK(full != NULL && setvbuf(full, NULL, _IONBF, 0) == 0);
    errno = 0;
    CHECK(malloc_info(0, full) == -1 && errno == ENOSPC);
    fclose(full);
    return 0;
}
