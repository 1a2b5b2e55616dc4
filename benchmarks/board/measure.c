/* Run the self-test on an emulated board, then measure the stack and the instructions of a decision.
 *
 * With QEMU's option -icount shift=0, each instruction takes 1 ns of virtual time. SysTick counts the cycles of a clock
 * of 25 MHz in this time, so that one tick is 40 instructions. */
#include <stdint.h>
#include <stdlib.h>

#define main selftest
#include "selftest.c"
#undef main

#define SYSTICK ((volatile uint32_t *)0xE000E010)
#define PAINT 0xA5A5A5A5u
#define LOOPS 1000000u
#define INSTRUCTIONS_PER_TICK 40.0

void initialise_monitor_handles(void);

static double instructions_since(uint32_t start)
{
    return ((start - SYSTICK[2]) & 0xFFFFFF) * INSTRUCTIONS_PER_TICK;
}

/* Fill unused stack with a pattern, decide, and return how much of the pattern was overwritten, in bytes. */
__attribute__((noinline)) static int stack_of_decision(const float *obs)
{
    volatile uint32_t *sp;
    int words = 4096;

    __asm volatile("mov %0, sp" : "=r"(sp));
    for (int i = 1; i <= words; i++)
        sp[-i] = PAINT;
    policy_act(obs);
    while (words > 0 && sp[-words] == PAINT)
        words--;
    return 4 * words;
}

int main(void)
{
    uint32_t start, loops = LOOPS;
    volatile int action;
    int failed;

    initialise_monitor_handles();
    failed = selftest();
    SYSTICK[1] = 0xFFFFFF; /* reload value */
    SYSTICK[0] = 5;        /* count cycles of the processor, without interrupts */
    SYSTICK[2] = 0;        /* restart */

    start = SYSTICK[2];
    __asm volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(loops) : : "cc");
    printf("instructions of a loop of 2: %.4f\n", instructions_since(start) / LOOPS);

    start = SYSTICK[2];
    for (int n = 0; n < COUNT; n++)
        action = policy_act(golden_obs[n]);
    printf("instructions per decision: %.0f\n", instructions_since(start) / COUNT);
    (void)action;
    printf("stack: %d\n", stack_of_decision(golden_obs[0]));
    exit(failed);
}
