/* SPDX-License-Identifier: MIT */
/*
 * The region tree and its gap search, without a machine: against a scan of every
 * page.  And what is decided apart from doing: merging, cutting, the limit.
 */
#include "harness.h"

#include <string.h>

#include "space/region.h"

enum { PAGES = 200, REGIONS = 40, GUARD = 4 };

struct field {
    struct qr_vm vm;
    struct qr_space space;
    struct qr_region regions[REGIONS];
    size_t count;
    bool taken[PAGES]; /* guard gaps included */
};

static qr_va
va_of(size_t page)
{
    return qr_va_of(page << QR_PAGE_SHIFT);
}

static void
field_insert(struct field *field, size_t first, size_t last, unsigned flags)
{
    struct qr_region *region = &field->regions[field->count++];
    struct qr_tree_node *parent = NULL;
    struct qr_tree_node *node = field->space.regions.root;
    int side = 0;

    *region = (struct qr_region){.space = &field->space, .flags = flags};
    region->start = va_of(first);
    region->end = va_of(last);
    while (node != NULL) {
        parent = node;
        side = region->start.v > qr_region_of(node)->start.v;
        node = node->child[side];
    }
    qr_tree_insert(&field->space.regions, &region->node, parent, side);
    if ((flags & QR_REGION_GROWS_DOWN) != 0)
        first = first > GUARD ? first - GUARD : 0;
    for (size_t i = first; i < last; i++)
        field->taken[i] = true;
}

/* Regions at random places, in random order, that neither overlap nor reach into gaps. */
static void
field_fill(struct field *field, uint64_t *random)
{
    memset(field, 0, sizeof(*field));
    field->vm.config.stack_guard_pages = GUARD;
    field->space.vm = &field->vm;
    qr_regions_init(&field->space.regions);
    for (size_t tries = 0; tries < 60 && field->count < REGIONS; tries++) {
        size_t first = GUARD + test_random(random) % (PAGES - 8 - GUARD);
        size_t last = first + 1 + test_random(random) % 6;
        bool stack = test_random(random) % 6 == 0;
        bool free = true;

        for (size_t i = first - (stack ? GUARD : 0); i < last; i++)
            free = free && !field->taken[i];
        if (free)
            field_insert(field, first, last, stack ? QR_REGION_GROWS_DOWN : 0);
    }
}

static bool
naive_fits(const struct field *field, const struct qr_gap_request *request, size_t first)
{
    size_t pages = request->bytes >> QR_PAGE_SHIFT;

    if ((va_of(first).v & (request->align - 1)) != 0 || va_of(first).v < request->low ||
        va_of(first + pages).v > request->high)
        return false;
    for (size_t i = first; i < first + pages; i++) {
        if (i < PAGES && field->taken[i])
            return false;
    }
    return true;
}

static bool
naive_find(const struct field *field, const struct qr_gap_request *request, qr_va *out_start)
{
    for (size_t k = 0; k < PAGES; k++) {
        size_t first = request->bottom_up ? k : PAGES - 1 - k;

        if (naive_fits(field, request, first)) {
            *out_start = va_of(first);
            return true;
        }
    }
    return false;
}

TEST(region, gap_search_finds_what_a_scan_finds)
{
    uint64_t random = test_seed();
    static struct field field;

    for (unsigned round = 0; round < 2000; round++) {
        if (round % 10 == 0)
            field_fill(&field, &random);
        struct qr_gap_request request = {
            .bytes = (1 + test_random(&random) % 12) << QR_PAGE_SHIFT,
            .align = QR_PAGE_SIZE << test_random(&random) % 4,
            .low = va_of(test_random(&random) % PAGES).v,
            .high = va_of(PAGES - test_random(&random) % 40).v,
            .bottom_up = test_random(&random) % 2 != 0,
        };
        qr_va want = qr_va_of(0), got = qr_va_of(0);
        bool exists = naive_find(&field, &request, &want);

        ASSERT_EQ(qr_gap_find(&field.space.regions, &request, &got), exists);
        ASSERT_EQ(got.v, want.v);
    }
}

TEST(region, an_empty_space_is_one_gap)
{
    static struct field field;
    uint64_t random = 1;
    qr_va va;

    field_fill(&field, &random);
    qr_regions_init(&field.space.regions);
    struct qr_gap_request request = {
        .bytes = 16 << QR_PAGE_SHIFT, .align = QR_PAGE_SIZE, .low = 0, .high = va_of(16).v};

    EXPECT_TRUE(qr_gap_find(&field.space.regions, &request, &va));
    EXPECT_EQ(va.v, 0);
    request.bytes++;
    EXPECT_FALSE(qr_gap_find(&field.space.regions, &request, &va));
    request.bytes = SIZE_MAX;
    EXPECT_FALSE(qr_gap_find(&field.space.regions, &request, &va));
}

/* What keeps two neighbours apart: any one difference. */
TEST(region, only_equal_neighbours_merge)
{
    static struct field field;
    uint64_t random = 1;
    struct qr_object *object = (void *)&field; /* never looked into */

    field_fill(&field, &random);
    const struct qr_region low = {.space = &field.space,
                                  .start = {0},
                                  .end = {QR_PAGE_SIZE},
                                  .prot = 3,
                                  .max_prot = 7,
                                  .object = object,
                                  .object_page = 5};
    struct qr_region high = low;

    high.start = low.end;
    high.end = va_of(3);
    EXPECT_FALSE(qr_region_can_merge(&low, &high));
    high.object_page = 6;
    EXPECT_TRUE(qr_region_can_merge(&low, &high));

    struct qr_region other[7] = {high, high, high, high, high, high, high};

    other[0].prot = 1;
    other[1].max_prot = 3;
    other[2].flags = QR_REGION_RANDOM;
    other[3].pkey = 1;
    other[4].object = NULL;
    other[5].file = object;
    other[6].start = va_of(2);
    for (size_t i = 0; i < 7; i++)
        EXPECT_FALSE(qr_region_can_merge(&low, &other[i]));
}

TEST(region, cuts_are_counted)
{
    const struct qr_region region = {.start = {4 << QR_PAGE_SHIFT}, .end = {8 << QR_PAGE_SHIFT}};

    EXPECT_EQ(qr_region_cuts(&region, (struct qr_va_range){va_of(4), va_of(8)}), 0);
    EXPECT_EQ(qr_region_cuts(&region, (struct qr_va_range){va_of(5), va_of(8)}), 1);
    EXPECT_EQ(qr_region_cuts(&region, (struct qr_va_range){va_of(4), va_of(6)}), 1);
    EXPECT_EQ(qr_region_cuts(&region, (struct qr_va_range){va_of(5), va_of(6)}), 2);
}
