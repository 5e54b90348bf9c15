/* A pointer to a block of a second C library, loaded by dlmopen is freed: told, left alone, and errno kept. */
#include "misuse.h"

typedef void *(*malloc_function)(size_t);
typedef void (*free_function)(void *);

int main(void) {
    begin();
    void *library = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    void *functions[] = {dlsym(library, "malloc"), dlsym(library, "free")};
    CHECK(functions[0] != NULL && functions[1] != NULL);
    malloc_function its_malloc;
    free_function its_free;
    memcpy(&its_malloc, &functions[0], sizeof its_malloc);
    memcpy(&its_free, &functions[1], sizeof its_free);
    char *place = its_malloc(100);
    strcpy(place, "untouched");
    void *pointer = announce(place);
    errno = ENOTTY;
    free(pointer);
    CHECK(errno == ENOTTY);
    CHECK(strcmp(place, "untouched") == 0);
    its_free(place);
    survive();
    return 0;
}
