/* A pointer to a block of a second C library, loaded by dlmopen is freed: told, left alone, and errno kept. */
#include "misuse.h"

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
    char *place = strcpy(its_malloc(100), CONTENTS);
    free_foreign(place);
    its_free(place);
    return 0;
}
