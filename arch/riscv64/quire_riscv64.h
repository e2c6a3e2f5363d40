/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_RISCV64_H
#define QUIRE_RISCV64_H

/**
 * @file
 * The library's RISC-V back-end, as the host kernel sees it: what it sets up
 * once, and what its page-fault handler asks.  The library's own side of the
 * back-end is <quire/arch.h>.
 */

#include <stdbool.h>
#include <stdint.h>

#include <quire/types.h>

/** satp.MODE of the running translation (8: Sv39, 9: Sv48, 10: Sv57); set before the first switch. */
extern uint8_t qr_riscv_satp_mode;
/** The CPUs have Svinval: flushes in batches.  Set once, before the first flush. */
extern uint8_t qr_riscv_svinval;

/* scause of page faults. */
#define QR_RISCV_FAULT_FETCH 12u
#define QR_RISCV_FAULT_LOAD  13u
#define QR_RISCV_FAULT_STORE 15u

/** The access that a page fault's scause tells of, as enum qr_access bits. */
static inline unsigned
qr_riscv_fault_access(uint64_t cause, bool from_user)
{
    unsigned access = from_user ? QR_ACCESS_USER : 0;

    if (cause == QR_RISCV_FAULT_FETCH)
        return access | QR_ACCESS_EXEC;
    return access | (cause == QR_RISCV_FAULT_STORE ? QR_ACCESS_WRITE : QR_ACCESS_READ);
}

/**
 * Where to continue a kernel instruction that faulted at @p ip and cannot be
 * resolved; 0 where @p ip is in no user copy, which is then a bug of the kernel.
 * Any context.  The host's linker script keeps the section `qr_extable`.
 */
uintptr_t qr_riscv_fixup(uintptr_t ip);

#endif
