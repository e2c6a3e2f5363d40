/* SPDX-License-Identifier: MIT */
/*
 * The MMU of the scrambled format, read from its description alone
 * (src/table/format/scrambled.c opens with it).
 *
 *   level   0    1    2    3 (root)
 *   bits    5    9    3    6          and 12 bits of offset: 35, sign-extended
 *
 * To read an entry at level L: XOR with 0x9e3779b97f4a7c15 * (L + 1), rotate
 * right by 7 L + 3; then the top seven bits are 85 + L, or the word was written
 * for another level.  No operating system would want this machine; its virtue is
 * that nothing works on it by accident.
 *
 * Rights: user pages need USER; a leaf without any of READ, WRITE, EXEC is not
 * present; WRITE or EXEC alone grant just that.  Tables grant everything.  It
 * has keys like x86 (the same PKRU), and sets accessed and dirty flags.
 */
#include "machine.h"
#include "mmu.h"

#include <quire/table.h>

static const unsigned char level_bits[4] = {5, 9, 3, 6};

static unsigned
scrambled_shift(unsigned level)
{
    unsigned shift = 12;

    for (unsigned below = 0; below < level; below++)
        shift += level_bits[below];
    return shift;
}

static unsigned
scrambled_offset(unsigned level, uintptr_t va)
{
    uintptr_t index = (va >> scrambled_shift(level)) & (((uintptr_t)1 << level_bits[level]) - 1);

    return (unsigned)index * 8;
}

static uint64_t
unscramble(unsigned level, uint64_t raw)
{
    unsigned turn = 7 * level + 3;
    uint64_t word = raw ^ (0x9e3779b97f4a7c15ull * (level + 1));

    return (word >> turn) | (word << (64 - turn));
}

static uint64_t
scramble(unsigned level, uint64_t word)
{
    unsigned turn = 7 * level + 3;

    return ((word << turn) | (word >> (64 - turn))) ^ (0x9e3779b97f4a7c15ull * (level + 1));
}

static struct mmu_entry
scrambled_decode(const struct mmu_state *state, unsigned level, uint64_t raw)
{
    uint64_t word = unscramble(level, raw);
    struct mmu_entry entry = {.kind = MMU_RESERVED};
    unsigned flags = (unsigned)(word >> 7) & 15;
    unsigned prot;

    (void)state;
    if (raw == 0) {
        entry.kind = MMU_NONE;
        return entry;
    }
    if (word >> 57 != 85 + level)
        return entry;
    entry.pa = ((word >> 17) & 0xffffffffffull) << 12;
    switch (word & 3) {
    case 1:
        prot = (unsigned)(word >> 2) & 31;
        entry.rights = prot & (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC);
        entry.kind = entry.rights != 0 ? MMU_LEAF : MMU_NONE;
        if ((prot & QR_PROT_USER) != 0)
            entry.rights |= entry.rights << MMU_USER_SHIFT | MMU_USER_PAGE;
        entry.global = (prot & QR_PROT_GLOBAL) != 0;
        entry.accessed = (flags & QR_LEAF_ACCESSED) != 0;
        entry.dirty = (flags & QR_LEAF_DIRTY) != 0;
        entry.cache = (uint8_t)((word >> 11) & 3);
        entry.pkey = (uint8_t)((word >> 13) & 15);
        if ((entry.pa & ((1ull << scrambled_shift(level)) - 1)) != 0)
            entry.kind = MMU_RESERVED;
        break;
    case 2:
        entry.kind = level == 0 ? MMU_RESERVED : MMU_TABLE;
        entry.rights = MMU_EVERYTHING;
        entry.accessed = true;
        break;
    case 3:
        entry.kind = MMU_NONE;
        break;
    default:
        break;
    }
    return entry;
}

static uint64_t
scrambled_mark(const struct mmu_state *state, unsigned level, uint64_t raw, bool dirty)
{
    uint64_t word = unscramble(level, raw);

    (void)state;
    if ((word & 3) != 1)
        return raw;
    word |= (uint64_t)(QR_LEAF_ACCESSED | (dirty ? QR_LEAF_DIRTY : 0)) << 7;
    return scramble(level, word);
}

static unsigned
scrambled_check(const struct mmu_state *state, const struct sim_access *access, unsigned rights,
                uint8_t pkey)
{
    uint32_t key = state->pkru >> (2 * pkey);
    bool user_page = (rights & MMU_USER_PAGE) != 0;
    bool key_denies =
        user_page && (access->access & QR_ACCESS_EXEC) == 0 &&
        ((key & 1) != 0 || ((key & 2) != 0 && (access->access & QR_ACCESS_WRITE) != 0));
    bool wrong_mode = access->mode == SIM_KERNEL && user_page;

    if (!key_denies && !wrong_mode && mmu_allows(access, rights))
        return 0;
    return mmu_code(state, access, SIM_FAULT_PRESENT | (key_denies ? SIM_FAULT_PKEY : 0u));
}

const struct mmu_ops mmu_scrambled = {
    .name = "scrambled",
    .page_shift = 12,
    .levels = 4,
    .va_bits = 35,
    .roots = MMU_ROOTS_SIGNED,
    .user_end = (uintptr_t)(((uint64_t)1 << 34) - 4096),
    .entry_bytes = 8,
    .canonical_code = SIM_FAULT_NONCANONICAL,
    .fault_forgets = true,
    .page_flush_drops_walks = true,
    .shift = scrambled_shift,
    .offset = scrambled_offset,
    .decode = scrambled_decode,
    .mark = scrambled_mark,
    .check = scrambled_check,
    .code = mmu_code,
};
