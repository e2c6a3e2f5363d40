/* SPDX-License-Identifier: MIT */
/*
 * The x86-64 MMU, 4 and 5 levels, from the Intel SDM volume 3A, chapter 4.
 *
 *   63 62..59 58..52 51..M M-1..12       11..9 8 7    6 5 4   3   2 1 0
 *   XD PK     -      res.  address       -     G PS/  D A PCD PWT U W P
 *                                                PAT
 *
 * (M: MAXPHYADDR, 46 here.)  Levels count from 0 (page table) to 3 or 4.  PS
 * makes a leaf at level 1 and, where 1 GiB pages exist, at level 2; elsewhere
 * above level 0 it is reserved.  In a leaf above level 0 the PAT bit is bit 12
 * and the address bits between it and the page size are reserved.
 *
 * Rights (4.6): a page is a user page where U is set at every level, writable
 * where W is, executable where XD is clear.  CR0.WP is set, so the supervisor
 * obeys W; SMEP and SMAP keep it from executing, and without EFLAGS.AC from
 * touching, user pages.  Protection keys (4.6.2) restrict data accesses to user
 * pages, the supervisor's too.
 *
 * Error code (4.7): P, W/R, U/S, RSVD, I/D, PK.  I/D is only reported where NX
 * or SMEP is in use.
 */
#include "machine.h"
#include "mmu_x86.h"

#define P          (1ull << 0)
#define W          (1ull << 1)
#define U          (1ull << 2)
#define PWT        (1ull << 3)
#define PCD        (1ull << 4)
#define A          (1ull << 5)
#define D          (1ull << 6)
#define PS         (1ull << 7)
#define G          (1ull << 8)
#define XD         (1ull << 63)
#define MAXPHYADDR 46

static unsigned
x86_shift(unsigned level)
{
    return 12 + 9 * level;
}

static unsigned
x86_offset(unsigned level, uintptr_t va)
{
    return (unsigned)((va >> x86_shift(level)) & 511) * 8;
}

/* The memory type that the PAT register gives, as the library asks for it:
 * WB WT UC- UC WB WT WC UC. */
uint8_t
mmu_x86_cache(uint64_t raw, bool pat)
{
    static const uint8_t types[8] = {
        QR_CACHE_WRITE_BACK, QR_CACHE_WRITE_THROUGH, QR_CACHE_UNCACHED,        QR_CACHE_UNCACHED,
        QR_CACHE_WRITE_BACK, QR_CACHE_WRITE_THROUGH, QR_CACHE_WRITE_COMBINING, QR_CACHE_UNCACHED,
    };

    return types[((raw & PWT) != 0) | (((raw & PCD) != 0) << 1) | (pat << 2)];
}

unsigned
mmu_x86_rights(bool write, bool user, bool exec)
{
    unsigned kernel =
        MMU_KERNEL_READ | (write ? MMU_KERNEL_WRITE : 0u) | (exec ? MMU_KERNEL_EXEC : 0u);

    return user ? kernel | kernel << MMU_USER_SHIFT | MMU_USER_PAGE : kernel;
}

static bool
x86_is_leaf(const struct mmu_state *state, unsigned level, uint64_t raw, bool *out_reserved)
{
    *out_reserved = false;
    if (level == 0)
        return true;
    if ((raw & PS) == 0)
        return false;
    if (level == 1 || (level == 2 && (state->features & SIM_NO_1G) == 0))
        return true;
    *out_reserved = true;
    return false;
}

static struct mmu_entry
x86_decode(const struct mmu_state *state, unsigned level, uint64_t raw)
{
    struct mmu_entry entry = {.kind = MMU_NONE};
    uint64_t must_be_clear = mmu_bits(51, MAXPHYADDR);
    bool reserved;
    bool leaf;

    if ((raw & P) == 0)
        return entry;
    leaf = x86_is_leaf(state, level, raw, &reserved);
    if ((state->features & SIM_NO_NX) != 0)
        must_be_clear |= XD;
    if (leaf && level > 0)
        must_be_clear |= mmu_bits(x86_shift(level) - 1, 13);
    entry.kind = leaf ? MMU_LEAF : MMU_TABLE;
    if (reserved || (raw & must_be_clear) != 0)
        entry.kind = MMU_RESERVED;
    entry.pa = raw & mmu_bits(MAXPHYADDR - 1, leaf ? x86_shift(level) : 12);
    entry.rights = mmu_x86_rights((raw & W) != 0, (raw & U) != 0, (raw & XD) == 0);
    entry.accessed = (raw & A) != 0;
    if (leaf) {
        entry.global = (raw & G) != 0;
        entry.dirty = (raw & D) != 0;
        entry.pkey = (uint8_t)((raw >> 59) & 15);
        entry.cache = mmu_x86_cache(raw, level == 0 ? (raw & PS) != 0 : (raw & (1ull << 12)) != 0);
    }
    return entry;
}

static uint64_t
x86_mark(const struct mmu_state *state, unsigned level, uint64_t raw, bool dirty)
{
    (void)state;
    (void)level;
    return raw | A | (dirty ? D : 0);
}

unsigned
mmu_x86_code(const struct mmu_state *state, const struct sim_access *access, unsigned cause)
{
    bool reports_fetch = (state->features & (SIM_NO_NX | SIM_NO_SMEP)) != (SIM_NO_NX | SIM_NO_SMEP);
    unsigned code = mmu_code(state, access, cause);

    return reports_fetch ? code : code & ~(unsigned)SIM_FAULT_FETCH;
}

static bool
x86_key_denies(const struct mmu_state *state, const struct sim_access *access, unsigned rights,
               uint8_t pkey)
{
    uint32_t key = state->pkru >> (2 * pkey);

    if ((state->features & SIM_NO_PKU) != 0 || (rights & MMU_USER_PAGE) == 0 ||
        (access->access & QR_ACCESS_EXEC) != 0)
        return false;
    return (key & 1) != 0 || ((key & 2) != 0 && (access->access & QR_ACCESS_WRITE) != 0);
}

static bool
x86_mode_denies(const struct mmu_state *state, const struct sim_access *access, unsigned rights)
{
    bool user_page = (rights & MMU_USER_PAGE) != 0;

    if (access->mode == SIM_USER || !user_page)
        return false; /* the rights say it */
    if ((access->access & QR_ACCESS_EXEC) != 0)
        return (state->features & SIM_NO_SMEP) == 0;
    return access->mode != SIM_KERNEL_COPY && (state->features & SIM_NO_SMAP) == 0;
}

unsigned
mmu_x86_check(const struct mmu_state *state, const struct sim_access *access, unsigned rights,
              uint8_t pkey)
{
    bool key = x86_key_denies(state, access, rights, pkey);

    if (!key && !x86_mode_denies(state, access, rights) && mmu_allows(access, rights))
        return 0;
    return mmu_x86_code(state, access, SIM_FAULT_PRESENT | (key ? SIM_FAULT_PKEY : 0u));
}

const struct mmu_ops mmu_x86_64 = {
    .name = "x86_64",
    .page_shift = 12,
    .levels = 4,
    .va_bits = 48,
    .roots = MMU_ROOTS_SIGNED,
    .user_end = (uintptr_t)(((uint64_t)1 << 47) - 4096),
    .entry_bytes = 8,
    .canonical_code = SIM_FAULT_NONCANONICAL,
    .fault_forgets = true,
    .page_flush_drops_walks = true,
    .shift = x86_shift,
    .offset = x86_offset,
    .decode = x86_decode,
    .mark = x86_mark,
    .check = mmu_x86_check,
    .code = mmu_x86_code,
};

const struct mmu_ops mmu_x86_64_la57 = {
    .name = "x86_64_la57",
    .page_shift = 12,
    .levels = 5,
    .va_bits = 57,
    .roots = MMU_ROOTS_SIGNED,
    .user_end = (uintptr_t)(((uint64_t)1 << 56) - 4096),
    .entry_bytes = 8,
    .canonical_code = SIM_FAULT_NONCANONICAL,
    .fault_forgets = true,
    .page_flush_drops_walks = true,
    .shift = x86_shift,
    .offset = x86_offset,
    .decode = x86_decode,
    .mark = x86_mark,
    .check = mmu_x86_check,
    .code = mmu_x86_code,
};
