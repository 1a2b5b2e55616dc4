/* Print the microseconds of a decision on this machine, over the golden vectors. */
#include <stdlib.h>
#include <time.h>

#define main selftest
#include "selftest.c"
#undef main

int main(int argc, char **argv)
{
    const int decisions = argc > 1 ? atoi(argv[1]) : 6400;
    volatile int action;
    clock_t start;

    if (selftest())
        return 1;
    start = clock();
    for (int n = 0; n < decisions; n++)
        action = policy_act(golden_obs[n % COUNT]);
    (void)action;
    printf("%f\n", (double)(clock() - start) * 1e6 / CLOCKS_PER_SEC / decisions);
    return 0;
}
