/* SPDX-License-Identifier: MIT */
/*
 * PSCI: the firmware's calls to start CPUs and to power the machine off.
 * The device tree says by which instruction.
 */
#include <console.h>

#include "../arch/aarch64/cpu.h"

#define PSCI_CPU_ON     0xc4000003u
#define PSCI_SYSTEM_OFF 0x84000008u

static enum { CONDUIT_NONE, CONDUIT_HVC, CONDUIT_SMC } conduit;

static uint64_t
psci_call(uint64_t function, uint64_t a, uint64_t b, uint64_t c)
{
    register uint64_t x0 __asm__("x0") = function;
    register uint64_t x1 __asm__("x1") = a;
    register uint64_t x2 __asm__("x2") = b;
    register uint64_t x3 __asm__("x3") = c;

    /* The convention keeps x4 and up since version 1.1, and before it x18 and up. */
#define CLOBBERS                                                                                \
    "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", \
        "memory"
    if (conduit == CONDUIT_SMC)
        __asm__ volatile("smc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) : : CLOBBERS);
    else
        __asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) : : CLOBBERS);
    return x0;
}

void
psci_init(void)
{
    struct fdt_walk node;

    if (!fdt_find_compatible(&boot_fdt, "arm,psci-1.0", &node) &&
        !fdt_find_compatible(&boot_fdt, "arm,psci-0.2", &node))
        return;
    if (fdt_string_is(&node, "method", "smc"))
        conduit = CONDUIT_SMC;
    else if (fdt_string_is(&node, "method", "hvc"))
        conduit = CONDUIT_HVC;
}

bool
psci_cpu_on(uint64_t mpidr, uint64_t entry, uint64_t context)
{
    return conduit != CONDUIT_NONE && psci_call(PSCI_CPU_ON, mpidr, entry, context) == 0;
}

void
platform_power_off(int status)
{
    (void)status; /* the log has it */
    if (conduit != CONDUIT_NONE)
        (void)psci_call(PSCI_SYSTEM_OFF, 0, 0, 0);
}
