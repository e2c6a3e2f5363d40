/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_AARCH64_H
#define QUIRE_AARCH64_H

/**
 * @file
 * The library's AArch64 back-end, as the host kernel sees it: what it sets up
 * once, and what its exception handler asks.  The library's own side of the
 * back-end is <quire/arch.h>.  MAIR_EL1 holds QR_AARCH64_MAIR (<quire/table.h>).
 */

#include <stdbool.h>
#include <stdint.h>

#include <quire/types.h>

/**
 * What the CPUs have in common.  Set once, before the first user copy or switch
 * of spaces; zero is right for a CPU without any of them.
 */
extern uint8_t qr_aarch64_pan;        /**< FEAT_PAN; the host keeps PSTATE.PAN set */
extern uint8_t qr_aarch64_tlbi_range; /**< FEAT_TLBIRANGE */

/** Physical address of a table of zeroes: what TTBR0_EL1 holds while no space is in use. */
extern uint64_t qr_aarch64_empty_root;

/* Fields of ESR_EL1. */
#define QR_AARCH64_ESR_CLASS(esr)  ((unsigned)((esr) >> 26) & 0x3f)
#define QR_AARCH64_ESR_STATUS(esr) ((unsigned)(esr)&0x3f)
#define QR_AARCH64_ESR_WRITE       ((uint64_t)1 << 6)
#define QR_AARCH64_ESR_MAINTENANCE ((uint64_t)1 << 8)

#define QR_AARCH64_CLASS_FETCH_USER   0x20u
#define QR_AARCH64_CLASS_FETCH_KERNEL 0x21u
#define QR_AARCH64_CLASS_DATA_USER    0x24u
#define QR_AARCH64_CLASS_DATA_KERNEL  0x25u

/** What an abort's status tells. */
enum qr_aarch64_fault {
    QR_AARCH64_FAULT_TRANSLATION, /**< nothing there */
    QR_AARCH64_FAULT_ACCESS_FLAG,
    QR_AARCH64_FAULT_PERMISSION,
    QR_AARCH64_FAULT_ALIGNMENT,
    QR_AARCH64_FAULT_TLB_CONFLICT, /**< two entries for one address: flush, and try again */
    QR_AARCH64_FAULT_OTHER,        /**< an error of the memory system, or of the tables */
};

static inline enum qr_aarch64_fault
qr_aarch64_fault_kind(uint64_t esr)
{
    switch (QR_AARCH64_ESR_STATUS(esr) >> 2) {
    case 1:
        return QR_AARCH64_FAULT_TRANSLATION;
    case 2:
        return QR_AARCH64_FAULT_ACCESS_FLAG;
    case 3:
        return QR_AARCH64_FAULT_PERMISSION;
    default:
        break;
    }
    switch (QR_AARCH64_ESR_STATUS(esr)) {
    case 0x21:
        return QR_AARCH64_FAULT_ALIGNMENT;
    case 0x30:
        return QR_AARCH64_FAULT_TLB_CONFLICT;
    default:
        return QR_AARCH64_FAULT_OTHER;
    }
}

/** The access that an abort tells of, as enum qr_access bits. */
static inline unsigned
qr_aarch64_fault_access(uint64_t esr)
{
    unsigned class = QR_AARCH64_ESR_CLASS(esr);

    if (class == QR_AARCH64_CLASS_FETCH_USER)
        return QR_ACCESS_USER | QR_ACCESS_EXEC;
    if (class == QR_AARCH64_CLASS_FETCH_KERNEL)
        return QR_ACCESS_EXEC;
    /* Cache maintenance is reported as a write but needs only to read. */
    return (class == QR_AARCH64_CLASS_DATA_USER ? QR_ACCESS_USER : 0) |
           ((esr & QR_AARCH64_ESR_WRITE) && !(esr & QR_AARCH64_ESR_MAINTENANCE) ? QR_ACCESS_WRITE
                                                                                : QR_ACCESS_READ);
}

/**
 * Where to continue a kernel instruction that faulted at @p ip and cannot be
 * resolved; 0 where @p ip is in no user copy, which is then a bug of the kernel.
 * Any context.  The host's linker script keeps the section `qr_extable`.
 */
uintptr_t qr_aarch64_fixup(uintptr_t ip);

#endif
