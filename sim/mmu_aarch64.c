/* SPDX-License-Identifier: MIT */
/*
 * The AArch64 stage 1 translation of EL1&0, from the Arm ARM, chapter D8, for
 * granules of 4, 16 and 64 KiB.
 *
 *         63 62..61  60   59   58...55 54  53  52  51  50 49........12 11 10 9..8 7..6 4..2 1 0
 *   table NS APTable UXNt PXNt -       -   -   -   -   -  address      -  -  -    -    -    1 1
 *   block -  -       -    -    sw      UXN PXN C   DBM GP address      nG AF SH   AP   Attr 0 1
 *   page  -  -       -    -    sw      UXN PXN C   DBM GP address      nG AF SH   AP   Attr 1 1
 *
 * Our level L is the manual's level 3 - L: pages stand at level 0.  At levels where
 * no block may stand (below) 01 is not valid, and so is 01 at level 0.
 *
 *   granule   index bits   block levels          address          with 52 bits of address
 *   4 KiB     9            1, 2 (3 with LPA2)    49 or 47..12     51:50 in bits 9:8 (LPA2)
 *   16 KiB    11           1 (2 with LPA2)       47..14           the same
 *   64 KiB    13           1 (2 with LPA)        47..16           51:48 in bits 15:12 (LPA)
 *
 * Whatever of the address lies below the size of a block is RES0, but bit 16 (nT).
 *
 * Rights (D8.4).  AP[2]: read-only; AP[1]: EL0, too.  UXN and PXN forbid execution at
 * EL0 and EL1; what EL0 may write EL1 never executes.  APTable, UXNTable and
 * PXNTable of every table above take rights away.  Execution at EL0 does not ask for
 * AP[1].  PAN keeps EL1 from data that EL0 may reach by AP[1], but for user copies.
 *
 * State (D8.5).  AF clear is an access flag fault, before any permission fault, unless
 * hardware sets it.  Where hardware manages dirty state, DBM says that AP[2] is not "read-only"
 * but "clean": a write clears it.
 *
 * The contiguous bit: so many neighbours, aligned, map neighbouring frames alike:
 *   4 KiB: 16 pages, 16 blocks.  16 KiB: 128 pages, 32 blocks.  64 KiB: 32 pages, 32 blocks.
 *
 * Memory types come from MAIR_EL1 as the library asks for it.
 */
#include "machine.h"
#include "mmu.h"

#include <quire/table.h>

#define VALID             (1ull << 0)
#define TABLE             (1ull << 1) /* at level 0: a page */
#define ATTR(e)           ((e) >> 2 & 7)
#define AP_EL0            (1ull << 6)
#define AP_RO             (1ull << 7)
#define AF                (1ull << 10)
#define NG                (1ull << 11)
#define NT                (1ull << 16)
#define DBM               (1ull << 51)
#define CONTIGUOUS        (1ull << 52)
#define PXN               (1ull << 53)
#define UXN               (1ull << 54)
#define PXN_TABLE         (1ull << 59)
#define UXN_TABLE         (1ull << 60)
#define AP_TABLE_NO_EL0   (1ull << 61)
#define AP_TABLE_NO_WRITE (1ull << 62)

/* What one geometry has. */
struct geometry {
    unsigned granule; /* log2 of the bytes */
    bool wide;        /* 52 bits of physical address: LPA2 or LPA */
    unsigned top;     /* the highest level where a block may stand */
};

static unsigned
arm_shift(const struct geometry *g, unsigned level)
{
    return g->granule + (g->granule - 3) * level;
}

static unsigned
arm_offset(const struct geometry *g, unsigned va_bits, unsigned level, uintptr_t va)
{
    uintptr_t index = (va & mmu_bits(va_bits - 1, 0)) >> arm_shift(g, level);

    return (unsigned)(index & mmu_bits(g->granule - 4, 0)) * 8;
}

/* The address in a descriptor whose target is 1 << @shift bytes. */
static uint64_t
arm_address(const struct geometry *g, uint64_t raw, unsigned shift)
{
    if (!g->wide)
        return raw & mmu_bits(47, shift);
    if (g->granule == 16)
        return (raw & mmu_bits(47, shift)) | (raw >> 12 & 15) << 48;
    return (raw & mmu_bits(49, shift)) | (raw >> 8 & 3) << 50;
}

/* The bits that must be clear in a leaf or table descriptor. */
static uint64_t
arm_res0(const struct geometry *g, unsigned shift, bool leaf)
{
    unsigned lowest = leaf || g->granule != 16 || !g->wide ? 12 : 16;
    uint64_t res0 = 0;

    if (g->granule == 16 && g->wide)
        lowest = 16;
    if (shift > lowest)
        res0 = mmu_bits(shift - 1, lowest);
    if (leaf && shift > 16)
        res0 &= ~NT;
    if (!g->wide || g->granule == 16)
        res0 |= mmu_bits(49, 48);
    if (!leaf)
        res0 |= 1ull << 50;
    return res0;
}

static uint8_t
arm_cache(uint64_t raw)
{
    switch (QR_AARCH64_MAIR >> (8 * ATTR(raw)) & 0xff) {
    case 0xff:
        return QR_CACHE_WRITE_BACK;
    case 0xbb:
        return QR_CACHE_WRITE_THROUGH;
    case 0x44:
        return QR_CACHE_WRITE_COMBINING;
    default:
        return QR_CACHE_UNCACHED;
    }
}

static uint8_t
arm_span(const struct geometry *g, unsigned level)
{
    unsigned more;

    if (g->granule == 12)
        more = 4;
    else if (g->granule == 14)
        more = level == 0 ? 7 : 5;
    else
        more = 5;
    return (uint8_t)(arm_shift(g, level) + more);
}

static unsigned
arm_leaf_rights(uint64_t raw, bool dirty_by_hardware)
{
    bool write = (raw & AP_RO) == 0 || (dirty_by_hardware && (raw & DBM) != 0);
    unsigned data = QR_ACCESS_READ | (write ? QR_ACCESS_WRITE : 0u);
    unsigned rights = data;

    if ((raw & AP_EL0) != 0)
        rights |= data << MMU_USER_SHIFT | MMU_USER_PAGE;
    rights |= (raw & PXN) == 0 ? MMU_KERNEL_EXEC : 0u;
    rights |= (raw & UXN) == 0 ? MMU_USER_EXEC : 0u;
    return rights;
}

static unsigned
arm_table_rights(uint64_t raw)
{
    unsigned rights = MMU_EVERYTHING;

    if ((raw & AP_TABLE_NO_EL0) != 0)
        rights &= ~(unsigned)(MMU_USER_READ | MMU_USER_WRITE | MMU_USER_PAGE);
    if ((raw & AP_TABLE_NO_WRITE) != 0)
        rights &= ~(unsigned)(MMU_USER_WRITE | MMU_KERNEL_WRITE);
    if ((raw & UXN_TABLE) != 0)
        rights &= ~(unsigned)MMU_USER_EXEC;
    if ((raw & PXN_TABLE) != 0)
        rights &= ~(unsigned)MMU_KERNEL_EXEC;
    return rights;
}

static struct mmu_entry
arm_decode(const struct geometry *g, const struct mmu_state *state, unsigned level, uint64_t raw)
{
    bool by_hardware = (state->features & (SIM_NO_AD | SIM_NO_DIRTY)) == 0;
    bool leaf = level == 0 || (raw & TABLE) == 0;
    unsigned shift = leaf ? arm_shift(g, level) : g->granule;
    struct mmu_entry entry = {.kind = MMU_NONE};

    if ((raw & VALID) == 0 || (level == 0 && (raw & TABLE) == 0) || (leaf && level > g->top))
        return entry;
    entry.kind = leaf ? MMU_LEAF : MMU_TABLE;
    if ((raw & arm_res0(g, shift, leaf)) != 0)
        entry.kind = MMU_RESERVED;
    entry.pa = arm_address(g, raw, shift);
    entry.rights = leaf ? arm_leaf_rights(raw, by_hardware) : arm_table_rights(raw);
    entry.accessed = true;
    if (!leaf)
        return entry;
    entry.accessed = (raw & AF) != 0;
    entry.dirty = (raw & AP_RO) == 0;
    entry.global = (raw & NG) == 0;
    entry.cache = arm_cache(raw);
    if ((raw & CONTIGUOUS) != 0)
        entry.span = arm_span(g, level);
    return entry;
}

static uint64_t
arm_mark(const struct geometry *g, const struct mmu_state *state, unsigned level, uint64_t raw,
         bool dirty)
{
    (void)g;
    if ((level > 0 && (raw & TABLE) != 0) || (state->features & SIM_NO_AD) != 0)
        return raw;
    if (dirty && (raw & DBM) != 0 && (state->features & SIM_NO_DIRTY) == 0)
        raw &= ~AP_RO;
    return raw | AF;
}

static unsigned
arm_check(const struct mmu_state *state, const struct sim_access *access, unsigned rights,
          uint8_t pkey)
{
    bool data = access->access != QR_ACCESS_EXEC;
    bool allowed = mmu_allows(access, rights);

    (void)pkey;
    if (access->mode == SIM_KERNEL && data && (rights & MMU_USER_PAGE) != 0)
        allowed = false; /* PAN */
    if (access->mode != SIM_USER && !data && (rights & MMU_USER_WRITE) != 0)
        allowed = false;
    return allowed ? 0 : mmu_code(state, access, SIM_FAULT_PRESENT);
}

static unsigned
arm_check_state(const struct mmu_state *state, const struct sim_access *access,
                const struct mmu_entry *leaf)
{
    if ((state->features & SIM_NO_AD) == 0 || leaf->accessed)
        return 0;
    return mmu_code(state, access, SIM_FAULT_PRESENT | SIM_FAULT_STATE);
}

#define AARCH64(name_, granule_, levels_, va_bits_, wide_, top_)                              \
    static const struct geometry name_##_geometry = {granule_, wide_, top_};                  \
    static unsigned name_##_shift(unsigned level)                                             \
    {                                                                                         \
        return arm_shift(&name_##_geometry, level);                                           \
    }                                                                                         \
    static unsigned name_##_offset(unsigned level, uintptr_t va)                              \
    {                                                                                         \
        return arm_offset(&name_##_geometry, va_bits_, level, va);                            \
    }                                                                                         \
    static struct mmu_entry name_##_decode(const struct mmu_state *state, unsigned level,     \
                                           uint64_t raw)                                      \
    {                                                                                         \
        return arm_decode(&name_##_geometry, state, level, raw);                              \
    }                                                                                         \
    static uint64_t name_##_mark(const struct mmu_state *state, unsigned level, uint64_t raw, \
                                 bool dirty)                                                  \
    {                                                                                         \
        return arm_mark(&name_##_geometry, state, level, raw, dirty);                         \
    }                                                                                         \
    const struct mmu_ops mmu_##name_ = {                                                      \
        .name = #name_,                                                                       \
        .page_shift = granule_,                                                               \
        .levels = levels_,                                                                    \
        .va_bits = va_bits_,                                                                  \
        .roots = MMU_ROOTS_TWO,                                                               \
        .user_end = (uintptr_t)(((uint64_t)1 << va_bits_) - ((uint64_t)1 << granule_)),       \
        .entry_bytes = 8,                                                                     \
        .break_before_make = true,                                                            \
        .broadcasts = true,                                                                   \
        .span_whole = true,                                                                   \
        .shift = name_##_shift,                                                               \
        .offset = name_##_offset,                                                             \
        .decode = name_##_decode,                                                             \
        .mark = name_##_mark,                                                                 \
        .check = arm_check,                                                                   \
        .check_state = arm_check_state,                                                       \
        .code = mmu_code,                                                                     \
    }

AARCH64(aarch64_4k, 12, 4, 48, false, 2);
AARCH64(aarch64_4k_39, 12, 3, 39, false, 2);
AARCH64(aarch64_4k_52, 12, 5, 52, true, 3);
AARCH64(aarch64_16k, 14, 3, 47, false, 1);
AARCH64(aarch64_16k_48, 14, 4, 48, false, 1);
AARCH64(aarch64_16k_52, 14, 4, 52, true, 2);
AARCH64(aarch64_64k, 16, 3, 48, false, 1);
AARCH64(aarch64_64k_42, 16, 2, 42, false, 1);
AARCH64(aarch64_64k_52, 16, 3, 52, true, 2);
