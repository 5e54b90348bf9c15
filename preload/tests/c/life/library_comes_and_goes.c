/* Libraries that allocate while they are loaded and unloaded, again and again and on many threads. */
#include "check.h"

static char path[PATH_MAX];

static void *load_and_unload(void *nothing) {
    for (int round = 0; round < 30; round++) {
        void *library = dlopen(path, RTLD_NOW | (round % 2 ? RTLD_LOCAL : RTLD_GLOBAL));
        CHECK(library != NULL);
        void *function = dlsym(library, "take"), *(*take)(void);
        CHECK(function != NULL);
        memcpy(&take, &function, sizeof take);
        void *block = take();
        CHECK(dlclose(library) == 0);
        CHECK(is_filled(block, 200, 200, 4));
        free(block);
        CHECK(dlopen("/no/such/library.so", RTLD_NOW) == NULL && dlerror() != NULL);
    }
    return nothing;
}

int main(void) {
    begin();
    snprintf(path, sizeof path, "%s/early_and_late.so", getenv("TEST_LIBRARIES"));
    load_and_unload(NULL);
    pthread_t threads[4];
    for (unsigned index = 0; index < 4; index++) threads[index] = start(load_and_unload, NULL);
    for (unsigned index = 0; index < 4; index++) join(threads[index]);
    return 0;
}
