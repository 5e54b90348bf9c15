// antifreeze.h in C++: can be included twice, before anything else, and its functions are found.
#include "antifreeze.h"
#include "antifreeze.h"

#include "check.h"

static_assert(sizeof(antifreeze_numbers) == 11 * sizeof(uint64_t), "as in C");
static_assert(sizeof(antifreeze_progress) == 40, "as in C");

int main() {
    begin();
    antifreeze_numbers numbers = {};
    delete[] static_cast<char *>(hide(new char[100]));
    CHECK(antifreeze_get_numbers(&numbers, sizeof numbers) == 0 && numbers.reserved_bytes > 0);
    CHECK(antifreeze_version()[0] != '\0');
    return 0;
}
