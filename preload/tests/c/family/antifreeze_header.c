/* antifreeze.h: can be included twice, before anything else. The runner has it compiled as plain C11 and C++17 as
 * well. */
#include "antifreeze.h"
#include "antifreeze.h"

#include "check.h"

int main(void) {
    begin();
    const int states[] = {ANTIFREEZE_WARMING,   ANTIFREEZE_READY,    ANTIFREEZE_TAKEN,
                          ANTIFREEZE_CANCELLED, ANTIFREEZE_EXPIRED,  ANTIFREEZE_PRESSURE,
                          ANTIFREEZE_NO_HEAD_ROOM, ANTIFREEZE_HUGEPAGES_SCARCE, ANTIFREEZE_REFUSED};
    for (int index = 0; index < 9; index++) CHECK(states[index] == index);
    CHECK(antifreeze_version() != NULL);
    return 0;
}
