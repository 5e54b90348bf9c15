/* Closes standard error, and puts a file of its own in place of each descriptor from 3 to 1023 that is open. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    int replaced = 0;
    int file = count == 2 ? open(arguments[1], O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    if (file < 0 || close(STDERR_FILENO) != 0)
        return EXIT_FAILURE;
    for (int number = 3; number < 1024; number++)
        if (number != file && fcntl(number, F_GETFD) != -1)
            replaced += dup2(file, number) == number;
    return replaced > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
