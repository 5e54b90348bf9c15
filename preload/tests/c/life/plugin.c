/* A program in C loads a plug-in in C++, which keeps the C++ runtime to itself: handlers are called, bad_alloc is thrown. */
#include <stdbool.h>

#include "check.h"

static bool asks(void *plugin, const char *name) {
    bool (*question)(void);
    void *function = dlsym(plugin, name);
    CHECK(function != NULL);
    memcpy(&question, &function, sizeof question);
    return question();
}

int main(void) {
    begin();
    char path[4096];
    CHECK(snprintf(path, sizeof path, "%s/plugin.so", getenv("TEST_LIBRARIES")) < (int)sizeof path);
    /* It is not built where there is no C++ compiler. */
    if (access(path, F_OK) != 0) return 0;
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(plugin != NULL);
    CHECK(asks(plugin, "catches_bad_alloc"));
    CHECK(asks(plugin, "calls_its_handler"));
    return 0;
}
