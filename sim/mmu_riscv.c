/* SPDX-License-Identifier: MIT */
/*
 * RISC-V Sv39, Sv48 and Sv57, from the privileged architecture, chapters 10.4 to
 * 10.6, with Svnapot and Svpbmt.
 *
 *   63 62..61 60......54 53......10 9..8 7 6 5 4 3 2 1 0
 *   N  PBMT   reserved   PPN        -    D A G U X W R V
 *
 * An entry with R or X is a leaf, at any level; its PPN must be aligned to its
 * size.  W without R is reserved.  In an entry that points to a table D, A, U, N
 * and PBMT are reserved.  N is allowed at the lowest level only, and there only with
 * PPN[3:0] = 1000: one of sixteen equal entries that map 64 KiB, with the low four
 * bits of the page number taken from the address.  PBMT: 0 as the platform says,
 * 1 non-cacheable, 2 I/O, 3 reserved.  Whatever is reserved and set is a page fault.
 *
 * Rights stand in the leaf alone.  The supervisor touches user pages only with SUM
 * (here: in a user copy) and never executes them.  With MXR loads may read
 * pages that may be executed.
 *
 * A leaf whose A is clear, or D for a store, either gets it from hardware (Svadu)
 * or faults.  G above a leaf makes global whatever is below.
 */
#include "machine.h"
#include "mmu.h"

#define V       (1ull << 0)
#define R       (1ull << 1)
#define W       (1ull << 2)
#define X       (1ull << 3)
#define U       (1ull << 4)
#define G       (1ull << 5)
#define A       (1ull << 6)
#define D       (1ull << 7)
#define N       (1ull << 63)
#define PBMT(e) ((e) >> 61 & 3)

#define NAPOT_SHIFT 16

static unsigned
riscv_shift(unsigned level)
{
    return 12 + 9 * level;
}

static unsigned
riscv_offset(unsigned level, uintptr_t va)
{
    return (unsigned)(va >> riscv_shift(level) & 511) * 8;
}

static uint8_t
riscv_cache(uint64_t raw)
{
    static const uint8_t types[4] = {QR_CACHE_WRITE_BACK, QR_CACHE_WRITE_COMBINING,
                                     QR_CACHE_UNCACHED, QR_CACHE_UNCACHED};

    return types[PBMT(raw)];
}

static struct mmu_entry
riscv_table(unsigned level, uint64_t raw)
{
    struct mmu_entry entry = {.kind = MMU_TABLE, .rights = MMU_EVERYTHING, .accessed = true};

    if (level == 0 || (raw & (D | A | U | N)) != 0 || PBMT(raw) != 0)
        entry.kind = MMU_RESERVED;
    entry.pa = (raw & mmu_bits(53, 10)) << 2;
    entry.global = (raw & G) != 0;
    return entry;
}

static bool
riscv_leaf_is_reserved(unsigned level, uint64_t raw)
{
    if (PBMT(raw) == 3 || (raw & (W | R)) == W)
        return true;
    if ((raw & N) != 0)
        return level != 0 || (raw >> 10 & 15) != 8;
    return level > 0 && (raw & mmu_bits(10 + 9 * level - 1, 10)) != 0;
}

static struct mmu_entry
riscv_decode(const struct mmu_state *state, unsigned level, uint64_t raw)
{
    struct mmu_entry entry = {.kind = MMU_NONE};
    unsigned rights;

    if ((raw & V) == 0)
        return entry;
    if ((raw & (R | W | X)) == 0)
        entry = riscv_table(level, raw);
    if ((raw & mmu_bits(60, 54)) != 0 || (PBMT(raw) != 0 && (state->features & SIM_NO_PBMT) != 0))
        entry.kind = MMU_RESERVED;
    if (entry.kind != MMU_NONE)
        return entry;
    entry.kind = riscv_leaf_is_reserved(level, raw) ? MMU_RESERVED : MMU_LEAF;
    entry.pa = (raw & mmu_bits(53, 10)) << 2;
    if ((raw & N) != 0) {
        entry.pa &= ~mmu_bits(NAPOT_SHIFT - 1, 0);
        entry.span = NAPOT_SHIFT;
    }
    rights = ((raw & R) != 0 ? QR_ACCESS_READ : 0u) | ((raw & W) != 0 ? QR_ACCESS_WRITE : 0u) |
             ((raw & X) != 0 ? QR_ACCESS_EXEC : 0u);
    if ((raw & U) == 0)
        entry.rights = rights;
    else
        entry.rights =
            (rights & ~(unsigned)QR_ACCESS_EXEC) | rights << MMU_USER_SHIFT | MMU_USER_PAGE;
    entry.accessed = (raw & A) != 0;
    entry.dirty = (raw & D) != 0;
    entry.global = (raw & G) != 0;
    entry.cache = riscv_cache(raw);
    return entry;
}

static uint64_t
riscv_mark(const struct mmu_state *state, unsigned level, uint64_t raw, bool dirty)
{
    (void)level;
    if ((raw & (R | X)) == 0 || (state->features & SIM_NO_AD) != 0)
        return raw;
    return raw | A | (dirty ? D : 0);
}

static unsigned
riscv_check(const struct mmu_state *state, const struct sim_access *access, unsigned rights,
            uint8_t pkey)
{
    struct sim_access wanted = *access;
    bool user_page = (rights & MMU_USER_PAGE) != 0;
    bool allowed;

    (void)pkey;
    allowed = mmu_allows(&wanted, rights);
    if (!allowed && wanted.access == QR_ACCESS_READ && (state->features & SIM_MXR) != 0) {
        /* The supervisor's right to execute a user page went above; the user's says X. */
        unsigned exec = user_page ? MMU_USER_EXEC : MMU_KERNEL_EXEC;

        allowed = (rights & exec) != 0 && (user_page || wanted.mode != SIM_USER);
    }
    if (user_page && access->mode == SIM_KERNEL)
        allowed = false;
    return allowed ? 0 : mmu_code(state, access, SIM_FAULT_PRESENT);
}

static unsigned
riscv_check_state(const struct mmu_state *state, const struct sim_access *access,
                  const struct mmu_entry *leaf)
{
    bool write = (access->access & QR_ACCESS_WRITE) != 0;

    if ((state->features & SIM_NO_AD) == 0 || (leaf->accessed && (!write || leaf->dirty)))
        return 0;
    return mmu_code(state, access, SIM_FAULT_PRESENT | SIM_FAULT_STATE);
}

#define RISCV(levels_, name_)                                                                  \
    {                                                                                          \
        .name = name_, .page_shift = 12, .levels = levels_, .va_bits = 12 + 9 * levels_,       \
        .roots = MMU_ROOTS_SIGNED,                                                             \
        .user_end = (uintptr_t)(((uint64_t)1 << (11 + 9 * levels_)) - 4096), .entry_bytes = 8, \
        .page_flush_keeps_walks = true, .shift = riscv_shift, .offset = riscv_offset,          \
        .decode = riscv_decode, .mark = riscv_mark, .check = riscv_check,                      \
        .check_state = riscv_check_state, .code = mmu_code,                                    \
    }

const struct mmu_ops mmu_riscv64_sv39 = RISCV(3, "riscv64_sv39");
const struct mmu_ops mmu_riscv64_sv48 = RISCV(4, "riscv64_sv48");
const struct mmu_ops mmu_riscv64_sv57 = RISCV(5, "riscv64_sv57");
