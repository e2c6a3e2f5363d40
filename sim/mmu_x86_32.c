/* SPDX-License-Identifier: MIT */
/*
 * The two x86 formats of 32-bit addresses, from the Intel SDM volume 3A, chapter 4.
 *
 * 32-bit paging (4.3), entries of 4 bytes, two levels of 1024:
 *
 *             31........22 21 20......13 12  11.9 8 7   6 5 4   3   2 1 0
 *   4 MiB     addr 31..22  0  addr 39:32 PAT -    G 1   D A PCD PWT U W P
 *   table     address 31..12                 -    - 0   - A PCD PWT U W P
 *   4 KiB     address 31..12                 -    G PAT D A PCD PWT U W P
 *
 * PSE-36 gives 4 MiB pages 40 bits of address; bit 21 is reserved.  There is no
 * execute-disable and there are no protection keys; SMEP and SMAP exist.
 *
 * PAE paging (4.4), entries of 8 bytes, 4 + 512 + 512:
 *
 *             63 62.....M M-1..12    11..9 8 7    6 5 4   3   2 1 0
 *   pointer   reserved    address    -     reserv. .  PCD PWT 0 0 P
 *   2 MiB     XD reserved address    -     G 1    D A PCD PWT U W P      (PAT is bit 12)
 *   table     XD reserved address    -     - 0    - A PCD PWT U W P
 *   4 KiB     XD reserved address    -     G PAT  D A PCD PWT U W P
 *
 * Unlike the 4-level format, bits 62 to 52 are reserved here.  The four pointers
 * grant everything, have no accessed bit, and live in registers that loading CR3
 * fills (4.4.1): a pointer that changes in memory means nothing until the next
 * load.  A reserved bit set in one makes the load fail.
 */
#include "machine.h"
#include "mmu_x86.h"

#define P          (1ull << 0)
#define W          (1ull << 1)
#define U          (1ull << 2)
#define A          (1ull << 5)
#define D          (1ull << 6)
#define PS         (1ull << 7)
#define G          (1ull << 8)
#define PAT_LARGE  (1ull << 12)
#define XD         (1ull << 63)
#define MAXPHYADDR 46 /* with PAE; 32-bit paging reaches 40 */

#define USER_END ((uintptr_t)3 << 30) /* 3 GiB for users, 1 GiB for the kernel */

/* ---- Both ------------------------------------------------------------------- */

static struct mmu_state
without_keys(const struct mmu_state *state, unsigned features)
{
    struct mmu_state less = *state;

    less.features |= SIM_NO_PKU | features;
    return less;
}

static uint64_t
mark_both(const struct mmu_state *state, unsigned level, uint64_t raw, bool dirty)
{
    (void)state;
    return level == 2 ? raw : raw | A | (dirty ? D : 0);
}

/* What a present entry says in the bits that both formats and all levels share. */
static void
decode_leaf(struct mmu_entry *entry, uint64_t raw, unsigned level)
{
    entry->global = (raw & G) != 0;
    entry->dirty = (raw & D) != 0;
    entry->cache = mmu_x86_cache(raw, (raw & (level == 0 ? PS : PAT_LARGE)) != 0);
}

/* ---- 32-bit paging ------------------------------------------------------------ */

static unsigned
legacy_shift(unsigned level)
{
    return 12 + 10 * level;
}

static unsigned
legacy_offset(unsigned level, uintptr_t va)
{
    return (unsigned)((va >> legacy_shift(level)) & 1023) * 4;
}

static struct mmu_entry
legacy_decode(const struct mmu_state *state, unsigned level, uint64_t raw)
{
    struct mmu_entry entry = {.kind = MMU_NONE};
    bool leaf = level == 0 || (raw & PS) != 0;

    (void)state;
    if ((raw & P) == 0)
        return entry;
    entry.kind = leaf ? MMU_LEAF : MMU_TABLE;
    entry.pa = raw & mmu_bits(31, 12);
    if (leaf && level == 1) {
        entry.pa = (raw & mmu_bits(31, 22)) | (raw & mmu_bits(20, 13)) << (32 - 13);
        if ((raw & (1u << 21)) != 0)
            entry.kind = MMU_RESERVED;
    }
    entry.rights = mmu_x86_rights((raw & W) != 0, (raw & U) != 0, true);
    entry.accessed = (raw & A) != 0;
    if (leaf)
        decode_leaf(&entry, raw, level);
    return entry;
}

static unsigned
legacy_check(const struct mmu_state *state, const struct sim_access *access, unsigned rights,
             uint8_t pkey)
{
    struct mmu_state less = without_keys(state, SIM_NO_NX);

    return mmu_x86_check(&less, access, rights, pkey);
}

static unsigned
legacy_code(const struct mmu_state *state, const struct sim_access *access, unsigned cause)
{
    struct mmu_state less = without_keys(state, SIM_NO_NX);

    return mmu_x86_code(&less, access, cause);
}

const struct mmu_ops mmu_x86_32 = {
    .name = "x86_32",
    .page_shift = 12,
    .levels = 2,
    .va_bits = 32,
    .roots = MMU_ROOTS_FLAT,
    .user_end = USER_END,
    .entry_bytes = 4,
    .fault_forgets = true,
    .page_flush_drops_walks = true,
    .no_asids = true, /* PCIDs come with 64 bits */
    .shift = legacy_shift,
    .offset = legacy_offset,
    .decode = legacy_decode,
    .mark = mark_both,
    .check = legacy_check,
    .code = legacy_code,
};

/* ---- PAE ---------------------------------------------------------------------- */

static unsigned
pae_shift(unsigned level)
{
    return 12 + 9 * level;
}

static unsigned
pae_offset(unsigned level, uintptr_t va)
{
    return (unsigned)((va >> pae_shift(level)) & (level == 2 ? 3 : 511)) * 8;
}

static struct mmu_entry
pae_pointer(uint64_t raw)
{
    uint64_t must_be_clear = mmu_bits(63, MAXPHYADDR) | mmu_bits(8, 5) | mmu_bits(2, 1);
    struct mmu_entry entry = {.kind = MMU_TABLE, .rights = MMU_EVERYTHING, .accessed = true};

    if ((raw & P) == 0)
        entry.kind = MMU_NONE;
    else if ((raw & must_be_clear) != 0)
        entry.kind = MMU_RESERVED;
    entry.pa = raw & mmu_bits(MAXPHYADDR - 1, 12);
    return entry;
}

static struct mmu_entry
pae_decode(const struct mmu_state *state, unsigned level, uint64_t raw)
{
    uint64_t must_be_clear = mmu_bits(62, MAXPHYADDR);
    struct mmu_entry entry = {.kind = MMU_NONE};
    bool leaf = level == 0 || (raw & PS) != 0;

    if (level == 2)
        return pae_pointer(raw);
    if ((raw & P) == 0)
        return entry;
    if ((state->features & SIM_NO_NX) != 0)
        must_be_clear |= XD;
    if (leaf && level == 1)
        must_be_clear |= mmu_bits(20, 13);
    entry.kind = (raw & must_be_clear) != 0 ? MMU_RESERVED : leaf ? MMU_LEAF : MMU_TABLE;
    entry.pa = raw & mmu_bits(MAXPHYADDR - 1, leaf ? pae_shift(level) : 12);
    entry.rights = mmu_x86_rights((raw & W) != 0, (raw & U) != 0, (raw & XD) == 0);
    entry.accessed = (raw & A) != 0;
    if (leaf)
        decode_leaf(&entry, raw, level);
    return entry;
}

static unsigned
pae_check(const struct mmu_state *state, const struct sim_access *access, unsigned rights,
          uint8_t pkey)
{
    struct mmu_state less = without_keys(state, 0);

    return mmu_x86_check(&less, access, rights, pkey);
}

const struct mmu_ops mmu_x86_pae = {
    .name = "x86_pae",
    .page_shift = 12,
    .levels = 3,
    .va_bits = 32,
    .roots = MMU_ROOTS_FLAT,
    .user_end = USER_END,
    .entry_bytes = 8,
    .fault_forgets = true,
    .page_flush_drops_walks = true,
    .no_asids = true, /* PCIDs come with 64 bits */
    .register_level = 2,
    .shift = pae_shift,
    .offset = pae_offset,
    .decode = pae_decode,
    .mark = mark_both,
    .check = pae_check,
    .code = mmu_x86_code,
};
