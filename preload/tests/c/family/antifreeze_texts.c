/* antifreeze.h: texts are printed as snprintf does, and a buffer that is too small is never overrun. */
#include "antifreeze.h"
#include "check.h"

static char buffer[1 << 17];

static void is_printed(size_t (*print)(char *, size_t), const char *part, size_t bytes_promised) {
    size_t length = print(buffer, sizeof buffer);
    CHECK(length > 0 && length < bytes_promised);
    CHECK(strlen(buffer) == length);
    CHECK(strstr(buffer, part) != NULL);

    /* The length may grow from call to call, as numbers do, but not by much. */
    size_t asked = print(NULL, 0);
    CHECK(asked + 200 > length && asked < length + 200);

    const size_t too_small[] = {1, 2, 10, length / 2};
    for (unsigned index = 0; index < sizeof too_small / sizeof *too_small; index++) {
        size_t bytes = too_small[index];
        memset(buffer, 0x5a, bytes + 1);
        CHECK(print(buffer, bytes) >= bytes);
        CHECK(buffer[0] == '\0' && buffer[bytes] == 0x5a);
    }
    /* Where it just fits, if the text stays as long as it was. */
    for (int round = 0;; round++) {
        CHECK(round < 1000);
        length = print(buffer, sizeof buffer);
        memset(buffer, 0x5a, length + 2);
        if (print(buffer, length + 1) != length) continue;
        CHECK(strlen(buffer) == length && buffer[length + 1] == 0x5a);
        memset(buffer, 0x5a, length + 2);
        if (print(buffer, length) != length) continue;
        CHECK(buffer[0] == '\0' && buffer[length] == 0x5a);
        break;
    }
}

int main(void) {
    begin();
    churn(1, 1000);
    is_printed(antifreeze_stats_text, "allocated", 8 << 10);
    is_printed(antifreeze_stats_json, "allocated", 32 << 10);
    is_printed(antifreeze_stats_prometheus, "# TYPE", 64 << 10);
    is_printed(antifreeze_explain, "promises:", 8 << 10);
    is_printed(antifreeze_options, "hold_budget = ", 1 << 10);
    return 0;
}
