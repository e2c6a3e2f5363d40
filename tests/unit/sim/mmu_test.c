/* SPDX-License-Identifier: MIT */
/*
 * The MMU model against the manual: tables are written here by hand, bit by bit,
 * so that neither the library nor the model's own decoder is asked to judge
 * itself.
 */
#include "harness.h"
#include "sim.h"

#include <string.h>

#define P      (1ull << 0)
#define W      (1ull << 1)
#define U      (1ull << 2)
#define A      (1ull << 5)
#define D      (1ull << 6)
#define PS     (1ull << 7)
#define G      (1ull << 8)
#define XD     (1ull << 63)
#define KEY(k) ((uint64_t)(k) << 59)

#define VA   0x12345678000ull
#define ROOT 0x1000000ull
#define DATA 0x1010000ull

struct hand {
    struct sim *sim;
    unsigned levels;
    uint64_t *entry[5]; /* the one that translates VA, by level */
};

static uint64_t
table_pa(unsigned level)
{
    return ROOT + (uint64_t)(4 - level) * 4096;
}

static uint64_t *
slot_of(struct sim *sim, unsigned level, uint64_t va)
{
    return (uint64_t *)sim_ram(sim, qr_pa_of(table_pa(level))) + ((va >> (12 + 9 * level)) & 511);
}

/* A path of tables to VA with everything allowed, and the leaf that @leaf says at level 0. */
static struct hand
hand_boot(unsigned levels, unsigned features, uint64_t leaf)
{
    struct hand hand = {.levels = levels};

    hand.sim =
        sim_boot_ram((struct sim_options){.mmu = levels == 5 ? SIM_MMU_X86_64_LA57 : SIM_MMU_X86_64,
                                          .features = features,
                                          .cpus = 2});
    for (unsigned level = 0; level < levels; level++) {
        hand.entry[level] = slot_of(hand.sim, level, VA);
        *hand.entry[level] = level == 0 ? DATA | leaf : table_pa(level - 1) | P | W | U;
    }
    qr_arch_root_switch(qr_pa_of(table_pa(levels - 1)), 1, false);
    return hand;
}

static void
flush_page(unsigned asid, qr_va va, bool global)
{
    struct qr_flush_run run = {va, qr_va_of(va.v + 4095), 12};
    struct qr_flush flush = {.runs = &run, .run_count = 1, .asid = asid, .global = global};

    qr_arch_flush_pages(&flush);
}

static unsigned
try_access(uint64_t va, unsigned access, enum sim_mode mode)
{
    struct sim_access wanted = {.va = qr_va_of(va), .access = access, .mode = mode};
    unsigned code = 0;
    qr_pa pa;

    if (sim_translate(wanted, &pa, &code)) {
        EXPECT_EQ(pa.v & 0xfff, va & 0xfff);
        return 0;
    }
    return code | 0x1000; /* a fault, whatever the code */
}

#define FAULT(code) (0x1000u | (code))
#define R           QR_ACCESS_READ
#define WR          QR_ACCESS_WRITE
#define X           QR_ACCESS_EXEC

/* One leaf, one access, one answer. */
struct row {
    uint64_t leaf;
    unsigned features;
    uint32_t pkru;
    unsigned access;
    enum sim_mode mode;
    unsigned answer;
};

static const struct row rows[] = {
    {P | W | U, 0, 0, R, SIM_USER, 0},
    {P | W | U, 0, 0, WR, SIM_USER, 0},
    {P | W | U, 0, 0, X, SIM_USER, 0},
    {P | U, 0, 0, WR, SIM_USER, FAULT(7)},
    {P | W, 0, 0, R, SIM_USER, FAULT(5)},
    {P | W, 0, 0, WR, SIM_USER, FAULT(7)},
    {P | W | U | XD, 0, 0, X, SIM_USER, FAULT(0x15)},
    {P | W | U | XD, 0, 0, R, SIM_USER, 0},
    {W | U, 0, 0, R, SIM_USER, FAULT(4)},
    {W | U, 0, 0, WR, SIM_USER, FAULT(6)},
    {W | U, 0, 0, X, SIM_USER, FAULT(0x14)},
    {W | U, 0, 0, R, SIM_KERNEL, FAULT(0)},
    {W | U, 0, 0, WR, SIM_KERNEL_COPY, FAULT(2)},
    /* The supervisor: its own pages, SMAP, SMEP, WP. */
    {P | W, 0, 0, WR, SIM_KERNEL, 0},
    {P, 0, 0, WR, SIM_KERNEL, FAULT(3)},
    {P, 0, 0, X, SIM_KERNEL, 0},
    {P | XD, 0, 0, X, SIM_KERNEL, FAULT(0x11)},
    {P | W | U, 0, 0, R, SIM_KERNEL, FAULT(1)},
    {P | W | U, SIM_NO_SMAP, 0, R, SIM_KERNEL, 0},
    {P | W | U, 0, 0, WR, SIM_KERNEL_COPY, 0},
    {P | U, 0, 0, WR, SIM_KERNEL_COPY, FAULT(3)},
    {P | U, 0, 0, X, SIM_KERNEL, FAULT(0x11)},
    {P | U, SIM_NO_SMEP, 0, X, SIM_KERNEL, 0},
    /* Reserved bits: above the physical width, XD without NX. */
    {P | U | (1ull << 46), 0, 0, R, SIM_USER, FAULT(0xd)},
    {P | U | (1ull << 51), 0, 0, WR, SIM_USER, FAULT(0xf)},
    {P | U | XD, SIM_NO_NX, 0, R, SIM_USER, FAULT(0xd)},
    {P | U | (1ull << 52), 0, 0, R, SIM_USER, 0},
    /* Without NX and SMEP a fetch is reported as a read. */
    {P, SIM_NO_NX | SIM_NO_SMEP, 0, X, SIM_USER, FAULT(5)},
    /* Protection keys: data of user pages, the supervisor too, never fetches. */
    {P | W | U | KEY(3), 0, 1u << 6, R, SIM_USER, FAULT(0x25)},
    {P | W | U | KEY(3), 0, 1u << 6, WR, SIM_USER, FAULT(0x27)},
    {P | W | U | KEY(3), 0, 2u << 6, R, SIM_USER, 0},
    {P | W | U | KEY(3), 0, 2u << 6, WR, SIM_USER, FAULT(0x27)},
    {P | W | U | KEY(3), 0, 2u << 6, WR, SIM_KERNEL_COPY, FAULT(0x23)},
    {P | W | U | KEY(3), 0, 3u << 6, X, SIM_USER, 0},
    {P | W | U | KEY(3), 0, 3u << 4, WR, SIM_USER, 0},
    {P | W | U | KEY(3), SIM_NO_PKU, 3u << 6, WR, SIM_USER, 0},
    {P | W | KEY(3), 0, 3u << 6, WR, SIM_KERNEL, 0},
    {P | U | KEY(15), 0, 3u << 30, WR, SIM_USER, FAULT(0x27)},
};

TEST(mmu, rights_and_error_codes_of_a_leaf)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned levels = 4; levels <= 5; levels++) {
            const struct row *row = &rows[i];
            struct hand hand = hand_boot(levels, row->features, row->leaf);
            unsigned answer;

            sim_set_pkru(row->pkru);
            answer = try_access(VA + 5, row->access, row->mode);
            if (answer != row->answer)
                TEST_FAIL("row %zu: answer %x, the manual says %x", i, answer, row->answer);
            sim_shutdown(hand.sim);
        }
    }
}

TEST(mmu, every_level_can_forbid)
{
    for (unsigned level = 0; level < 5; level++) {
        struct hand hand = hand_boot(5, 0, P | W | U);
        uint64_t all = *hand.entry[level];

        *hand.entry[level] = all & ~W;
        EXPECT_EQ(try_access(VA, WR, SIM_USER), FAULT(7));
        qr_arch_flush_all(QR_FLUSH_HERE);
        *hand.entry[level] = all & ~U;
        EXPECT_EQ(try_access(VA, R, SIM_USER), FAULT(5));
        EXPECT_EQ(try_access(VA, R, SIM_KERNEL), 0);
        qr_arch_flush_all(QR_FLUSH_HERE);
        *hand.entry[level] = all | XD;
        EXPECT_EQ(try_access(VA, X, SIM_USER), FAULT(0x15));
        qr_arch_flush_all(QR_FLUSH_HERE);
        *hand.entry[level] = all & ~P;
        EXPECT_EQ(try_access(VA, R, SIM_USER), FAULT(4));
        *hand.entry[level] = all | (1ull << 50);
        EXPECT_EQ(try_access(VA, R, SIM_USER), FAULT(0xd));
        sim_shutdown(hand.sim);
    }
}

TEST(mmu, a_table_entry_with_ps_is_reserved_where_no_page_is_so_large)
{
    struct hand hand = hand_boot(5, SIM_NO_1G, P | W | U);

    for (unsigned level = 2; level < 5; level++) {
        *hand.entry[level] |= PS;
        EXPECT_EQ(try_access(VA, R, SIM_USER), FAULT(0xd));
        *hand.entry[level] &= ~PS;
    }
    EXPECT_EQ(try_access(VA, R, SIM_USER), 0);
    sim_shutdown(hand.sim);
}

TEST(mmu, large_pages_map_their_whole_extent)
{
    static const uint64_t offset[] = {0, 0x1fffff, 0x3fffffff};

    for (unsigned level = 1; level < 3; level++) {
        struct hand hand = hand_boot(4, 0, 0);
        uint64_t mask = offset[level];
        struct sim_access access = {
            .va = qr_va_of((VA & ~mask) + mask - 8), .access = WR, .mode = SIM_USER};
        unsigned code;
        qr_pa pa;

        *hand.entry[level] = 0x40000000 | P | W | U | PS;
        ASSERT_TRUE(sim_translate(access, &pa, &code));
        EXPECT_EQ(pa.v, 0x40000000 + mask - 8);
        EXPECT_EQ(*hand.entry[level] & (A | D), A | D);
        /* One entry for all of it. */
        EXPECT_EQ(try_access(VA & ~mask, R, SIM_USER), 0);
        EXPECT_EQ(sim_tlb_count(hand.sim, 0), 1);
        qr_arch_flush_all(QR_FLUSH_HERE);
        *hand.entry[level] |= 1ull << 13;
        EXPECT_EQ(try_access(VA, R, SIM_USER), FAULT(0xd));
        sim_shutdown(hand.sim);
    }
}

TEST(mmu, accessed_and_dirty_are_set_when_and_only_when_used)
{
    struct hand hand = hand_boot(4, 0, P | W | U);

    EXPECT_EQ(try_access(VA, R, SIM_USER), 0);
    EXPECT_EQ(*hand.entry[0] & (A | D), A);
    for (unsigned level = 1; level < 4; level++)
        EXPECT_EQ(*hand.entry[level] & (A | D), A);
    EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
    EXPECT_EQ(*hand.entry[0] & (A | D), A | D);
    /* A fault sets nothing in the leaf. */
    *hand.entry[0] = DATA | P | U;
    qr_arch_flush_all(QR_FLUSH_HERE);
    EXPECT_EQ(try_access(VA, WR, SIM_USER), FAULT(7));
    EXPECT_EQ(*hand.entry[0] & (A | D), 0);
    sim_shutdown(hand.sim);
}

TEST(mmu, addresses_beyond_the_translated_width_are_no_page_faults)
{
    struct hand four = hand_boot(4, 0, P | U);

    EXPECT_EQ(try_access(0x0000800000000000ull, R, SIM_USER), FAULT(SIM_FAULT_NONCANONICAL));
    EXPECT_EQ(try_access(0xffff7fffffffffffull, R, SIM_USER), FAULT(SIM_FAULT_NONCANONICAL));
    EXPECT_EQ(try_access(0x00007fffffffffffull, R, SIM_USER), FAULT(4));
    EXPECT_EQ(try_access(0xffff800000000000ull, R, SIM_USER), FAULT(4));
    sim_shutdown(four.sim);

    struct hand five = hand_boot(5, 0, P | U);

    EXPECT_EQ(try_access(0x0000800000000000ull, R, SIM_USER), FAULT(4));
    EXPECT_EQ(try_access(0x0100000000000000ull, R, SIM_USER), FAULT(SIM_FAULT_NONCANONICAL));
    EXPECT_EQ(try_access(0xff00000000000000ull, R, SIM_USER), FAULT(4));
    sim_shutdown(five.sim);
}

/* ---- The TLB ------------------------------------------------------------------- */

TEST(mmu, an_entry_stays_until_it_is_flushed)
{
    struct hand hand = hand_boot(4, SIM_NO_ORACLE, P | W | U);

    EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
    *hand.entry[0] = 0;
    for (unsigned i = 0; i < 100; i++)
        EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
    EXPECT_EQ(sim_stats(hand.sim).stale_hits, 100);
    flush_page(1, qr_va_of(VA), false);
    EXPECT_EQ(try_access(VA, WR, SIM_USER), FAULT(6));
    sim_shutdown(hand.sim);
}

static void
use_stale(void *context)
{
    struct hand hand = hand_boot(4, 0, P | W | U);
    unsigned what = *(unsigned *)context;

    EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
    switch (what) {
    case 0: /* taken out */
        *hand.entry[0] = 0;
        break;
    case 1: /* rights taken */
        *hand.entry[0] &= ~W;
        break;
    case 2: /* another page */
        *hand.entry[0] += 0x1000;
        break;
    case 3: /* dirty must be seen to be set again */
        *hand.entry[0] &= ~D;
        break;
    case 4: /* the table above */
        *hand.entry[2] = 0;
        break;
    case 5: /* a flush of another address */
        *hand.entry[0] = 0;
        flush_page(1, qr_va_of(VA + 4096), false);
        break;
    case 6: /* a flush of another space */
        *hand.entry[0] = 0;
        qr_arch_flush_asid(2, QR_FLUSH_HERE);
        break;
    case 7: /* a switch that keeps */
        *hand.entry[0] = 0;
        qr_arch_root_switch(qr_pa_of(ROOT + 4096), 1, true);
        break;
    case 8: /* a flush on the other CPU */
        *hand.entry[0] = 0;
        sim_enter(hand.sim, 1);
        qr_arch_flush_all(QR_FLUSH_HERE);
        sim_enter(hand.sim, 0);
        break;
    }
    EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
}

TEST(mmu, the_oracle_sees_every_kind_of_staleness)
{
    for (unsigned what = 0; what < 9; what++) {
        char message[300];

        ASSERT_TRUE(sim_catch(use_stale, &what, message, sizeof(message)));
        EXPECT_CONTAINS(message, "stale TLB: CPU 0 uses a TLB entry for 0x12345678000");
    }
}

TEST(mmu, rights_that_grew_or_that_nobody_uses_are_not_stale)
{
    struct hand hand = hand_boot(4, 0, P | U);

    EXPECT_EQ(try_access(VA, R, SIM_USER), 0);
    *hand.entry[0] |= W;
    /* Spurious: the entry says no, the table yes; the fault drops the entry. */
    EXPECT_EQ(try_access(VA, WR, SIM_USER), FAULT(7));
    EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
    *hand.entry[0] &= ~(W | A);
    EXPECT_EQ(try_access(VA, R, SIM_USER), 0);
    EXPECT_EQ(sim_stats(hand.sim).stale_hits, 0);
    sim_shutdown(hand.sim);
}

TEST(mmu, entries_are_apart_by_asid_and_global_ones_are_not)
{
    struct hand hand = hand_boot(4, 0, P | W | U | G);
    uint64_t *other = slot_of(hand.sim, 0, VA + 4096);

    *other = DATA | P | U;
    EXPECT_EQ(try_access(VA, R, SIM_USER), 0);
    EXPECT_EQ(try_access(VA + 4096, R, SIM_USER), 0);
    qr_arch_root_switch(qr_pa_of(table_pa(3)), 2, false);
    EXPECT_TRUE(sim_tlb_has(qr_va_of(VA)));
    EXPECT_FALSE(sim_tlb_has(qr_va_of(VA + 4096)));
    /* All of an ASID leaves global entries, and the other ASID. */
    qr_arch_flush_asid(2, QR_FLUSH_HERE);
    EXPECT_TRUE(sim_tlb_has(qr_va_of(VA)));
    qr_arch_root_switch(qr_pa_of(table_pa(3)), 1, true);
    EXPECT_TRUE(sim_tlb_has(qr_va_of(VA + 4096)));
    qr_arch_root_switch(qr_pa_of(table_pa(3)), 1, false);
    EXPECT_FALSE(sim_tlb_has(qr_va_of(VA + 4096)));
    EXPECT_TRUE(sim_tlb_has(qr_va_of(VA)));
    flush_page(1, qr_va_of(VA), false);
    EXPECT_TRUE(sim_tlb_has(qr_va_of(VA)));
    flush_page(1, qr_va_of(VA), true);
    EXPECT_FALSE(sim_tlb_has(qr_va_of(VA)));
    sim_shutdown(hand.sim);
}

static void
use_stale_table(void *context)
{
    bool page_flush = *(bool *)context;
    struct hand hand = hand_boot(4, SIM_LEAF_FLUSH, P | W | U);
    uint64_t *other = slot_of(hand.sim, 0, VA + 4096);

    *other = DATA | P | W | U;
    EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
    *hand.entry[1] = 0;
    if (page_flush)
        flush_page(1, qr_va_of(VA), false);
    try_access(VA + 4096, R, SIM_USER);
}

TEST(mmu, walk_caches_are_stale_too)
{
    bool page_flush = false;
    char message[300];

    ASSERT_TRUE(sim_catch(use_stale_table, &page_flush, message, sizeof(message)));
    EXPECT_CONTAINS(message, "a walk-cache entry");
    /* Where page flushes reach leaves alone they do not help. */
    page_flush = true;
    ASSERT_TRUE(sim_catch(use_stale_table, &page_flush, message, sizeof(message)));
    EXPECT_CONTAINS(message, "a walk-cache entry");
}

TEST(mmu, a_page_flush_of_the_running_asid_drops_its_walk_caches)
{
    struct hand hand = hand_boot(4, 0, P | W | U);

    EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
    *hand.entry[1] = 0;
    flush_page(1, qr_va_of(VA), false);
    EXPECT_EQ(try_access(VA + 4096, R, SIM_USER), FAULT(4));
    sim_shutdown(hand.sim);
}

TEST(mmu, a_flush_of_one_page_of_a_large_one_drops_all_of_it)
{
    struct hand hand = hand_boot(4, 0, 0);

    *hand.entry[1] = 0x40000000 | P | W | U | PS;
    EXPECT_EQ(try_access(VA, R, SIM_USER), 0);
    flush_page(1, qr_va_of((VA & ~0x1fffffull) + 0x5000), false);
    EXPECT_FALSE(sim_tlb_has(qr_va_of(VA)));
    sim_shutdown(hand.sim);
}

TEST(mmu, speculation_fills_and_eviction_empties_as_the_seed_says)
{
    struct hand hand = hand_boot(4, SIM_SPECULATE | SIM_EVICT, P | W | U);

    for (unsigned i = 1; i < 8; i++)
        *slot_of(hand.sim, 0, VA + i * 4096) = DATA | P | U;
    for (unsigned i = 0; i < 500; i++)
        EXPECT_EQ(try_access(VA, R, SIM_USER), 0);
    EXPECT_GT(sim_stats(hand.sim).speculative_fills, 5);
    EXPECT_GT(sim_stats(hand.sim).evictions, 5);
    sim_shutdown(hand.sim);
}

TEST(mmu, a_dropped_flush_is_found)
{
    struct hand hand = hand_boot(4, SIM_NO_ORACLE, P | W | U);

    EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
    sim_drop_flush(hand.sim, 2);
    qr_arch_flush_all(QR_FLUSH_HERE); /* removes nothing stale: does not count */
    EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
    *hand.entry[0] &= ~W;
    qr_arch_flush_all(QR_FLUSH_HERE); /* the first that counts */
    EXPECT_EQ(try_access(VA, R, SIM_USER), 0);
    *hand.entry[0] = 0;
    qr_arch_flush_all(QR_FLUSH_HERE); /* the second: dropped */
    EXPECT_EQ(try_access(VA, R, SIM_USER), 0);
    EXPECT_EQ(sim_stats(hand.sim).flushes_dropped, 1);
    EXPECT_EQ(sim_stats(hand.sim).stale_hits, 1);
    sim_shutdown(hand.sim);
}

TEST(mmu, a_flush_under_way_excuses_until_its_end)
{
    struct hand hand = hand_boot(4, SIM_NO_ORACLE, P | W | U);
    struct sim_flush flush = {
        .root = qr_pa_of(table_pa(3)),
        .range_count = 1,
        .ranges = {{qr_va_of(VA), qr_va_of(VA + 4096)}},
    };

    EXPECT_EQ(try_access(VA, WR, SIM_USER), 0);
    *hand.entry[0] = 0;
    sim_flush_begin(hand.sim, &flush);
    sim_flush_end(hand.sim, &flush);
    EXPECT_EQ(try_access(VA, R, SIM_USER), 0);
    EXPECT_EQ(sim_stats(hand.sim).stale_hits, 1);
    sim_shutdown(hand.sim);
}

TEST(mmu, the_cache_attribute_is_read_from_its_three_bits)
{
    struct hand hand = hand_boot(4, 0, P | U);
    qr_pa root = qr_pa_of(table_pa(3));

    EXPECT_EQ(sim_walk(hand.sim, root, qr_va_of(VA)).cache, QR_CACHE_WRITE_BACK);
    *hand.entry[0] = DATA | P | (1ull << 3);
    EXPECT_EQ(sim_walk(hand.sim, root, qr_va_of(VA)).cache, QR_CACHE_WRITE_THROUGH);
    *hand.entry[0] = DATA | P | (1ull << 4) | (1ull << 3);
    EXPECT_EQ(sim_walk(hand.sim, root, qr_va_of(VA)).cache, QR_CACHE_UNCACHED);
    *hand.entry[0] = DATA | P | PS | (1ull << 4);
    EXPECT_EQ(sim_walk(hand.sim, root, qr_va_of(VA)).cache, QR_CACHE_WRITE_COMBINING);
    sim_shutdown(hand.sim);
}
