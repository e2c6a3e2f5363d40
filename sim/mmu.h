/* SPDX-License-Identifier: MIT */
#ifndef SIM_MMU_H
#define SIM_MMU_H

/**
 * @file
 * What the walker asks of a table format.  One file an architecture, each written from
 * its manual and sharing nothing with src/table/format: a mistake there cannot
 * hide here.
 */

#include <stdbool.h>
#include <stdint.h>

#include "sim.h"

enum mmu_kind {
    MMU_NONE,     /* not present */
    MMU_TABLE,    /* points to the next lower table */
    MMU_LEAF,     /* maps a page */
    MMU_RESERVED, /* present, with a bit set that must be clear */
};

/*
 * What a level allows, as bits that all levels combine by AND.  An access of mode m and kind a
 * (enum qr_access) wants the bit `a` (kernel) or `a << MMU_USER_SHIFT` (user).
 */
#define MMU_USER_SHIFT 3
enum mmu_right {
    MMU_KERNEL_READ = QR_ACCESS_READ,
    MMU_KERNEL_WRITE = QR_ACCESS_WRITE,
    MMU_KERNEL_EXEC = QR_ACCESS_EXEC,
    MMU_USER_READ = QR_ACCESS_READ << MMU_USER_SHIFT,
    MMU_USER_WRITE = QR_ACCESS_WRITE << MMU_USER_SHIFT,
    MMU_USER_EXEC = QR_ACCESS_EXEC << MMU_USER_SHIFT,
    MMU_USER_PAGE = 1 << 6, /* counts as a user's page: SMAP, SMEP, PAN, SUM go by it */
    MMU_EVERYTHING = (1 << 7) - 1,
};

struct mmu_entry {
    enum mmu_kind kind;
    uint64_t pa;     /* of the next table, or of the page */
    unsigned rights; /* enum mmu_right bits */
    bool accessed, dirty, global;
    uint8_t pkey;
    uint8_t cache; /* enum qr_cacheability */
    uint8_t span;  /* one of a group of neighbours that the TLB may keep as one: log2 of the
                      group's bytes; 0: none */
};

/* Which addresses there are, and whose root translates them. */
enum mmu_roots {
    MMU_ROOTS_SIGNED, /* one root; bits above are copies of the highest translated one */
    MMU_ROOTS_FLAT,   /* one root; nothing above */
    MMU_ROOTS_TWO,    /* all zeroes above: the first root; all ones: the second */
};

/** What the permission check of a CPU depends on. */
struct mmu_state {
    unsigned features; /* enum sim_feature */
    uint32_t pkru;
};

struct mmu_ops {
    const char *name;
    unsigned page_shift;
    unsigned levels;  /* of tables; the root is at levels - 1 */
    unsigned va_bits; /* translated; the rest must be canonical */
    enum mmu_roots roots;
    uintptr_t user_end;
    unsigned entry_bytes; /* 8 or 4 */

    unsigned canonical_code;     /* of a fault for an address that is not */
    bool fault_forgets;          /* a page fault drops what would translate its address */
    bool break_before_make;      /* a live entry may not become another live one at once */
    bool span_whole;             /* a group (mmu_entry.span) is kept as one entry; else each part */
    bool no_asids;               /* TLBs are not tagged */
    bool broadcasts;             /* flushes reach every CPU */
    bool page_flush_drops_walks; /* a flush by address drops all walk caches of its ASID ... */
    bool page_flush_keeps_walks; /* ... or none; else those that would translate it */
    unsigned register_level;     /* entries of this root are loaded with it, not walked; 0: none */

    /* log2 of the bytes that one entry at @level covers. */
    unsigned (*shift)(unsigned level);
    /* Byte offset, inside its table, of the entry for @va at @level. */
    unsigned (*offset)(unsigned level, uintptr_t va);
    struct mmu_entry (*decode)(const struct mmu_state *state, unsigned level, uint64_t raw);
    /* What the CPU stores back when it uses @raw: accessed, and with @dirty dirty too. */
    uint64_t (*mark)(const struct mmu_state *state, unsigned level, uint64_t raw, bool dirty);
    /* The fault code for @access with @rights and key @pkey; 0: allowed. */
    unsigned (*check)(const struct mmu_state *state, const struct sim_access *access,
                      unsigned rights, uint8_t pkey);
    /* The same for a leaf whose accessed and dirty state only software may set; NULL: none. */
    unsigned (*check_state)(const struct mmu_state *state, const struct sim_access *access,
                            const struct mmu_entry *leaf);
    /* The code of a fault that has nothing to do with rights, from its PRESENT and RESERVED bits. */
    unsigned (*code)(const struct mmu_state *state, const struct sim_access *access,
                     unsigned cause);
};

const struct mmu_ops *mmu_of(enum sim_mmu mmu);
uintptr_t mmu_user_end(const struct mmu_ops *ops);

/** Whether @rights hold the bit that @access wants. */
static inline bool
mmu_allows(const struct sim_access *access, unsigned rights)
{
    unsigned wanted = access->access << (access->mode == SIM_USER ? MMU_USER_SHIFT : 0);

    return (wanted & ~rights) == 0;
}

/** Bits @p low to @p high, both included. */
static inline uint64_t
mmu_bits(unsigned high, unsigned low)
{
    return (~0ull >> (63 - high + low)) << low;
}

/** The fault code of @p access in x86's bits, which all MMUs here speak. */
unsigned mmu_code(const struct mmu_state *state, const struct sim_access *access, unsigned cause);

extern const struct mmu_ops mmu_x86_64;
extern const struct mmu_ops mmu_x86_64_la57;
extern const struct mmu_ops mmu_x86_32;
extern const struct mmu_ops mmu_x86_pae;
extern const struct mmu_ops mmu_aarch64_4k;
extern const struct mmu_ops mmu_aarch64_4k_39;
extern const struct mmu_ops mmu_aarch64_4k_52;
extern const struct mmu_ops mmu_aarch64_16k;
extern const struct mmu_ops mmu_aarch64_16k_48;
extern const struct mmu_ops mmu_aarch64_16k_52;
extern const struct mmu_ops mmu_aarch64_64k;
extern const struct mmu_ops mmu_aarch64_64k_42;
extern const struct mmu_ops mmu_aarch64_64k_52;
extern const struct mmu_ops mmu_riscv64_sv39;
extern const struct mmu_ops mmu_riscv64_sv48;
extern const struct mmu_ops mmu_riscv64_sv57;
extern const struct mmu_ops mmu_scrambled;

#endif
