/* A pointer to a block that the dynamic loader had before there was any malloc is freed: told, left alone, and errno
 * kept. */
#include <link.h>

#include "misuse.h"

int main(void) {
    begin();
    /* The names of libraries that are loaded with the program are copied by the loader. */
    struct link_map *map = NULL;
    CHECK(dlinfo(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), RTLD_DI_LINKMAP, &map) == 0);
    char *place = map->l_name;
    CHECK(strstr(place, "libc.so.6") != NULL);
    void *pointer = announce(place);
    errno = ENOTTY;
    free(pointer);
    CHECK(errno == ENOTTY);
    CHECK(strstr(place, "libc.so.6") != NULL);
    survive();
    return 0;
}
