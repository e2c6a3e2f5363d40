/* SPDX-License-Identifier: MIT */
/*
 * Sv39, Sv48 and Sv57 against the RISC-V privileged architecture, chapters 10.4
 * to 10.6, Svnapot and Svpbmt.
 */
#include "hand.h"

#define V (1ull << 0)
#define R (1ull << 1)
#define W (1ull << 2)
#define X (1ull << 3)
#define U (1ull << 4)
#define G (1ull << 5)
#define A (1ull << 6)
#define D (1ull << 7)
#define N (1ull << 63)

#define READ  QR_ACCESS_READ
#define WRITE QR_ACCESS_WRITE
#define EXEC  QR_ACCESS_EXEC

#define VA      0x1234567000ull
#define PPN(pa) ((uint64_t)(pa) >> 12 << 10)
#define DATA    0x87654321000ull
#define NOTHING 0x0 /* fault codes of a read by a user */
#define DENIED  (SIM_FAULT_PRESENT | SIM_FAULT_USER)
#define STATE   (DENIED | SIM_FAULT_STATE)
#define BAD     (DENIED | SIM_FAULT_RESERVED)

static const struct hand_shape shapes[3] = {
    {SIM_MMU_RISCV64_SV39, 12, 3, 9, 9, 8},
    {SIM_MMU_RISCV64_SV48, 12, 4, 9, 9, 8},
    {SIM_MMU_RISCV64_SV57, 12, 5, 9, 9, 8},
};

static struct hand
boot_to(const struct hand_shape *shape, unsigned features, uint64_t leaf)
{
    struct hand hand = hand_boot(shape, features, VA);

    hand_set(&hand, 0, leaf);
    for (unsigned level = 1; level < shape->levels; level++)
        hand_set(&hand, level, PPN(hand_table(&hand, level - 1)) | V);
    hand_load(&hand);
    return hand;
}

/* The table of 10.4.1: what R, W and X mean, for a user's page and for the kernel's. */
static const struct {
    const char *bits;
    const char *without_mxr, *with_mxr; /* NULL: not a leaf, or reserved */
} meanings[8] = {
    {"---", NULL, NULL},   {"r--", "r--", "r--"}, {"-w-", NULL, NULL}, {"rw-", "rw-", "rw-"},
    {"--x", "--x", "r-x"}, {"r-x", "r-x", "r-x"}, {"-wx", NULL, NULL}, {"rwx", "rwx", "rwx"},
};

static void
check_meaning(unsigned rwx, bool user, unsigned features, enum sim_mode mode)
{
    const char *rights =
        (features & SIM_MXR) != 0 ? meanings[rwx].with_mxr : meanings[rwx].without_mxr;
    struct hand hand =
        boot_to(&shapes[0], features, PPN(DATA) | (uint64_t)rwx << 1 | V | (user ? U : 0));
    char got[7], wanted[7] = "------";

    if (rights != NULL && user) {
        memcpy(wanted, rights, 3);
        if (mode == SIM_KERNEL_COPY) /* SUM: data alone */
            memcpy(wanted + 3, rights, 2);
    } else if (rights != NULL) {
        memcpy(wanted + 3, rights, 3);
    }
    hand_rights(&hand, mode, got);
    if (strcmp(got, wanted) != 0)
        TEST_FAIL("%s %s, features %#x, mode %u: got %s, the manual says %s", meanings[rwx].bits,
                  user ? "of a user" : "of the kernel", features, mode, got, wanted);
    sim_shutdown(hand.sim);
}

TEST(mmu_riscv, every_combination_of_rights)
{
    for (unsigned i = 0; i < 64; i++) {
        unsigned features = (i & 16) != 0 ? SIM_MXR : 0;

        check_meaning(i & 7, (i & 8) != 0, features, (i & 32) != 0 ? SIM_KERNEL_COPY : SIM_KERNEL);
    }
}

TEST(mmu_riscv, tables_have_no_rights_to_give)
{
    for (unsigned i = 0; i < 3; i++) {
        struct hand hand = boot_to(&shapes[i], 0, PPN(DATA) | V | R | W | U);
        uint64_t pa = 0;

        EXPECT_EQ(hand_try_pa(VA + 0x123, WRITE, SIM_USER, &pa), 0);
        EXPECT_EQ(pa, DATA + 0x123);
        EXPECT_EQ(hand_get(&hand, 0), PPN(DATA) | V | R | W | U | A | D);
        for (unsigned level = 1; level < shapes[i].levels; level++)
            EXPECT_EQ(hand_get(&hand, level), PPN(hand_table(&hand, level - 1)) | V);
        sim_shutdown(hand.sim);
    }
}

/* Every bit of a leaf and of a table entry, and whether setting it is a fault. */
TEST(mmu_riscv, every_reserved_bit_faults)
{
    uint64_t leaf = PPN(DATA) | V | R | W | U | A | D;
    struct hand hand = boot_to(&shapes[1], 0, leaf);

    for (unsigned bit = 8; bit < 64; bit++) {
        bool reserved = bit >= 54 && bit != 61 && bit != 62; /* N here: PPN[3:0] is not 1000 */
        uint64_t table = hand_get(&hand, 1);

        if (bit >= 10 && bit < 54)
            continue;
        qr_arch_flush_all(QR_FLUSH_HERE);
        hand_set(&hand, 0, leaf | 1ull << bit);
        EXPECT_EQ(hand_try(VA, READ, SIM_USER), reserved ? HAND_FAULT(BAD) : 0);
        hand_set(&hand, 0, leaf);
        qr_arch_flush_all(QR_FLUSH_HERE);
        hand_set(&hand, 1, table | 1ull << bit);
        EXPECT_EQ(hand_try(VA, READ, SIM_USER), bit >= 54 ? HAND_FAULT(BAD) : 0);
        hand_set(&hand, 1, table);
    }
    for (uint64_t bit = U; bit <= D; bit <<= 1) {
        uint64_t table = hand_get(&hand, 2);

        qr_arch_flush_all(QR_FLUSH_HERE);
        hand_set(&hand, 2, table | bit);
        EXPECT_EQ(hand_try(VA, READ, SIM_USER), bit == G ? 0 : HAND_FAULT(BAD));
        hand_set(&hand, 2, table);
    }
    qr_arch_flush_all(QR_FLUSH_HERE);
    hand_set(&hand, 0, leaf | 3ull << 61); /* PBMT 3 */
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), HAND_FAULT(BAD));
    hand_set(&hand, 0, PPN(DATA) | V); /* a pointer at the lowest level */
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), HAND_FAULT(BAD));
    hand_set(&hand, 0, 0);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), HAND_FAULT(SIM_FAULT_USER));
    sim_shutdown(hand.sim);
}

TEST(mmu_riscv, leaves_at_every_level_and_none_misaligned)
{
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned level = 1; level < shapes[i].levels; level++) {
            struct hand hand = boot_to(&shapes[i], 0, 0);
            unsigned shift = 12 + 9 * level;
            uint64_t pa = 0, mask = (1ull << shift) - 1;

            /* The page at address 0 maps all of RAM and more: no data is touched. */
            hand_set(&hand, level, V | R | W | U);
            EXPECT_EQ(hand_try_pa(VA + 0x77, WRITE, SIM_USER, &pa), 0);
            EXPECT_EQ(pa, (VA & mask) + 0x77);
            EXPECT_EQ(hand_get(&hand, level), V | R | W | U | A | D);
            EXPECT_EQ(sim_tlb_count(hand.sim, 0), 1);
            for (unsigned bit = 10; bit < 10 + 9 * level; bit++) {
                qr_arch_flush_all(QR_FLUSH_HERE);
                hand_set(&hand, level, V | R | W | U | 1ull << bit);
                EXPECT_EQ(hand_try(VA, READ, SIM_USER), HAND_FAULT(BAD));
            }
            sim_shutdown(hand.sim);
        }
    }
}

TEST(mmu_riscv, addresses_are_sign_extended)
{
    for (unsigned i = 0; i < 3; i++) {
        struct hand hand = boot_to(&shapes[i], 0, PPN(DATA) | V | R | U);
        uint64_t half = 1ull << (11 + 9 * shapes[i].levels);

        /* Not canonical: a page fault, as any other. */
        EXPECT_EQ(hand_try(half, READ, SIM_USER), HAND_FAULT(SIM_FAULT_USER));
        EXPECT_EQ(hand_try(-half - 4096, READ, SIM_USER), HAND_FAULT(SIM_FAULT_USER));
        hand_set_at(&hand, shapes[i].levels - 1, -half, V | R | U);
        EXPECT_EQ(hand_try(-half, READ, SIM_USER), 0);
        sim_shutdown(hand.sim);
    }
}

TEST(mmu_riscv, accessed_and_dirty_by_fault)
{
    uint64_t leaf = PPN(DATA) | V | R | W | U;
    struct hand hand = boot_to(&shapes[0], SIM_NO_AD, leaf);

    EXPECT_EQ(hand_try(VA, READ, SIM_USER), HAND_FAULT(STATE));
    EXPECT_EQ(hand_get(&hand, 0), leaf);
    hand_set(&hand, 0, leaf | A);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    EXPECT_EQ(hand_try(VA, WRITE, SIM_USER), HAND_FAULT(STATE | SIM_FAULT_WRITE));
    hand_set(&hand, 0, leaf | A | D);
    EXPECT_EQ(hand_try(VA, WRITE, SIM_USER), 0);
    EXPECT_EQ(hand_get(&hand, 0), leaf | A | D);
    sim_shutdown(hand.sim);
}

TEST(mmu_riscv, memory_types)
{
    static const unsigned types[3] = {QR_CACHE_WRITE_BACK, QR_CACHE_WRITE_COMBINING,
                                      QR_CACHE_UNCACHED};
    struct hand hand = boot_to(&shapes[0], 0, 0);

    for (uint64_t type = 0; type < 3; type++) {
        hand_set(&hand, 0, PPN(DATA) | V | R | U | type << 61);
        EXPECT_EQ(sim_walk(hand.sim, qr_pa_of(hand_table(&hand, 2)), qr_va_of(VA)).cache,
                  types[type]);
    }
    sim_shutdown(hand.sim);

    hand = boot_to(&shapes[0], SIM_NO_PBMT, PPN(DATA) | V | R | U | 1ull << 61);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), HAND_FAULT(BAD));
    sim_shutdown(hand.sim);
}

/*
 * Svnapot: sixteen equal entries.  Reading any of them may leave entries for all
 * sixteen pages, and a fence by address removes one.
 */
TEST(mmu_riscv, a_napot_page_is_sixteen)
{
    uint64_t start = VA & ~0xffffull, frame = 0x40000ull;
    struct hand hand = boot_to(&shapes[0], SIM_NO_ORACLE, 0);
    uint64_t pa = 0;

    for (unsigned i = 0; i < 16; i++)
        hand_set_at(&hand, 0, start + i * 4096ull, PPN(frame | 0x8000) | N | V | R | W | U | A | D);
    EXPECT_EQ(hand_try_pa(start + 0x5123, READ, SIM_USER, &pa), 0);
    EXPECT_EQ(pa, frame + 0x5123);
    EXPECT_EQ(sim_tlb_count(hand.sim, 0), 16);
    for (unsigned i = 0; i < 16; i++)
        hand_set_at(&hand, 0, start + i * 4096ull, 0);
    hand_flush_page(&hand, start + 0x5000, 12);
    EXPECT_EQ(hand_try(start + 0x5000, READ, SIM_USER), HAND_FAULT(SIM_FAULT_USER));
    EXPECT_EQ(hand_try(start + 0x6000, READ, SIM_USER), 0);
    /* A run that says 64 KiB is fenced as sixteen. */
    hand_flush_page(&hand, start, 16);
    EXPECT_EQ(sim_tlb_count(hand.sim, 0), 0);
    sim_shutdown(hand.sim);
}

TEST(mmu_riscv, napot_at_another_size_or_level_is_reserved)
{
    struct hand hand = boot_to(&shapes[0], 0, 0);

    for (uint64_t low = 0; low < 16; low++) {
        qr_arch_flush_all(QR_FLUSH_HERE);
        hand_set(&hand, 0, PPN(0x40000) | low << 10 | N | V | R | U);
        for (unsigned i = 0; i < 16; i++)
            hand_set_at(&hand, 0, (VA & ~0xffffull) + i * 4096ull, hand_get(&hand, 0));
        EXPECT_EQ(hand_try(VA, READ, SIM_USER), low == 8 ? 0 : HAND_FAULT(BAD));
    }
    qr_arch_flush_all(QR_FLUSH_HERE);
    hand_set(&hand, 1, N | V | R | U);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), HAND_FAULT(BAD));
    sim_shutdown(hand.sim);
}

TEST(mmu_riscv, a_table_that_is_global_makes_its_pages_so)
{
    struct hand hand = boot_to(&shapes[1], 0, PPN(DATA) | V | R | U);

    hand_set(&hand, 2, hand_get(&hand, 2) | G);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    qr_arch_flush_asid(1, QR_FLUSH_HERE);
    EXPECT_TRUE(sim_tlb_has(qr_va_of(VA)));
    qr_arch_flush_all(QR_FLUSH_HERE);
    EXPECT_FALSE(sim_tlb_has(qr_va_of(VA)));
    sim_shutdown(hand.sim);
}

TEST(mmu_riscv, a_fault_forgets_nothing)
{
    struct hand hand = boot_to(&shapes[0], 0, PPN(DATA) | V | R | U);

    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    hand_set(&hand, 0, hand_get(&hand, 0) | W);
    for (unsigned i = 0; i < 3; i++)
        EXPECT_EQ(hand_try(VA, WRITE, SIM_USER), HAND_FAULT(DENIED | SIM_FAULT_WRITE));
    hand_flush_page(&hand, VA, 12);
    EXPECT_EQ(hand_try(VA, WRITE, SIM_USER), 0);
    sim_shutdown(hand.sim);
}

TEST(mmu_riscv, absence_is_remembered_where_it_may_be)
{
    for (unsigned remembers = 0; remembers < 2; remembers++) {
        struct hand hand = boot_to(&shapes[0], remembers != 0 ? SIM_CACHE_INVALID : 0, 0);

        EXPECT_EQ(qr_arch_publish(), remembers == 0);
        EXPECT_EQ(hand_try(VA, READ, SIM_USER), HAND_FAULT(SIM_FAULT_USER));
        hand_set(&hand, 0, PPN(DATA) | V | R | U);
        EXPECT_EQ(hand_try(VA, READ, SIM_USER), remembers != 0 ? HAND_FAULT(SIM_FAULT_USER) : 0);
        hand_flush_page(&hand, VA, 12);
        EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
        sim_shutdown(hand.sim);
    }
}

static void
use_table_after_page_flush(void *context)
{
    struct hand hand = boot_to(&shapes[0], 0, PPN(DATA) | V | R | U);

    (void)context;
    hand_set_at(&hand, 0, VA + 4096, PPN(DATA) | V | R | U);
    EXPECT_EQ(hand_try(VA, READ, SIM_USER), 0);
    hand_set(&hand, 1, 0);
    hand_flush_page(&hand, VA, 12);
    (void)hand_try(VA + 4096, READ, SIM_USER);
}

TEST(mmu_riscv, a_fence_by_address_leaves_what_was_read_of_tables)
{
    char message[300] = "";

    EXPECT_TRUE(sim_catch(use_table_after_page_flush, NULL, message, sizeof(message)));
    EXPECT_CONTAINS(message, "a walk-cache entry");
}
