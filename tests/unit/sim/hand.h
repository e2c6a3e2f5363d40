/* SPDX-License-Identifier: MIT */
#ifndef TEST_SIM_HAND_H
#define TEST_SIM_HAND_H

/*
 * Tables written by hand, bit by bit, straight from a manual: neither the
 * library nor the model's own decoder is asked to judge itself.
 */
#include "harness.h"
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define HAND_TABLES 0x1000000ull /* the first byte of RAM; tables stand there, the lowest first */

/* How a format cuts an address, as the manual says. */
struct hand_shape {
    enum sim_mmu mmu;
    unsigned granule;     /* log2 of the smallest page, and of a table's place */
    unsigned levels;      /* of tables */
    unsigned bits;        /* of address that a table translates */
    unsigned root_bits;   /* and the root */
    unsigned entry_bytes; /* 4 or 8 */
};

struct hand {
    const struct hand_shape *shape;
    struct sim *sim;
    uint64_t va;
};

static inline uint64_t
hand_table(const struct hand *hand, unsigned level)
{
    return HAND_TABLES + ((uint64_t)level << hand->shape->granule);
}

static inline unsigned
hand_shift(const struct hand *hand, unsigned level)
{
    return hand->shape->granule + hand->shape->bits * level;
}

static inline void *
hand_slot(const struct hand *hand, unsigned level, uint64_t va)
{
    bool root = level == hand->shape->levels - 1;
    uint64_t mask = (1ull << (root ? hand->shape->root_bits : hand->shape->bits)) - 1;
    uint64_t index = va >> hand_shift(hand, level) & mask;

    return sim_ram(hand->sim, qr_pa_of(hand_table(hand, level) + index * hand->shape->entry_bytes));
}

/* The entry at @level for @va. */
static inline uint64_t
hand_get_at(const struct hand *hand, unsigned level, uint64_t va)
{
    void *slot = hand_slot(hand, level, va);
    uint64_t value = 0;

    memcpy(&value, slot, hand->shape->entry_bytes); /* little-endian, as all of them are */
    return value;
}

static inline void
hand_set_at(const struct hand *hand, unsigned level, uint64_t va, uint64_t entry)
{
    memcpy(hand_slot(hand, level, va), &entry, hand->shape->entry_bytes);
}

static inline uint64_t
hand_get(const struct hand *hand, unsigned level)
{
    return hand_get_at(hand, level, hand->va);
}

static inline void
hand_set(const struct hand *hand, unsigned level, uint64_t entry)
{
    hand_set_at(hand, level, hand->va, entry);
}

static inline struct hand
hand_boot(const struct hand_shape *shape, unsigned features, uint64_t va)
{
    struct hand hand = {.shape = shape, .va = va};

    hand.sim =
        sim_boot_ram((struct sim_options){.mmu = shape->mmu, .features = features, .cpus = 2});
    return hand;
}

/* x86 has identifiers with 64 bits alone. */
static inline unsigned
hand_asid(const struct hand *hand)
{
    return hand->shape->mmu == SIM_MMU_X86_32 || hand->shape->mmu == SIM_MMU_X86_PAE ? 0 : 1;
}

/* Load the root, once the tables stand. */
static inline void
hand_load(const struct hand *hand)
{
    qr_arch_root_switch(qr_pa_of(hand_table(hand, hand->shape->levels - 1)), hand_asid(hand),
                        false);
}

#define HAND_FAULT(code) (0x100000000ull | (code))

/* 0, or HAND_FAULT() with the code; *out_pa where it went. */
static inline uint64_t
hand_try_pa(uint64_t va, unsigned access, enum sim_mode mode, uint64_t *out_pa)
{
    struct sim_access wanted = {.va = qr_va_of((uintptr_t)va), .access = access, .mode = mode};
    unsigned code = 0;
    qr_pa pa = {0};

    if (!sim_translate(wanted, &pa, &code))
        return HAND_FAULT(code);
    *out_pa = pa.v;
    return 0;
}

static inline uint64_t
hand_try(uint64_t va, unsigned access, enum sim_mode mode)
{
    uint64_t pa;

    return hand_try_pa(va, access, mode, &pa);
}

static inline void
hand_flush_page(const struct hand *hand, uint64_t va, unsigned shift)
{
    struct qr_flush_run run = {qr_va_of((uintptr_t)va),
                               qr_va_of((uintptr_t)(va + (1ull << shift) - 1)), shift};
    struct qr_flush flush = {.runs = &run, .run_count = 1, .asid = hand_asid(hand)};

    qr_arch_flush_pages(&flush);
}

/* Which of the six accesses are allowed: "rwx" of the user's, "rwx" of the kernel's, '-' where not. */
static inline void
hand_rights(const struct hand *hand, enum sim_mode kernel_mode, char out_text[7])
{
    static const unsigned accesses[3] = {QR_ACCESS_READ, QR_ACCESS_WRITE, QR_ACCESS_EXEC};

    for (unsigned i = 0; i < 6; i++) {
        enum sim_mode mode = i < 3 ? SIM_USER : kernel_mode;

        qr_arch_flush_all(QR_FLUSH_HERE);
        out_text[i] = hand_try(hand->va, accesses[i % 3], mode) == 0 ? "rwx"[i % 3] : '-';
    }
    out_text[6] = '\0';
}

#endif
