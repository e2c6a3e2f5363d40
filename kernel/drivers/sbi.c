/* SPDX-License-Identifier: MIT */
/*
 * Calls to the firmware: extension in a7, function in a6, arguments from a0 on;
 * a0 comes back as error, a1 as value, everything else as it was.
 */
#include <sbi.h>

#define EXTENSION_TIMER  0x54494d45u /* "TIME" */
#define EXTENSION_IPI    0x735049u   /* "sPI" */
#define EXTENSION_FENCES 0x52464e43u /* "RFNC" */
#define EXTENSION_HARTS  0x48534du   /* "HSM" */
#define EXTENSION_RESET  0x53525354u /* "SRST" */

#define ALL_HARTS UINT64_MAX

static int64_t
call(uint64_t extension, uint64_t function, uint64_t x, uint64_t y, uint64_t z)
{
    register uint64_t a0 __asm__("a0") = x;
    register uint64_t a1 __asm__("a1") = y;
    register uint64_t a2 __asm__("a2") = z;
    register uint64_t a6 __asm__("a6") = function;
    register uint64_t a7 __asm__("a7") = extension;

    __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
    return (int64_t)a0;
}

bool
sbi_hart_start(uint64_t hart, uint64_t entry)
{
    return call(EXTENSION_HARTS, 0, hart, entry, 0) == 0;
}

void
sbi_ipi_send(uint64_t mask, uint64_t first)
{
    (void)call(EXTENSION_IPI, 0, mask, first, 0);
}

void
sbi_remote_fence_i(void)
{
    (void)call(EXTENSION_FENCES, 0, 0, ALL_HARTS, 0);
}

void
sbi_timer_set(uint64_t when)
{
    (void)call(EXTENSION_TIMER, 0, when, 0, 0);
}

void
sbi_power_off(void)
{
    (void)call(EXTENSION_RESET, 0, 0, 0, 0);
}
