/* SPDX-License-Identifier: MIT */
/*
 * AArch64 stage 1 translation against the Arm ARM, D8.2 to D8.7 and D8.16: every
 * granule, every level, every permission.
 */
#include "hand.h"

#define VALID       (1ull << 0)
#define TABLE       (3ull << 0)
#define PAGE        (3ull << 0)
#define BLOCK       (1ull << 0)
#define ATTR(n)     ((uint64_t)(n) << 2)
#define AP(n)       ((uint64_t)(n) << 6) /* AP[2:1] */
#define SH          (3ull << 8)
#define AF          (1ull << 10)
#define NG          (1ull << 11)
#define DBM         (1ull << 51)
#define CONTIGUOUS  (1ull << 52)
#define PXN         (1ull << 53)
#define UXN         (1ull << 54)
#define PXN_TABLE   (1ull << 59)
#define UXN_TABLE   (1ull << 60)
#define AP_TABLE(n) ((uint64_t)(n) << 61)

#define READ   QR_ACCESS_READ
#define WRITE  QR_ACCESS_WRITE
#define EXEC   QR_ACCESS_EXEC
#define ABSENT HAND_FAULT(SIM_FAULT_USER)
#define DENIED HAND_FAULT(SIM_FAULT_PRESENT | SIM_FAULT_USER)
#define BAD    HAND_FAULT(SIM_FAULT_PRESENT | SIM_FAULT_USER | SIM_FAULT_RESERVED)

#define VA   0x12340000ull /* aligned for every granule */
#define DATA 0x87650000ull

static const struct hand_shape kib4 = {SIM_MMU_AARCH64_4K, 12, 4, 9, 9, 8};
static const struct {
    struct hand_shape shape;
    unsigned va_bits, pa_bits;
    unsigned blocks; /* bit L: a block may stand at level L */
    unsigned pages_together, blocks_together;
} granules[] = {
    {{SIM_MMU_AARCH64_4K, 12, 4, 9, 9, 8}, 48, 48, 6, 16, 16},
    {{SIM_MMU_AARCH64_4K_39, 12, 3, 9, 9, 8}, 39, 48, 6, 16, 16},
    {{SIM_MMU_AARCH64_4K_52, 12, 5, 9, 4, 8}, 52, 52, 14, 16, 16},
    {{SIM_MMU_AARCH64_16K, 14, 3, 11, 11, 8}, 47, 48, 2, 128, 32},
    {{SIM_MMU_AARCH64_16K_48, 14, 4, 11, 1, 8}, 48, 48, 2, 128, 32},
    {{SIM_MMU_AARCH64_16K_52, 14, 4, 11, 5, 8}, 52, 52, 6, 128, 32},
    {{SIM_MMU_AARCH64_64K, 16, 3, 13, 6, 8}, 48, 48, 2, 32, 32},
    {{SIM_MMU_AARCH64_64K_42, 16, 2, 13, 13, 8}, 42, 48, 2, 32, 32},
    {{SIM_MMU_AARCH64_64K_52, 16, 3, 13, 10, 8}, 52, 52, 6, 32, 32},
};
enum { GRANULES = sizeof(granules) / sizeof(granules[0]) };

static struct hand
boot_to(const struct hand_shape *shape, unsigned features, uint64_t leaf)
{
    struct hand hand = hand_boot(shape, features, VA);

    hand_set(&hand, 0, leaf);
    for (unsigned level = 1; level < shape->levels; level++)
        hand_set(&hand, level, hand_table(&hand, level - 1) | TABLE);
    hand_load(&hand);
    return hand;
}

/* ---- Rights ------------------------------------------------------------------- */

/* D8.4, the table of data and instruction access permissions, by AP[2:1]. */
static const struct {
    const char *el1, *el0; /* with neither PXN nor UXN */
} permissions[4] = {
    {"rwx", "--x"}, /* EL1 alone */
    {"rw-", "rwx"}, /* both; EL1 never executes what EL0 may write */
    {"r-x", "--x"}, /* EL1 alone, read-only */
    {"r-x", "r-x"}, /* both, read-only */
};

static void
forbid(char *text, char right)
{
    for (; *text != '\0'; text++)
        *text = *text == right ? '-' : *text;
}

TEST(mmu_aarch64, permissions_of_a_leaf)
{
    for (unsigned i = 0; i < 32; i++) {
        unsigned ap = i & 3;
        bool copy = (i & 16) != 0;
        struct hand hand = boot_to(&kib4, SIM_NO_DIRTY,
                                   DATA | PAGE | AP(ap) | AF | NG | ((i & 4) != 0 ? PXN : 0) |
                                       ((i & 8) != 0 ? UXN : 0));
        char got[7], wanted[7] = "";

        memcpy(wanted, permissions[ap].el0, 3);
        memcpy(wanted + 3, permissions[ap].el1, 4);
        if ((i & 4) != 0)
            forbid(wanted + 3, 'x');
        if ((i & 8) != 0)
            wanted[2] = '-';
        if ((ap & 1) != 0 && !copy) /* PAN: no data that EL0 may reach */
            wanted[3] = wanted[4] = '-';
        hand_rights(&hand, copy ? SIM_KERNEL_COPY : SIM_KERNEL, got);
        if (strcmp(got, wanted) != 0)
            TEST_FAIL("AP %u%s%s%s: got %s, the manual says %s", ap, (i & 4) != 0 ? " PXN" : "",
                      (i & 8) != 0 ? " UXN" : "", copy ? " in a copy" : "", got, wanted);
        sim_shutdown(hand.sim);
    }
}

/*
 * Tables take away.  APTable 1: nothing for EL0; 2: no writes; 3: both.  As if the
 * leaf had said so: APTable 1 on AP 01 gives AP 00, and EL1 executes again.
 */
TEST(mmu_aarch64, permissions_that_tables_take)
{
    for (unsigned i = 0; i < 4u * 4 * 4 * 3; i++) {
        unsigned ap = i & 3, ap_table = i >> 2 & 3, level = 1 + i / 64;
        unsigned combined = (ap | (ap_table & 2)) & ((ap_table & 1) != 0 ? 2u : 3u);
        bool no_pxn = (i & 16) == 0, no_uxn = (i & 32) == 0;
        struct hand hand = boot_to(&kib4, 0, DATA | PAGE | AP(ap) | AF | NG);
        char got[7], wanted[7] = "";

        hand_set(&hand, level,
                 hand_get(&hand, level) | AP_TABLE(ap_table) | (no_pxn ? 0 : PXN_TABLE) |
                     (no_uxn ? 0 : UXN_TABLE));
        memcpy(wanted, permissions[combined].el0, 3);
        memcpy(wanted + 3, permissions[combined].el1, 4);
        if (!no_pxn)
            forbid(wanted + 3, 'x');
        if (!no_uxn)
            wanted[2] = '-';
        hand_rights(&hand, SIM_KERNEL_COPY, got);
        if (strcmp(got, wanted) != 0)
            TEST_FAIL("AP %u, APTable %u, %u %u at level %u: got %s, the manual says %s", ap,
                      ap_table, no_pxn, no_uxn, level, got, wanted);
        sim_shutdown(hand.sim);
    }
}

/* ---- State -------------------------------------------------------------------- */

TEST(mmu_aarch64, access_flag)
{
    uint64_t leaf = DATA | PAGE | AP(1) | NG;
    struct hand hand = boot_to(&kib4, 0, leaf);

    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    EXPECT_EQ(hand_get(&hand, 0), leaf | AF);
    sim_shutdown(hand.sim);

    /* By software: a fault of its own, which comes before that for rights. */
    hand = boot_to(&kib4, SIM_NO_AD, DATA | PAGE | AP(3) | NG);
    EXPECT_EQ(hand_try(VA, WRITE, SIM_USER),
              HAND_FAULT(SIM_FAULT_PRESENT | SIM_FAULT_USER | SIM_FAULT_WRITE | SIM_FAULT_STATE));
    hand_set(&hand, 0, DATA | PAGE | AP(3) | NG | AF);
    EXPECT_EQ(hand_try(VA, WRITE, SIM_USER), DENIED | SIM_FAULT_WRITE);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    sim_shutdown(hand.sim);
}

TEST(mmu_aarch64, dirty_state)
{
    uint64_t clean = DATA | PAGE | AP(3) | AF | NG | DBM;
    struct hand hand = boot_to(&kib4, 0, clean);

    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    EXPECT_EQ(hand_get(&hand, 0), clean);
    EXPECT_EQ(hand_try(VA, WRITE, SIM_USER), 0);
    EXPECT_EQ(hand_get(&hand, 0), clean & ~AP(2));
    sim_shutdown(hand.sim);

    /* Without hardware for it, or without DBM, AP[2] means read-only. */
    hand = boot_to(&kib4, SIM_NO_DIRTY, clean);
    EXPECT_EQ(hand_try(VA, WRITE, SIM_USER), DENIED | SIM_FAULT_WRITE);
    sim_shutdown(hand.sim);
    hand = boot_to(&kib4, 0, clean & ~DBM);
    EXPECT_EQ(hand_try(VA, WRITE, SIM_USER), DENIED | SIM_FAULT_WRITE);
    EXPECT_EQ(hand_get(&hand, 0), clean & ~DBM);
    sim_shutdown(hand.sim);
}

/* ---- Shapes ------------------------------------------------------------------- */

TEST(mmu_aarch64, pages_of_every_granule)
{
    for (unsigned i = 0; i < GRANULES; i++) {
        const struct hand_shape *shape = &granules[i].shape;
        uint64_t leaf = DATA | PAGE | AP(1) | AF | NG, pa = 0;
        struct hand hand = boot_to(shape, 0, leaf);
        uint64_t last = (1ull << shape->granule) - 8;

        EXPECT_EQ(hand_try_pa(VA + last, WRITE, SIM_USER, &pa), 0);
        EXPECT_EQ(pa, DATA + last);
        EXPECT_EQ(hand_get(&hand, 0), leaf);
        for (unsigned level = 0; level < shape->levels; level++) {
            uint64_t entry = hand_get(&hand, level);

            qr_arch_flush_all(QR_FLUSH_HERE);
            hand_set(&hand, level, entry & ~VALID);
            EXPECT_EQ(hand_try(VA, READ, SIM_USER), ABSENT);
            hand_set(&hand, level, entry);
        }
        /* 01 is nothing at the lowest level. */
        hand_set(&hand, 0, leaf & ~2ull);
        EXPECT_EQ(hand_try(VA, READ, SIM_USER), ABSENT);
        sim_shutdown(hand.sim);
    }
}

TEST(mmu_aarch64, blocks_of_every_granule)
{
    for (unsigned i = 0; i < GRANULES; i++) {
        const struct hand_shape *shape = &granules[i].shape;

        for (unsigned level = 1; level < shape->levels; level++) {
            struct hand hand = boot_to(shape, 0, 0);
            uint64_t mask = (1ull << hand_shift(&hand, level)) - 1, pa = 0;
            uint64_t frame = (mask + 1) & ((1ull << 47) - 1), block = frame | BLOCK | AP(1) | AF;

            hand_set(&hand, level, block);
            if ((granules[i].blocks >> level & 1) == 0) {
                EXPECT_EQ(hand_try(VA, READ, SIM_USER), ABSENT);
                sim_shutdown(hand.sim);
                continue;
            }
            EXPECT_EQ(hand_try_pa(VA + 8, WRITE, SIM_USER, &pa), 0);
            EXPECT_EQ(pa, frame + (VA & mask) + 8);
            EXPECT_EQ(sim_tlb_count(hand.sim, 0), 1);
            for (unsigned bit = 17; mask >> bit != 0; bit++) { /* 16 is nT */
                qr_arch_flush_all(QR_FLUSH_HERE);
                hand_set(&hand, level, block | 1ull << bit);
                EXPECT_EQ(hand_try(VA, READ, SIM_USER), BAD);
            }
            sim_shutdown(hand.sim);
        }
    }
}

/* The high bits of 52-bit addresses stand in odd places. */
TEST(mmu_aarch64, wide_addresses)
{
    for (unsigned i = 0; i < GRANULES; i++) {
        bool lpa2 = granules[i].shape.granule != 16;
        uint64_t entry = DATA | PAGE | AP(1) | AF, pa = 0;
        struct hand hand;

        if (granules[i].pa_bits != 52)
            continue;
        entry |= lpa2 ? 3ull << 48 | 2ull << 8 : 11ull << 12;
        hand = boot_to(&granules[i].shape, 0, entry);
        EXPECT_EQ(hand_try_pa(VA, READ, SIM_USER, &pa), 0);
        EXPECT_EQ(pa, DATA | 11ull << 48);
        sim_shutdown(hand.sim);
    }
    struct hand narrow = boot_to(&kib4, 0, DATA | PAGE | AP(1) | AF | 1ull << 48);

    EXPECT_EQ(hand_try(VA, READ, SIM_USER), BAD);
    sim_shutdown(narrow.sim);
}

TEST(mmu_aarch64, two_roots)
{
    for (unsigned i = 0; i < GRANULES; i++) {
        uint64_t limit = 1ull << granules[i].va_bits;
        struct hand hand = boot_to(&granules[i].shape, 0, DATA | PAGE | AP(1) | AF | NG);
        unsigned top = granules[i].shape.levels - 1;

        EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
        EXPECT_EQ(hand_try(limit, READ, SIM_USER), ABSENT);
        EXPECT_EQ(hand_try(VA - limit, READ, SIM_USER), ABSENT); /* no second root yet */
        EXPECT_EQ(hand_try(-limit - 4096, READ, SIM_USER), ABSENT);
        sim_set_upper_root(qr_pa_of(hand_table(&hand, top)));
        EXPECT_EQ(hand_try(VA - limit, READ, SIM_USER), 0);
        EXPECT_TRUE(sim_tlb_has(qr_va_of((uintptr_t)(VA - limit))));
        sim_shutdown(hand.sim);
    }
}

TEST(mmu_aarch64, memory_types_by_mair)
{
    static const unsigned types[5] = {QR_CACHE_WRITE_BACK, QR_CACHE_WRITE_THROUGH,
                                      QR_CACHE_WRITE_COMBINING, QR_CACHE_UNCACHED,
                                      QR_CACHE_WRITE_BACK};
    struct hand hand = boot_to(&kib4, 0, 0);

    for (unsigned i = 0; i < 5; i++) {
        hand_set(&hand, 0, DATA | PAGE | AF | ATTR(i));
        EXPECT_EQ(sim_walk(hand.sim, qr_pa_of(hand_table(&hand, 3)), qr_va_of(VA)).cache, types[i]);
    }
    sim_shutdown(hand.sim);
}

TEST(mmu_aarch64, global_and_tagged)
{
    for (unsigned global = 0; global < 2; global++) {
        struct hand hand = boot_to(&kib4, 0, DATA | PAGE | AP(1) | AF | (global ? 0 : NG));

        EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
        qr_arch_flush_asid(1, QR_FLUSH_HERE);
        EXPECT_EQ(sim_tlb_has(qr_va_of(VA)), global);
        sim_shutdown(hand.sim);
    }
}

/* ---- The contiguous hint ------------------------------------------------------- */

static void
set_group(const struct hand *hand, unsigned level, unsigned count, uint64_t entry)
{
    uint64_t bytes = 1ull << hand_shift(hand, level);
    uint64_t start = VA & ~(count * bytes - 1);

    for (unsigned i = 0; i < count; i++)
        hand_set_at(hand, level, start + i * bytes, entry == 0 ? 0 : entry + i * bytes);
}

TEST(mmu_aarch64, contiguous_pages_are_one_entry)
{
    for (unsigned i = 0; i < GRANULES; i++) {
        struct hand hand = boot_to(&granules[i].shape, 0, 0);
        unsigned count = granules[i].pages_together;
        uint64_t bytes = (uint64_t)count << granules[i].shape.granule;
        uint64_t start = VA & ~(bytes - 1), frame = 0x40000000, pa = 0;

        set_group(&hand, 0, count, frame | PAGE | AP(1) | AF | NG | CONTIGUOUS);
        EXPECT_EQ(hand_try(start + bytes / 2, READ, SIM_USER), 0);
        EXPECT_EQ(hand_try_pa(start + bytes - 8, READ, SIM_USER, &pa), 0);
        EXPECT_EQ(pa, frame + bytes - 8);
        EXPECT_EQ(sim_tlb_count(hand.sim, 0), 1);
        EXPECT_FALSE(sim_tlb_has(qr_va_of(start + bytes)));
        /* A flush of any page of the group drops the entry. */
        hand_flush_page(&hand, start, granules[i].shape.granule);
        EXPECT_EQ(sim_tlb_count(hand.sim, 0), 0);
        sim_shutdown(hand.sim);
    }
}

TEST(mmu_aarch64, contiguous_blocks_are_one_entry)
{
    for (unsigned i = 0; i < GRANULES; i++) {
        struct hand hand = boot_to(&granules[i].shape, 0, 0);
        unsigned count = granules[i].blocks_together;
        uint64_t bytes = (uint64_t)count << hand_shift(&hand, 1);

        set_group(&hand, 1, count, BLOCK | AP(1) | AF | CONTIGUOUS);
        EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
        EXPECT_TRUE(sim_tlb_has(qr_va_of(VA & ~(bytes - 1))));
        EXPECT_TRUE(sim_tlb_has(qr_va_of((VA & ~(bytes - 1)) + bytes - 1)));
        EXPECT_EQ(sim_tlb_count(hand.sim, 0), 1);
        sim_shutdown(hand.sim);
    }
}

static void
use_group(void *context)
{
    struct hand hand = boot_to(&kib4, 0, 0);
    uint64_t wrong = *(uint64_t *)context;
    uint64_t other = (VA & ~0xffffull) + 0x9000;

    set_group(&hand, 0, 16, 0x40000000 | PAGE | AP(1) | AF | CONTIGUOUS);
    hand_set_at(&hand, 0, other, hand_get_at(&hand, 0, other) ^ wrong);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    sim_shutdown(hand.sim);
}

TEST(mmu_aarch64, a_group_that_disagrees_is_reported)
{
    const uint64_t wrong[] = {CONTIGUOUS, 0x1000, 0x100000, ATTR(1), NG, AP(1), UXN};
    const uint64_t fine[] = {AF, 1ull << 55, 0};
    char message[300] = "";

    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint64_t bits = wrong[i];

        ASSERT_TRUE(sim_catch(use_group, &bits, message, sizeof(message)));
        EXPECT_CONTAINS(message, "contiguous entries");
    }
    for (unsigned i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
        uint64_t bits = fine[i];

        EXPECT_FALSE(sim_catch(use_group, &bits, message, sizeof(message)));
    }
}

/* ---- Break before make ---------------------------------------------------------- */

enum change { RIGHTS, FRAME, TYPE, GLOBAL, TO_BLOCK, TO_TABLE, HINT, SOFTWARE, CHANGES };

static void
change_live(void *context)
{
    unsigned what = *(unsigned *)context & 15;
    bool broken = (*(unsigned *)context & 16) != 0;
    bool level2 = (*(unsigned *)context & 32) != 0;
    uint64_t page = 0x40000000 | (VA & 0xff000) | PAGE | AP(1) | AF | NG;
    uint64_t block = (0x40000000 & ~0x1fffffull) | BLOCK | AP(1) | AF | NG;
    struct hand hand = boot_to(&kib4, level2 ? SIM_BBM2 : 0, page);
    uint64_t table = hand_get(&hand, 1), old, new;
    unsigned level = what == TO_BLOCK || what == TO_TABLE ? 1 : 0;

    for (unsigned i = 0; i < 512; i++) /* the same meaning, page by page */
        hand_set_at(&hand, 0, (VA & ~0x1fffffull) + i * 4096ull,
                    (0x40000000ull + i * 4096ull) | PAGE | AP(1) | AF | NG);
    if (what == TO_TABLE)
        hand_set(&hand, 1, block);
    old = hand_get(&hand, level);
    new = what == TO_BLOCK ? block : what == TO_TABLE ? table : old;
    new ^= what == RIGHTS ? PXN : what == FRAME ? 0x200000 : what == TYPE ? ATTR(1) : 0;
    new ^= what == GLOBAL ? NG : what == HINT ? CONTIGUOUS : what == SOFTWARE ? 1ull << 55 : 0;
    if (what == HINT) /* all of the group must be changed */
        set_group(&hand, 0, 16, (old & ~0xf000ull) | CONTIGUOUS);
    if (what == HINT)
        hand_set(&hand, 0, old);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    if (broken) {
        hand_set(&hand, level, 0);
        qr_arch_flush_all(QR_FLUSH_EVERYWHERE);
    }
    hand_set(&hand, level, new);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    sim_shutdown(hand.sim);
}

static bool
is_reported(unsigned what, char *message, size_t bytes)
{
    message[0] = '\0';
    return sim_catch(change_live, &what, message, bytes);
}

TEST(mmu_aarch64, break_before_make)
{
    for (unsigned what = 0; what < CHANGES; what++) {
        bool allowed = what == RIGHTS || what == SOFTWARE;
        bool size = what == TO_BLOCK || what == TO_TABLE || what == HINT;
        char message[300];

        EXPECT_EQ(is_reported(what, message, sizeof(message)), !allowed);
        if (!allowed)
            EXPECT_CONTAINS(message, "break-before-make");
        EXPECT_FALSE(is_reported(what | 16, message, sizeof(message)));
        EXPECT_EQ(is_reported(what | 32, message, sizeof(message)), !allowed && !size);
    }
}

/* ---- Flushes --------------------------------------------------------------------- */

TEST(mmu_aarch64, flushes_reach_every_cpu)
{
    struct hand hand = boot_to(&kib4, 0, DATA | PAGE | AP(1) | AF | NG);

    EXPECT_TRUE(qr_arch_flush_broadcasts());
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    sim_enter(hand.sim, 1);
    hand_load(&hand);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    qr_arch_flush_asid(1, QR_FLUSH_EVERYWHERE);
    EXPECT_EQ(sim_tlb_count(hand.sim, 0), 0);
    EXPECT_EQ(sim_tlb_count(hand.sim, 1), 0);
    sim_enter(hand.sim, 0);
    sim_shutdown(hand.sim);
}

TEST(mmu_aarch64, a_fault_forgets_nothing)
{
    struct hand hand = boot_to(&kib4, 0, DATA | PAGE | AP(3) | AF | NG);

    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    hand_set(&hand, 0, DATA | PAGE | AP(1) | AF | NG);
    for (unsigned i = 0; i < 3; i++)
        EXPECT_EQ(hand_try(VA, WRITE, SIM_USER), DENIED | SIM_FAULT_WRITE);
    hand_flush_page(&hand, VA, 12);
    EXPECT_EQ(hand_try(VA, WRITE, SIM_USER), 0);
    sim_shutdown(hand.sim);
}
