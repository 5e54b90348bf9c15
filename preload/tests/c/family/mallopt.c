/* mallopt: 1, as from glibc, for whatever it is asked, and blocks are as ever after it. */
#include "check.h"

int main(void) {
    begin();
    const int known[] = {M_MXFAST, M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_CHECK_ACTION, M_PERTURB,
                         M_ARENA_TEST, M_ARENA_MAX};
    for (unsigned index = 0; index < sizeof known / sizeof *known; index++) CHECK(mallopt(known[index], 1) == 1);
    CHECK(mallopt(M_MMAP_THRESHOLD, 128 * 1024) == 1);
    CHECK(mallopt(12345, 1) == 1);
    CHECK(mallopt(0, 0) == 1);
    churn(2, 5000);
    return 0;
}
