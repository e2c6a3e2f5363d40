/* SPDX-License-Identifier: MIT */
/*
 * Address spaces: what mmap, munmap, mprotect, mremap, brk, madvise and fork
 * promise, seen through regions, counts and the frames behind the pages.
 */
#include "contract.h"

#define PAGE QR_PAGE_SIZE

static struct qr_space *
space_create(const struct contract_machine *machine)
{
    struct qr_space *space = NULL;

    if (machine->vm == NULL) {
        TEST_SKIP("no spaces on this machine");
    }
    ASSERT_STATUS(qr_space_create(machine->vm, &space), QR_OK);
    return space;
}

static qr_va
map_anonymous(struct qr_space *space, size_t pages, unsigned prot, unsigned flags, unsigned regions)
{
    struct qr_map_request request = {
        .bytes = pages * PAGE, .prot = prot, .flags = flags, .region_flags = regions};
    qr_va va = qr_va_of(0);

    ASSERT_STATUS(qr_space_map(space, &request, &va), QR_OK);
    return va;
}

static qr_va
page_of(qr_va start, size_t page)
{
    return qr_va_of(start.v + page * PAGE);
}

/* Write the contents of @seed to a page as a program would: through its frame. */
static void
page_write(const struct contract_machine *machine, struct qr_space *space, qr_va va, uint64_t seed)
{
    struct qr_frame *frame = NULL;

    ASSERT_STATUS(qr_space_get_frame(space, va, QR_ACCESS_WRITE | QR_ACCESS_USER, false, &frame),
                  QR_OK);
    contract_frame_fill(machine, frame, seed);
    qr_frame_put(machine->frames, frame);
}

static bool
page_holds(const struct contract_machine *machine, struct qr_space *space, qr_va va, uint64_t seed)
{
    struct qr_frame *frame = NULL;
    bool same;

    ASSERT_STATUS(qr_space_get_frame(space, va, QR_ACCESS_READ | QR_ACCESS_USER, false, &frame),
                  QR_OK);
    same = seed == 0 ? contract_frame_is_zero(machine, frame)
                     : contract_frame_holds(machine, frame, seed);
    qr_frame_put(machine->frames, frame);
    return same;
}

static size_t
region_count(struct qr_space *space)
{
    struct qr_space_counts counts;

    qr_space_counts(space, &counts);
    return counts.region_count;
}

static void
expect_space_valid(struct qr_space *space)
{
    char message[256] = "";

    if (!qr_space_validate(space, message, sizeof(message))) {
        TEST_FAIL("%s", message);
    }
}

CONTRACT(space, an_empty_space_is_empty)
{
    struct qr_space *space = space_create(machine);
    struct qr_space_counts counts;

    qr_space_counts(space, &counts);
    EXPECT_EQ(counts.virtual_pages, 0);
    EXPECT_EQ(counts.region_count, 0);
    EXPECT_EQ(counts.resident_anon, 0);
    EXPECT_NULL(qr_space_find(space, qr_va_of(0)));
    expect_space_valid(space);
    qr_space_put(space);
}

CONTRACT(space, memory_appears_when_it_is_touched_and_is_clear)
{
    struct qr_space *space = space_create(machine);
    qr_va va = map_anonymous(space, 8, QR_PROT_READ | QR_PROT_WRITE, 0, 0);
    struct qr_space_counts counts;

    qr_space_counts(space, &counts);
    EXPECT_EQ(counts.virtual_pages, 8);
    EXPECT_EQ(counts.resident_anon, 0);

    page_write(machine, space, page_of(va, 3), 33);
    page_write(machine, space, page_of(va, 5), 55);
    qr_space_counts(space, &counts);
    EXPECT_EQ(counts.resident_anon, 2);

    EXPECT_TRUE(page_holds(machine, space, page_of(va, 3), 33));
    EXPECT_TRUE(page_holds(machine, space, page_of(va, 4), 0));
    EXPECT_TRUE(page_holds(machine, space, page_of(va, 5), 55));
    expect_space_valid(space);
    qr_space_put(space);
}

CONTRACT(space, populate_makes_every_page_resident)
{
    struct qr_space *space = space_create(machine);
    qr_va va = map_anonymous(space, 16, QR_PROT_READ | QR_PROT_WRITE, QR_MAP_POPULATE, 0);
    uint8_t present[16] = {0};

    ASSERT_STATUS(qr_space_resident(space, va, 16, present), QR_OK);
    for (size_t i = 0; i < 16; i++) {
        EXPECT_EQ(present[i] & 1, 1);
    }
    qr_space_put(space);
}

/*
 *  page      0   1   2   3   4   5
 *  protect   [ rw   rw ][ r ][ rw ]      one page in the middle
 *  unmap     [ rw ]           [ rw ]     and a hole round it
 */
CONTRACT(space, protect_and_unmap_split_and_merge)
{
    struct qr_space *space = space_create(machine);
    qr_va va = map_anonymous(space, 6, QR_PROT_READ | QR_PROT_WRITE, 0, 0);
    struct qr_frame *frame = NULL;

    for (size_t i = 0; i < 6; i++) {
        page_write(machine, space, page_of(va, i), i + 1);
    }
    EXPECT_EQ(region_count(space), 1);
    EXPECT_STATUS(qr_space_protect(space, page_of(va, 3), PAGE, QR_PROT_READ, -1), QR_OK);
    EXPECT_EQ(region_count(space), 3);
    EXPECT_NE(
        qr_space_get_frame(space, page_of(va, 3), QR_ACCESS_WRITE | QR_ACCESS_USER, false, &frame),
        QR_OK);
    EXPECT_TRUE(page_holds(machine, space, page_of(va, 3), 4));
    expect_space_valid(space);

    EXPECT_STATUS(qr_space_protect(space, page_of(va, 3), PAGE, QR_PROT_READ | QR_PROT_WRITE, -1),
                  QR_OK);
    EXPECT_EQ(region_count(space), 1);
    page_write(machine, space, page_of(va, 3), 44);

    EXPECT_STATUS(qr_space_unmap(space, page_of(va, 2), 2 * PAGE), QR_OK);
    EXPECT_EQ(region_count(space), 2);
    EXPECT_STATUS(qr_space_get_frame(space, page_of(va, 3), QR_ACCESS_READ, false, &frame),
                  QR_ERR_FAULT);
    EXPECT_TRUE(page_holds(machine, space, page_of(va, 1), 2));
    EXPECT_TRUE(page_holds(machine, space, page_of(va, 5), 6));
    EXPECT_STATUS(qr_space_protect(space, va, 6 * PAGE, QR_PROT_READ, -1), QR_ERR_NO_MEMORY);
    expect_space_valid(space);
    qr_space_put(space);
}

CONTRACT(space, bad_ranges_are_refused_and_change_nothing)
{
    struct qr_space *space = space_create(machine);
    qr_va va = map_anonymous(space, 2, QR_PROT_READ, 0, 0);
    struct qr_map_request request = {
        .hint = va, .bytes = PAGE, .prot = QR_PROT_READ, .flags = QR_MAP_FIXED_NOREPLACE};
    qr_va out = qr_va_of(1);

    EXPECT_STATUS(qr_space_map(space, &request, &out), QR_ERR_EXISTS);
    request.bytes = 0;
    EXPECT_NE(qr_space_map(space, &request, &out), QR_OK);
    request.bytes = SIZE_MAX;
    EXPECT_NE(qr_space_map(space, &request, &out), QR_OK);
    request = (struct qr_map_request){
        .hint = qr_va_of(va.v + 1), .bytes = PAGE, .prot = QR_PROT_READ, .flags = QR_MAP_FIXED};
    EXPECT_NE(qr_space_map(space, &request, &out), QR_OK);
    request.hint = qr_va_of(~(uintptr_t)0 << QR_PAGE_SHIFT);
    EXPECT_NE(qr_space_map(space, &request, &out), QR_OK);
    EXPECT_EQ(out.v, 1);

    EXPECT_NE(qr_space_unmap(space, qr_va_of(va.v + 1), PAGE), QR_OK);
    EXPECT_NE(qr_space_unmap(space, va, 0), QR_OK);
    EXPECT_NE(qr_space_unmap(space, va, SIZE_MAX), QR_OK);
    EXPECT_NE(qr_space_protect(space, qr_va_of(va.v + 1), PAGE, QR_PROT_READ, -1), QR_OK);
    EXPECT_EQ(region_count(space), 1);
    expect_space_valid(space);
    qr_space_put(space);
}

CONTRACT(space, fork_shares_until_somebody_writes)
{
    struct qr_space *space = space_create(machine);
    qr_va own = map_anonymous(space, 4, QR_PROT_READ | QR_PROT_WRITE, 0, 0);
    qr_va shared = map_anonymous(space, 2, QR_PROT_READ | QR_PROT_WRITE, 0, QR_REGION_SHARED);
    struct qr_space *child = NULL;

    for (size_t i = 0; i < 4; i++) {
        page_write(machine, space, page_of(own, i), 10 + i);
    }
    page_write(machine, space, shared, 20);
    ASSERT_STATUS(qr_space_fork(space, &child), QR_OK);

    for (size_t i = 0; i < 4; i++) {
        EXPECT_TRUE(page_holds(machine, child, page_of(own, i), 10 + i));
    }
    page_write(machine, child, page_of(own, 1), 31);
    page_write(machine, space, page_of(own, 2), 32);
    page_write(machine, child, shared, 33);

    EXPECT_TRUE(page_holds(machine, space, page_of(own, 1), 11));
    EXPECT_TRUE(page_holds(machine, child, page_of(own, 1), 31));
    EXPECT_TRUE(page_holds(machine, space, page_of(own, 2), 32));
    EXPECT_TRUE(page_holds(machine, child, page_of(own, 2), 12));
    EXPECT_TRUE(page_holds(machine, space, shared, 33));
    expect_space_valid(space);
    expect_space_valid(child);

    qr_space_put(space);
    EXPECT_TRUE(page_holds(machine, child, page_of(own, 0), 10));
    page_write(machine, child, page_of(own, 0), 40);
    expect_space_valid(child);
    qr_space_put(child);
}

CONTRACT(space, remap_carries_the_contents_along)
{
    struct qr_space *space = space_create(machine);
    qr_va va = map_anonymous(space, 3, QR_PROT_READ | QR_PROT_WRITE, 0, 0);
    struct qr_remap_request request = {.old_start = va,
                                       .old_bytes = 3 * PAGE,
                                       .new_bytes = 700 * PAGE,
                                       .flags = QR_REMAP_MAY_MOVE};
    qr_va moved = qr_va_of(0);

    for (size_t i = 0; i < 3; i++) {
        page_write(machine, space, page_of(va, i), 50 + i);
    }
    ASSERT_STATUS(qr_space_remap(space, &request, &moved), QR_OK);
    for (size_t i = 0; i < 3; i++) {
        EXPECT_TRUE(page_holds(machine, space, page_of(moved, i), 50 + i));
    }
    EXPECT_TRUE(page_holds(machine, space, page_of(moved, 699), 0));
    expect_space_valid(space);

    request.old_start = moved;
    request.old_bytes = 700 * PAGE;
    request.new_bytes = PAGE;
    ASSERT_STATUS(qr_space_remap(space, &request, &moved), QR_OK);
    EXPECT_TRUE(page_holds(machine, space, moved, 50));
    EXPECT_EQ(region_count(space), 1);
    expect_space_valid(space);
    qr_space_put(space);
}

CONTRACT(space, the_break_moves_both_ways)
{
    struct qr_space *space = space_create(machine);
    qr_va start;

    qr_space_set_brk(space, qr_va_of(64u << 20));
    start = qr_space_brk(space, qr_va_of(0)); /* perhaps moved up at random */
    EXPECT_GE(start.v, 64u << 20);
    EXPECT_EQ(start.v % PAGE, 0);
    EXPECT_EQ(qr_space_brk(space, page_of(start, 5)).v, page_of(start, 5).v);
    page_write(machine, space, page_of(start, 4), 60);
    EXPECT_EQ(qr_space_brk(space, page_of(start, 2)).v, page_of(start, 2).v);
    EXPECT_EQ(qr_space_brk(space, page_of(start, 5)).v, page_of(start, 5).v);
    EXPECT_TRUE(page_holds(machine, space, page_of(start, 4), 0));
    expect_space_valid(space);
    qr_space_put(space);
}

CONTRACT(space, dont_need_gives_clear_memory_again)
{
    struct qr_space *space = space_create(machine);
    qr_va va = map_anonymous(space, 4, QR_PROT_READ | QR_PROT_WRITE, 0, 0);
    struct qr_space_counts counts;

    for (size_t i = 0; i < 4; i++) {
        page_write(machine, space, page_of(va, i), 70 + i);
    }
    EXPECT_STATUS(qr_space_advise(space, page_of(va, 1), 2 * PAGE, QR_ADVICE_DONT_NEED), QR_OK);
    qr_space_counts(space, &counts);
    EXPECT_EQ(counts.resident_anon, 2);
    EXPECT_TRUE(page_holds(machine, space, va, 70));
    EXPECT_TRUE(page_holds(machine, space, page_of(va, 1), 0));
    EXPECT_TRUE(page_holds(machine, space, page_of(va, 3), 73));
    qr_space_put(space);
}

/*
 * Random calls against a model of 32 pages: -1 unmapped, else the seed of what
 * the page holds (0: clear).
 */
CONTRACT(space, random_calls_agree_with_a_model)
{
    enum { PAGES = 32, STEPS = 300 };
    struct qr_space *space = space_create(machine);
    qr_va base = qr_va_of((uintptr_t)1 << 30);
    long model[PAGES];
    uint64_t random = test_seed();

    for (size_t i = 0; i < PAGES; i++) {
        model[i] = -1;
    }
    for (size_t step = 1; step <= STEPS; step++) {
        size_t from = test_random(&random) % PAGES;
        size_t count = 1 + test_random(&random) % (PAGES - from);
        struct qr_map_request request = {.hint = page_of(base, from),
                                         .bytes = count * PAGE,
                                         .prot = QR_PROT_READ | QR_PROT_WRITE,
                                         .flags = QR_MAP_FIXED};
        qr_va out;

        switch (test_random(&random) % 4) {
        case 0:
            ASSERT_STATUS(qr_space_map(space, &request, &out), QR_OK);
            for (size_t i = from; i < from + count; i++) {
                model[i] = 0;
            }
            break;
        case 1:
            count = 1 + count % 4;
            count = from + count > PAGES ? PAGES - from : count;
            ASSERT_STATUS(qr_space_unmap(space, page_of(base, from), count * PAGE), QR_OK);
            for (size_t i = from; i < from + count; i++) {
                model[i] = -1;
            }
            break;
        default:
            for (size_t i = from; i < PAGES && i < from + 3; i++) {
                if (model[i] >= 0) {
                    model[i] = (long)(step * PAGES + i);
                    page_write(machine, space, page_of(base, i), (uint64_t)model[i]);
                }
            }
            break;
        }
    }
    for (size_t i = 0; i < PAGES; i++) {
        struct qr_frame *frame = NULL;

        if (model[i] >= 0) {
            EXPECT_TRUE(page_holds(machine, space, page_of(base, i), (uint64_t)model[i]));
        } else {
            EXPECT_STATUS(
                qr_space_get_frame(space, page_of(base, i), QR_ACCESS_READ, false, &frame),
                QR_ERR_FAULT);
        }
    }
    expect_space_valid(space);
    qr_space_put(space);
}
