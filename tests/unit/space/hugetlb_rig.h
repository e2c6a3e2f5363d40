/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_SPACE_HUGETLB_RIG_H
#define TESTS_UNIT_SPACE_HUGETLB_RIG_H

/* A machine with a pool of huge pages, for the tests of these.  Addresses count huge pages from BASE. */
#include "harness.h"

#include <quire/fault.h>
#include <quire/hugetlb.h>

#include <stdlib.h>

#include "sim.h"
#include "space/hugetlb.h"

#define BASE ((uintptr_t)0x40000000)

/* A test for pages that are one leaf, and for such that are a group of leaves. */
#define BOTH(name)                    \
    static void name(enum kind kind); \
    TEST(hugetlb, name)               \
    {                                 \
        name(LEAF);                   \
    }                                 \
    TEST(hugetlb, name##_in_groups)   \
    {                                 \
        name(GROUP);                  \
    }                                 \
    static void name(enum kind kind)

/* Where one page is more than this, a test would clear gigabytes. */
#define TESTED_SHIFT 25

/* What a page of the pool is: one leaf, or a group of them (AArch64's contiguous hint, Svnapot). */
enum kind { LEAF, GROUP };

struct rig {
    struct sim *sim;
    struct qr_hugetlb *huge;
    struct qr_hugetlb_pool *pool;
    size_t bytes; /* of one page */
};

/* log2 of the smallest page of that kind; 0: none. */
static inline unsigned
smallest_shift(struct sim *sim, enum kind kind)
{
    struct qr_format_info info;

    qr_format_info(sim_format(sim), &info);
    for (unsigned level = kind == LEAF ? 1 : 0; level < info.levels; level++) {
        unsigned bits = kind == LEAF ? 0 : info.group_bits[level];

        if ((info.leaf_levels >> level & 1) != 0 && (kind == LEAF || bits != 0))
            return qr_format_shift(sim_format(sim), level) + bits;
    }
    return 0;
}

/* Pools for @rig's machine, and @pages of the smallest size; false: the machine, stopped, has none. */
static inline bool
rig_fill(struct rig *rig, enum kind kind, size_t pages)
{
    unsigned shift = smallest_shift(rig->sim, kind);

    rig->huge = calloc(1, qr_hugetlb_size());
    qr_hugetlb_init(rig->huge, sim_frames(rig->sim));
    qr_hugetlb_add_all(rig->huge, sim_format(rig->sim), TESTED_SHIFT);
    qr_hugetlb_add_groups(rig->huge, sim_format(rig->sim), TESTED_SHIFT);
    if (shift == 0 || shift > TESTED_SHIFT) {
        free(rig->huge);
        sim_shutdown(rig->sim);
        return false;
    }
    rig->pool = qr_hugetlb_find(rig->huge, shift);
    rig->bytes = qr_hugetlb_pool_bytes(rig->pool);
    qr_hugetlb_pool_resize(rig->pool, -1, pages);
    return true;
}

/* A machine with room for some pages of the smallest size, and a pool of @pages; false: no such. */
static inline bool
rig_boot_on(struct rig *rig, enum sim_mmu mmu, enum kind kind, size_t pages)
{
    const struct sim_bank bank = {.start = (uint64_t)16 << 20, .bytes = (uint64_t)640 << 20};
    struct sim_options options = {.banks = &bank, .bank_count = 1, .mmu = mmu};

    options.seed = test_seed();
    options.features = SIM_NO_VALIDATE;
    rig->sim = sim_boot(options);
    return rig_fill(rig, kind, pages);
}

/* The default MMU, or where that has no groups one that has. */
static inline enum sim_mmu
mmu_for(enum kind kind)
{
    enum sim_mmu mmu = sim_mmu_default();
    bool x86 = mmu >= SIM_MMU_X86_64 && mmu <= SIM_MMU_X86_PAE;

    return kind == GROUP && x86 && sim_mmu_fits(SIM_MMU_AARCH64_4K) ? SIM_MMU_AARCH64_4K : mmu;
}

static inline bool
rig_boot(struct rig *rig, enum kind kind, size_t pages)
{
    return rig_boot_on(rig, mmu_for(kind), kind, pages);
}

static inline void
rig_shutdown(struct rig *rig)
{
    qr_space_clear(sim_space(rig->sim));
    sim_validate(rig->sim);
    EXPECT_EQ(qr_hugetlb_fini(rig->huge), 0u);
    free(rig->huge);
    sim_shutdown(rig->sim);
}

/* total, free, reserved, surplus */
static inline void
expect_pool(struct rig *rig, size_t total, size_t free, size_t reserved, size_t surplus)
{
    struct qr_hugetlb_stats stats;

    qr_hugetlb_pool_stats(rig->pool, -1, &stats);
    EXPECT_EQ(stats.total, total);
    EXPECT_EQ(stats.free, free);
    EXPECT_EQ(stats.reserved, reserved);
    EXPECT_EQ(stats.surplus, surplus);
}

static inline qr_va
va_of(const struct rig *rig, size_t page)
{
    return qr_va_of(BASE + page * rig->bytes);
}

static inline enum qr_status
map_object(struct rig *rig, size_t page, size_t count, struct qr_object *object, unsigned flags)
{
    struct qr_map_request request = {
        .hint = va_of(rig, page),
        .bytes = count * rig->bytes,
        .prot = SIM_W,
        .flags = QR_MAP_FIXED,
        .region_flags = flags,
        .object = object,
        .align_bytes = rig->bytes,
    };
    qr_va va;

    return qr_space_map(sim_space(rig->sim), &request, &va);
}

/* As mmap(MAP_HUGETLB | MAP_ANONYMOUS). */
static inline enum qr_status
map(struct rig *rig, size_t page, size_t count, unsigned flags)
{
    struct qr_object *object;
    enum qr_status status =
        qr_object_create_hugetlb(sim_objects(rig->sim), rig->pool, count * rig->bytes, &object);

    if (status != QR_OK)
        return status;
    status = map_object(rig, page, count, object, flags);
    qr_object_put(object);
    return status;
}

static inline enum qr_status
unmap(struct rig *rig, size_t first, size_t last)
{
    return qr_space_unmap(sim_space(rig->sim), va_of(rig, first), (last - first) * rig->bytes);
}

static inline enum sim_signal
store(struct rig *rig, size_t page, uint64_t value)
{
    return sim_store(va_of(rig, page), &value, sizeof(value));
}

static inline uint64_t
load(struct rig *rig, size_t page)
{
    uint64_t value = ~(uint64_t)0;

    EXPECT_EQ(sim_load(va_of(rig, page), &value, sizeof(value)), SIM_OK);
    return value;
}

/* log2 of the bytes that one TLB entry can hold at @page: of its leaf, or of its group. */
static inline unsigned
mapped_shift(struct rig *rig, size_t page)
{
    struct qr_format_info info;
    struct qr_cursor cursor;

    qr_format_info(sim_format(rig->sim), &info);
    qr_cursor_open(&cursor, &sim_space(rig->sim)->tables,
                   qr_hugetlb_page_range(rig->pool, va_of(rig, page)), NULL);
    unsigned level = qr_cursor_query(&cursor, va_of(rig, page)).level;
    bool grouped = qr_cursor_is_grouped(&cursor, va_of(rig, page));

    qr_cursor_close(&cursor);
    return qr_format_shift(sim_format(rig->sim), level) + (grouped ? info.group_bits[level] : 0);
}

#endif
