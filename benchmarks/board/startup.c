/* Vector table and reset of the emulated boards. */
#include <stdint.h>

extern uint32_t data_start[], data_end[], data_load[], bss_start[], bss_end[], stack_top[];

int main(void);
void reset(void);

void reset(void)
{
    for (uint32_t *to = data_start, *from = data_load; to < data_end; to++, from++)
        *to = *from;
    for (uint32_t *to = bss_start; to < bss_end; to++)
        *to = 0;
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: enable the floating-point unit */
    __asm volatile("dsb\nisb");
#endif
    main();
    for (;;)
        ;
}

static void fault(void)
{
    for (;;)
        ;
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault,
};
