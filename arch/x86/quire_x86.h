/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_X86_H
#define QUIRE_X86_H

/**
 * @file
 * The library's x86 back-ends, as the host kernel sees them: what it sets up
 * once, and what its page-fault handler asks.  The library's own side of the
 * back-ends is <quire/arch.h>.
 */

#include <stdbool.h>
#include <stdint.h>

#include <quire/types.h>

/**
 * Whether the host turned on CR4.SMAP, so that copies open and close user access.
 * Set once, before the first user copy.
 */
extern uint8_t qr_x86_smap;

/**
 * What the host writes to IA32_PAT, so that the page-table format's cache
 * attributes mean what they say: WB, WT, UC-, UC, WB, WT, WC, UC.  The power-on
 * value but for slot 6.
 */
#define QR_X86_PAT 0x0001040600070406u

/* Bits of a page fault's error code. */
#define QR_X86_FAULT_PRESENT  (1u << 0)
#define QR_X86_FAULT_WRITE    (1u << 1)
#define QR_X86_FAULT_USER     (1u << 2)
#define QR_X86_FAULT_RESERVED (1u << 3)
#define QR_X86_FAULT_FETCH    (1u << 4)
#define QR_X86_FAULT_KEY      (1u << 5)

/** The access that an error code tells of, as enum qr_access bits. */
static inline unsigned
qr_x86_fault_access(uint64_t code)
{
    unsigned access = (code & QR_X86_FAULT_USER ? (unsigned)QR_ACCESS_USER : 0) |
                      (code & QR_X86_FAULT_KEY ? (unsigned)QR_ACCESS_KEY : 0);

    if (code & QR_X86_FAULT_FETCH)
        return access | QR_ACCESS_EXEC;
    return access | (code & QR_X86_FAULT_WRITE ? QR_ACCESS_WRITE : QR_ACCESS_READ);
}

/**
 * Where to continue a kernel instruction that faulted at @p ip and cannot be
 * resolved; 0 where @p ip is in no user copy, which is then a bug of the kernel.
 * Any context.  The host's linker script keeps the section `qr_extable`.
 */
uintptr_t qr_x86_fixup(uintptr_t ip);

#endif
