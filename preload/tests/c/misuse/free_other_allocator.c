/* A pointer to a block of an allocator that a library has of its own is freed: told, left alone, and errno kept. */
#include "misuse.h"

/* See library/bump.c. */
typedef void *(*malloc_function)(size_t);

int main(void) {
    begin();
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/bump.so", getenv("TEST_LIBRARIES"));
    void *library = dlopen(path, RTLD_NOW);
    CHECK(library != NULL);
    malloc_function its_malloc;
    void *function = dlsym(library, "my_malloc");
    CHECK(function != NULL);
    memcpy(&its_malloc, &function, sizeof function);
    char *place = its_malloc(100);
    strcpy(place, "untouched");
    void *pointer = announce(place);
    errno = ENOTTY;
    free(pointer);
    CHECK(errno == ENOTTY);
    CHECK(strcmp(place, "untouched") == 0 && (char *)its_malloc(100) > place);
    survive();
    return 0;
}
