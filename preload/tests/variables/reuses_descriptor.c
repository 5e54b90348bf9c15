/* Closes standard error, and puts a file of its own in place of each descriptor that the library may have kept. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* The library's are out of the way of low numbers, under which whoever started the program may have left some. */
enum { NUMBER_MIN = 1000, NUMBER_END = 1100 };

int main(int count, char **arguments)
{
    int replaced = 0;
    int file = count == 2 ? open(arguments[1], O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    free(malloc(1)); /* Or nothing of the static library would be linked. */
    if (file < 0 || close(STDERR_FILENO) != 0)
        return EXIT_FAILURE;
    for (int number = NUMBER_MIN; number < NUMBER_END; number++)
        if (fcntl(number, F_GETFD) != -1)
            replaced += dup2(file, number) == number;
    return replaced > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
