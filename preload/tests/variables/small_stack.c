/* A signal on a thread with the smallest stack there is, after some of it was used; then one on the main thread. */
#define _GNU_SOURCE /* PTHREAD_STACK_MIN of this machine, whose signals may need more than others' */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

static void *raise_there(void *unused)
{
    (void)unused;
    return raise(SIGUSR2) == 0 ? NULL : (void *)1;
}

int main(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    void *result;
    free(malloc(1));
    if (pthread_attr_init(&attributes) != 0 ||
        pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN) != 0 ||
        pthread_create(&thread, &attributes, raise_there, NULL) != 0 || pthread_join(thread, &result) != 0)
        return EXIT_FAILURE;
    return result == NULL && raise(SIGUSR2) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
