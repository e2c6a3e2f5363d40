/* SPDX-License-Identifier: MIT */
/*
 * 32-bit and PAE paging against the Intel SDM, volume 3A, 4.3 and 4.4.
 */
#include "hand.h"

#define P   (1ull << 0)
#define W   (1ull << 1)
#define U   (1ull << 2)
#define PCD (1ull << 4)
#define PWT (1ull << 3)
#define A   (1ull << 5)
#define D   (1ull << 6)
#define PS  (1ull << 7)
#define G   (1ull << 8)
#define XD  (1ull << 63)

#define R  QR_ACCESS_READ
#define WR QR_ACCESS_WRITE
#define X  QR_ACCESS_EXEC

#define VA   0x87654000ull
#define DATA 0x1234000ull

static const struct hand_shape legacy = {SIM_MMU_X86_32, 12, 2, 10, 10, 4};
static const struct hand_shape pae = {SIM_MMU_X86_PAE, 12, 3, 9, 2, 8};

static struct hand
boot_to(const struct hand_shape *shape, unsigned features, uint64_t leaf)
{
    struct hand hand = hand_boot(shape, features, VA);

    hand_set(&hand, 0, leaf);
    hand_set(&hand, 1, hand_table(&hand, 0) | P | W | U);
    if (shape->levels == 3)
        hand_set(&hand, 2, hand_table(&hand, 1) | P);
    hand_load(&hand);
    return hand;
}

/*
 * Every combination of W, U (and XD with PAE) at both levels.  A page is a user's
 * where both say U, writable where both say W, executable where neither says XD.
 */
static void
check_rights(const struct hand_shape *shape, unsigned features)
{
    bool has_xd = shape->levels == 3;

    for (unsigned bits = 0; bits < (has_xd ? 64u : 16u); bits++) {
        struct hand hand = boot_to(shape, features, 0);
        uint64_t low = P | DATA, high = P | hand_table(&hand, 0);
        char got[7], wanted[7];

        low |= ((bits & 1) != 0 ? W : 0) | ((bits & 2) != 0 ? U : 0) | ((bits & 16) != 0 ? XD : 0);
        high |= ((bits & 4) != 0 ? W : 0) | ((bits & 8) != 0 ? U : 0) | ((bits & 32) != 0 ? XD : 0);
        hand_set(&hand, 0, low);
        hand_set(&hand, 1, high);

        bool w = (low & high & W) != 0, u = (low & high & U) != 0, x = ((low | high) & XD) == 0;
        bool smap = u && (features & SIM_NO_SMAP) == 0, smep = u && (features & SIM_NO_SMEP) == 0;

        snprintf(wanted, sizeof(wanted), "%c%c%c%c%c%c", u ? 'r' : '-', u && w ? 'w' : '-',
                 u && x ? 'x' : '-', !smap ? 'r' : '-', !smap && w ? 'w' : '-',
                 x && !smep ? 'x' : '-');
        hand_rights(&hand, SIM_KERNEL, got);
        EXPECT_STR(got, wanted);
        sim_shutdown(hand.sim);
    }
}

TEST(mmu_x86_32, rights_are_what_both_levels_allow)
{
    check_rights(&legacy, 0);
    check_rights(&legacy, SIM_NO_SMAP | SIM_NO_SMEP);
}

TEST(mmu_x86_pae, rights_are_what_both_levels_allow)
{
    check_rights(&pae, 0);
    check_rights(&pae, SIM_NO_SMAP | SIM_NO_SMEP);
}

TEST(mmu_x86_32, error_codes)
{
    struct hand hand = boot_to(&legacy, SIM_NO_SMEP, P | DATA);

    EXPECT_EQ(hand_try(VA, R, SIM_USER), HAND_FAULT(5));
    EXPECT_EQ(hand_try(VA, WR, SIM_KERNEL), HAND_FAULT(3));
    /* Without PAE only SMEP makes fetches known as such. */
    EXPECT_EQ(hand_try(VA, X, SIM_USER), HAND_FAULT(5));
    hand_set(&hand, 0, 0);
    EXPECT_EQ(hand_try(VA, WR, SIM_USER), HAND_FAULT(6));
    EXPECT_EQ(hand_try(VA, R, SIM_KERNEL), HAND_FAULT(0));
    sim_shutdown(hand.sim);

    hand = boot_to(&legacy, 0, P | DATA);
    EXPECT_EQ(hand_try(VA, X, SIM_USER), HAND_FAULT(0x15));
    sim_shutdown(hand.sim);
}

TEST(mmu_x86_32, addresses_end_at_four_gibibytes)
{
    struct hand hand = boot_to(&legacy, 0, P | W | U | DATA);
    uint64_t pa = 0;

    EXPECT_EQ(hand_try_pa(VA + 0xabc, R, SIM_USER, &pa), 0);
    EXPECT_EQ(pa, DATA + 0xabc);
    EXPECT_NE(hand_try(VA + (1ull << 32), R, SIM_USER), 0);
    sim_shutdown(hand.sim);
}

/* PSE-36: bits 20 to 13 are address bits 39 to 32; bit 21 is reserved. */
TEST(mmu_x86_32, four_mebibytes_and_their_forty_bits)
{
    struct hand hand = boot_to(&legacy, 0, 0);

    for (unsigned bit = 13; bit <= 31; bit++) {
        uint64_t pa = 0, wanted = 0;

        qr_arch_flush_all(QR_FLUSH_HERE);
        hand_set(&hand, 1, P | W | U | PS | 1ull << bit);
        if (bit == 21) {
            EXPECT_EQ(hand_try(VA, R, SIM_USER), HAND_FAULT(0xd));
            continue;
        }
        wanted = bit < 21 ? 1ull << (bit + 19) : 1ull << bit;
        EXPECT_EQ(hand_try_pa(VA, WR, SIM_USER, &pa), 0);
        EXPECT_EQ(pa, wanted + (VA & 0x3fffff));
        EXPECT_EQ(hand_get(&hand, 1) & (A | D), A | D);
    }
    EXPECT_EQ(sim_tlb_count(hand.sim, 0), 1);
    /* At the lowest level bit 7 is the PAT bit, not a size. */
    hand_set(&hand, 1, hand_table(&hand, 0) | P | W | U);
    hand_set(&hand, 0, DATA | P | U | PS);
    qr_arch_flush_all(QR_FLUSH_HERE);
    EXPECT_EQ(hand_try(VA, R, SIM_USER), 0);
    sim_shutdown(hand.sim);
}

TEST(mmu_x86_32, memory_types_by_the_pat_bits)
{
    struct hand hand = boot_to(&legacy, 0, 0);
    qr_pa root = qr_pa_of(hand_table(&hand, 1));

    hand_set(&hand, 0, DATA | P | PWT);
    EXPECT_EQ(sim_walk(hand.sim, root, qr_va_of(VA)).cache, QR_CACHE_WRITE_THROUGH);
    hand_set(&hand, 0, DATA | P | PCD | PWT);
    EXPECT_EQ(sim_walk(hand.sim, root, qr_va_of(VA)).cache, QR_CACHE_UNCACHED);
    hand_set(&hand, 0, DATA | P | PS | PCD);
    EXPECT_EQ(sim_walk(hand.sim, root, qr_va_of(VA)).cache, QR_CACHE_WRITE_COMBINING);
    hand_set(&hand, 1, P | PS | 1u << 12 | PCD);
    EXPECT_EQ(sim_walk(hand.sim, root, qr_va_of(VA)).cache, QR_CACHE_WRITE_COMBINING);
    sim_shutdown(hand.sim);
}

TEST(mmu_x86_32, neighbouring_entries_are_left_alone)
{
    struct hand hand = boot_to(&legacy, 0, P | W | U | DATA);

    hand_set_at(&hand, 0, VA + 4096, 0x5a5a5a5a);
    EXPECT_EQ(hand_try(VA, WR, SIM_USER), 0);
    EXPECT_EQ(hand_get(&hand, 0), P | W | U | A | D | DATA);
    EXPECT_EQ(hand_get_at(&hand, 0, VA + 4096), 0x5a5a5a5a);
    sim_shutdown(hand.sim);
}

/* ---- PAE ---------------------------------------------------------------------- */

TEST(mmu_x86_pae, every_reserved_bit_faults)
{
    struct hand hand = boot_to(&pae, 0, P | W | U | DATA);
    uint64_t page = P | W | U | DATA, table = hand_get(&hand, 1);

    for (unsigned bit = 12; bit < 64; bit++) {
        bool reserved = bit >= 46 && bit <= 62;
        uint64_t entry = page | 1ull << bit;

        qr_arch_flush_all(QR_FLUSH_HERE);
        hand_set(&hand, 0, entry);
        EXPECT_EQ(hand_try(VA, R, SIM_USER), reserved ? HAND_FAULT(0xd) : 0);
        hand_set(&hand, 0, page);
        if (reserved) {
            hand_set(&hand, 1, table | 1ull << bit);
            EXPECT_EQ(hand_try(VA, R, SIM_USER), HAND_FAULT(0xd));
            hand_set(&hand, 1, table);
        }
        /* 2 MiB pages: bit 12 is PAT, 13 to 20 are reserved. */
        qr_arch_flush_all(QR_FLUSH_HERE);
        hand_set(&hand, 1, P | W | U | PS | 1ull << bit);
        reserved |= bit >= 13 && bit <= 20;
        EXPECT_EQ(hand_try(VA, R, SIM_USER), reserved ? HAND_FAULT(0xd) : 0);
        hand_set(&hand, 1, table);
    }
    sim_shutdown(hand.sim);

    hand = boot_to(&pae, SIM_NO_NX, P | U | XD | DATA);
    EXPECT_EQ(hand_try(VA, R, SIM_USER), HAND_FAULT(0xd));
    sim_shutdown(hand.sim);
}

TEST(mmu_x86_pae, memory_above_four_gibibytes)
{
    struct hand hand = boot_to(&pae, 0, P | W | U | 0x3f1234567000);
    uint64_t pa = 0;

    EXPECT_EQ(hand_try_pa(VA + 7, WR, SIM_USER, &pa), 0);
    EXPECT_EQ(pa, 0x3f1234567007);
    sim_shutdown(hand.sim);
}

static void
load_reserved_pointer(void *context)
{
    struct hand hand = boot_to(&pae, 0, P | U | DATA);

    hand_set(&hand, 2, hand_table(&hand, 1) | P | *(uint64_t *)context);
    hand_load(&hand);
}

/* The four pointers have no W, U or A; a set one makes the load of CR3 fail. */
TEST(mmu_x86_pae, pointers_with_reserved_bits_do_not_load)
{
    for (unsigned bit = 1; bit < 64; bit++) {
        uint64_t extra = 1ull << bit;
        bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 46;
        char message[300] = "";

        if (bit >= 12 && bit < 46)
            continue; /* another table */
        EXPECT_EQ(sim_catch(load_reserved_pointer, &extra, message, sizeof(message)), reserved);
        if (reserved)
            EXPECT_CONTAINS(message, "reserved bit");
    }
}

TEST(mmu_x86_pae, pointers_are_read_when_the_root_is_loaded_and_only_then)
{
    struct hand hand = boot_to(&pae, SIM_NO_ORACLE, P | U | DATA);
    uint64_t pointer = hand_get(&hand, 2);

    /* A new one is not seen by a walk, nor by a page flush, but by loading the root again. */
    hand_set(&hand, 2, 0);
    hand_load(&hand);
    hand_set(&hand, 2, pointer);
    EXPECT_EQ(hand_try(VA, R, SIM_USER), HAND_FAULT(4));
    hand_flush_page(&hand, VA, 12);
    EXPECT_EQ(hand_try(VA, R, SIM_USER), HAND_FAULT(4));
    hand_load(&hand);
    EXPECT_EQ(hand_try(VA, R, SIM_USER), 0);
    /* One that is taken away stays. */
    hand_set(&hand, 2, 0);
    hand_flush_page(&hand, VA, 12);
    EXPECT_EQ(hand_try(VA, R, SIM_USER), 0);
    qr_arch_flush_all(QR_FLUSH_HERE);
    EXPECT_EQ(hand_try(VA, R, SIM_USER), HAND_FAULT(4));
    sim_shutdown(hand.sim);
}
