/* SPDX-License-Identifier: MIT */
#ifndef SIM_MMU_H
#define SIM_MMU_H

/**
 * @file
 * What the walker asks of a table format.  One file a format, each written from
 * its manual and sharing nothing with src/table/format: a mistake there cannot
 * hide here.
 */

#include <stdbool.h>
#include <stdint.h>

enum mmu_kind {
    MMU_NONE,     /* not present */
    MMU_TABLE,    /* points to the next lower table */
    MMU_LEAF,     /* maps a page */
    MMU_RESERVED, /* present, with a bit set that must be clear */
};

struct mmu_entry {
    enum mmu_kind kind;
    uint64_t pa;   /* of the next table, or of the page */
    unsigned prot; /* what this level allows: READ WRITE EXEC USER; GLOBAL of a leaf */
    bool accessed, dirty;
    uint8_t pkey;
    uint8_t cache; /* enum qr_cacheability */
};

/** What the permission check of a CPU depends on. */
struct mmu_state {
    unsigned features; /* enum sim_feature */
    uint32_t pkru;
};

struct mmu_ops {
    const char *name;
    unsigned levels;    /* of tables; the root is at levels - 1 */
    unsigned va_bits;   /* translated; the rest must be canonical */
    bool sign_extended; /* canonical: copies of the highest translated bit; else zero */
    uintptr_t user_end;
    unsigned entry_bytes; /* 8 or 4 */

    /* log2 of the bytes that one entry at @level covers. */
    unsigned (*shift)(unsigned level);
    /* Byte offset, inside its table, of the entry for @va at @level. */
    unsigned (*offset)(unsigned level, uintptr_t va);
    struct mmu_entry (*decode)(const struct mmu_state *state, unsigned level, uint64_t raw);
    /* @raw with accessed, and with @dirty dirty too, set. */
    uint64_t (*mark)(unsigned level, uint64_t raw, bool dirty);
    /* The fault code for @access with rights @prot and key @pkey; 0: allowed. */
    unsigned (*check)(const struct mmu_state *state, const struct sim_access *access, unsigned prot,
                      uint8_t pkey);
    /* The code of a fault that has nothing to do with rights, from its PRESENT and RESERVED bits. */
    unsigned (*code)(const struct mmu_state *state, const struct sim_access *access,
                     unsigned cause);
};

extern const struct mmu_ops mmu_x86_64;
extern const struct mmu_ops mmu_x86_64_la57;
extern const struct mmu_ops mmu_scrambled;

const struct mmu_ops *mmu_of(enum sim_mmu mmu);
uintptr_t mmu_user_end(const struct mmu_ops *ops);

#endif
