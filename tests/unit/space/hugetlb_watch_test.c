/* SPDX-License-Identifier: MIT */
/*
 * A listener of huge pages: what is refused, what is told and what an answer does.  Nobody sleeps here:
 * a fault that the listener would be told of fails.
 */
#include "hugetlb_rig.h"

#include <quire/listener.h>
#include <quire/space.h>

#include <string.h>

static const struct qr_listener_ops ops = {.notify = NULL};

struct watched {
    struct rig rig;
    struct qr_listener listener;
    struct qr_space *space;
};

static bool
watched_boot(struct watched *watched, enum kind kind, size_t pages)
{
    if (!rig_boot(&watched->rig, kind, pages))
        return false;
    watched->space = sim_space(watched->rig.sim);
    qr_listener_init(&watched->listener, &ops, QR_LISTENER_NO_WAIT);
    return true;
}

static void
watched_shutdown(struct watched *watched)
{
    qr_listener_close(&watched->listener);
    qr_space_unwatch_all(watched->space, &watched->listener);
    EXPECT_EQ(atomic_load(&watched->listener.refs), 1u);
    rig_shutdown(&watched->rig);
}

static enum qr_status
watch(struct watched *watched, size_t first, size_t last, unsigned kinds)
{
    return qr_space_watch(watched->space, va_of(&watched->rig, first),
                          (last - first) * watched->rig.bytes, &watched->listener, kinds);
}

static enum qr_status
protect(struct watched *watched, size_t page, bool on)
{
    return qr_space_write_protect(watched->space, va_of(&watched->rig, page), watched->rig.bytes,
                                  on);
}

/* Every small page holds its offset plus @base; after @parts of them there is no more. */
struct counting {
    struct qr_page_source source;
    struct rig *rig;
    uint64_t base;
    size_t parts;
};

static bool
count_into(const struct qr_page_source *source, size_t offset, struct qr_frame *frame)
{
    const struct counting *counting = qr_container_of(source, struct counting, source);
    struct qr_frames *frames = sim_frames(counting->rig->sim);
    uint64_t value = counting->base + offset;

    if (offset >> QR_PAGE_SHIFT >= counting->parts)
        return false;
    qr_frame_clear(frames, frame);
    char *window = qr_port_window_open(qr_frame_pa(frames, frame));
    memcpy(window, &value, sizeof(value));
    qr_port_window_close(window);
    return true;
}

static enum qr_status
fill(struct watched *watched, size_t page, uint64_t base, unsigned flags)
{
    const struct counting counting = {
        .source.copy = count_into, .rig = &watched->rig, .base = base, .parts = SIZE_MAX};

    return qr_space_fill_huge(watched->space, va_of(&watched->rig, page), &counting.source, flags);
}

/* The same where half of the source is not at hand. */
static enum qr_status
fill_half(struct watched *watched, size_t page)
{
    const struct counting counting = {.source.copy = count_into,
                                      .rig = &watched->rig,
                                      .parts = watched->rig.bytes >> QR_PAGE_SHIFT >> 1};

    return qr_space_fill_huge(watched->space, va_of(&watched->rig, page), &counting.source, 0);
}

BOTH(only_whole_pages_are_watched_and_filled)
{
    struct watched w;
    size_t page_bytes = 0;

    if (!watched_boot(&w, kind, 3))
        TEST_SKIP("no small huge page");
    ASSERT_EQ(map(&w.rig, 0, 2, 0), QR_OK);
    qr_va start = va_of(&w.rig, 0), within = qr_va_of(start.v + QR_PAGE_SIZE);
    EXPECT_STATUS(qr_space_watch(w.space, start, QR_PAGE_SIZE, &w.listener, QR_WATCH_MISSING),
                  QR_ERR_INVALID);
    EXPECT_STATUS(
        qr_space_watch(w.space, within, w.rig.bytes - QR_PAGE_SIZE, &w.listener, QR_WATCH_MISSING),
        QR_ERR_INVALID);
    EXPECT_STATUS(watch(&w, 0, 1, QR_WATCH_MISSING | QR_WATCH_WRITE), QR_OK);
    EXPECT_STATUS(qr_space_write_protect(w.space, start, QR_PAGE_SIZE, true), QR_ERR_INVALID);
    EXPECT_STATUS(qr_space_fill_check(w.space, start, QR_PAGE_SIZE, 0, &page_bytes),
                  QR_ERR_INVALID);
    EXPECT_STATUS(qr_space_fill_check(w.space, start, w.rig.bytes, 0, &page_bytes), QR_OK);
    EXPECT_EQ(page_bytes, w.rig.bytes);
    EXPECT_STATUS(qr_space_fill_zero(w.space, start), QR_ERR_INVALID);
    EXPECT_STATUS(qr_space_fill_huge(w.space, within, NULL, 0), QR_ERR_INVALID);
    EXPECT_STATUS(fill(&w, 1, 0, 0), QR_ERR_NOT_FOUND);
    EXPECT_EQ(store(&w.rig, 1, 1), SIM_OK); /* is not watched */
    sim_validate(w.rig.sim);
    watched_shutdown(&w);
}

/* The promises of shared and of private pages survive a source that is not at hand. */
static void
fill_missing(enum kind kind, unsigned region_flags)
{
    struct watched w;

    if (!watched_boot(&w, kind, 3))
        TEST_SKIP("no small huge page");
    ASSERT_EQ(map(&w.rig, 0, 3, region_flags), QR_OK);
    EXPECT_STATUS(watch(&w, 0, 3, QR_WATCH_MISSING), QR_OK);
    EXPECT_EQ(store(&w.rig, 1, 1), SIM_BUS_ADRERR);
    expect_pool(&w.rig, 3, 3, 3, 0);
    EXPECT_STATUS(fill_half(&w, 1), QR_ERR_AGAIN);
    expect_pool(&w.rig, 3, 3, 3, 0);
    EXPECT_EQ(store(&w.rig, 1, 1), SIM_BUS_ADRERR);
    EXPECT_STATUS(fill(&w, 1, 5, 0), QR_OK);
    expect_pool(&w.rig, 3, 2, 2, 0);
    EXPECT_STATUS(fill(&w, 1, 6, 0), QR_ERR_EXISTS);
    EXPECT_EQ(load(&w.rig, 1), 5u);
    EXPECT_EQ(store(&w.rig, 1, 7), SIM_OK);
    EXPECT_EQ(mapped_shift(&w.rig, 1), qr_hugetlb_pool_shift(w.rig.pool));
    EXPECT_EQ(store(&w.rig, 0, 1), SIM_BUS_ADRERR);
    sim_validate(w.rig.sim);
    watched_shutdown(&w);
}

BOTH(missing_private_pages_are_filled)
{
    fill_missing(kind, 0);
}

BOTH(missing_shared_pages_are_filled)
{
    fill_missing(kind, QR_REGION_SHARED);
}

static void
protect_pages(enum kind kind, unsigned region_flags)
{
    struct watched w;

    if (!watched_boot(&w, kind, 3))
        TEST_SKIP("no small huge page");
    ASSERT_EQ(map(&w.rig, 0, 3, region_flags), QR_OK);
    EXPECT_EQ(store(&w.rig, 0, 4), SIM_OK);
    EXPECT_STATUS(protect(&w, 0, true), QR_ERR_NOT_FOUND); /* nobody would be told */
    EXPECT_STATUS(watch(&w, 0, 3, QR_WATCH_WRITE), QR_OK);
    for (size_t page = 0; page < 2; page++) { /* one that is there, one that is not */
        EXPECT_STATUS(protect(&w, page, true), QR_OK);
        EXPECT_EQ(load(&w.rig, page), page == 0 ? 4u : 0u);
        EXPECT_EQ(store(&w.rig, page, 5), SIM_BUS_ADRERR);
        EXPECT_STATUS(qr_space_protect(w.space, va_of(&w.rig, page), w.rig.bytes, SIM_R, -1),
                      QR_OK);
        EXPECT_STATUS(qr_space_protect(w.space, va_of(&w.rig, page), w.rig.bytes, SIM_W, -1),
                      QR_OK);
        EXPECT_EQ(store(&w.rig, page, 5), SIM_BUS_ADRERR);
        EXPECT_STATUS(protect(&w, page, false), QR_OK);
        EXPECT_EQ(store(&w.rig, page, 6), SIM_OK);
        EXPECT_EQ(mapped_shift(&w.rig, page), qr_hugetlb_pool_shift(w.rig.pool));
    }
    EXPECT_STATUS(protect(&w, 2, true), QR_OK);
    EXPECT_EQ(store(&w.rig, 2, 7), SIM_BUS_ADRERR); /* it comes, and is protected */
    EXPECT_STATUS(qr_space_unwatch(w.space, va_of(&w.rig, 0), 3 * w.rig.bytes, &w.listener), QR_OK);
    EXPECT_EQ(store(&w.rig, 2, 8), SIM_OK);
    sim_validate(w.rig.sim);
    watched_shutdown(&w);
}

BOTH(writes_to_protected_private_pages_are_told)
{
    protect_pages(kind, 0);
}

BOTH(writes_to_protected_shared_pages_are_told)
{
    protect_pages(kind, QR_REGION_SHARED);
}

/* A child may write its copy of a page that the parent's listener protects. */
BOTH(a_child_writes_untold)
{
    struct qr_space *child;
    struct watched w;

    if (!watched_boot(&w, kind, 3))
        TEST_SKIP("no small huge page");
    ASSERT_EQ(map(&w.rig, 0, 1, 0), QR_OK);
    EXPECT_EQ(store(&w.rig, 0, 4), SIM_OK);
    EXPECT_STATUS(watch(&w, 0, 1, QR_WATCH_WRITE), QR_OK);
    EXPECT_STATUS(protect(&w, 0, true), QR_OK);
    ASSERT_EQ(qr_space_fork(w.space, &child), QR_OK);
    sim_use(w.rig.sim, child);
    EXPECT_EQ(store(&w.rig, 0, 5), SIM_OK);
    sim_use(w.rig.sim, w.space);
    sim_space_destroy(w.rig.sim, child);
    EXPECT_EQ(store(&w.rig, 0, 5), SIM_BUS_ADRERR);
    EXPECT_EQ(load(&w.rig, 0), 4u);
    watched_shutdown(&w);
}

/* The page that another mapping made is mapped, and none is made. */
BOTH(cached_pages_are_mapped)
{
    struct qr_object *object;
    struct watched w;

    if (!watched_boot(&w, kind, 3))
        TEST_SKIP("no small huge page");
    ASSERT_EQ(
        qr_object_create_hugetlb(sim_objects(w.rig.sim), w.rig.pool, 2 * w.rig.bytes, &object),
        QR_OK);
    ASSERT_EQ(map_object(&w.rig, 0, 2, object, QR_REGION_SHARED), QR_OK);
    ASSERT_EQ(map_object(&w.rig, 4, 2, object, QR_REGION_SHARED), QR_OK);
    qr_object_put(object);
    EXPECT_STATUS(watch(&w, 4, 6, QR_WATCH_MINOR | QR_WATCH_WRITE), QR_OK);
    EXPECT_STATUS(qr_space_fill_cached(w.space, va_of(&w.rig, 4), 0), QR_ERR_FAULT);
    EXPECT_EQ(store(&w.rig, 0, 9), SIM_OK);
    EXPECT_EQ(store(&w.rig, 4, 8), SIM_BUS_ADRERR);
    EXPECT_STATUS(qr_space_fill_cached(w.space, va_of(&w.rig, 4), QR_FILL_WRITE_PROTECT), QR_OK);
    EXPECT_STATUS(qr_space_fill_cached(w.space, va_of(&w.rig, 4), 0), QR_ERR_EXISTS);
    EXPECT_EQ(load(&w.rig, 4), 9u);
    EXPECT_EQ(store(&w.rig, 4, 8), SIM_BUS_ADRERR);
    EXPECT_STATUS(protect(&w, 4, false), QR_OK);
    EXPECT_EQ(store(&w.rig, 4, 8), SIM_OK);
    EXPECT_EQ(load(&w.rig, 0), 8u);
    EXPECT_EQ(store(&w.rig, 5, 1), SIM_OK); /* a missing one is not told of */
    EXPECT_EQ(load(&w.rig, 1), 1u);
    sim_validate(w.rig.sim);
    watched_shutdown(&w);
}

/* Refuse each allocation of a fill and of a protection in turn. */
BOTH(refused_allocations_change_nothing)
{
    for (uint64_t n = 1; n <= 20; n++) {
        struct watched w;

        if (!watched_boot(&w, kind, 3))
            TEST_SKIP("no small huge page");
        ASSERT_EQ(map(&w.rig, 0, 3, n % 3 == 0 ? 0 : QR_REGION_SHARED), QR_OK);
        EXPECT_STATUS(watch(&w, 0, 3, QR_WATCH_MISSING | QR_WATCH_WRITE), QR_OK);
        sim_refuse_nth(w.rig.sim, n, n % 2 == 0 ? SIM_REFUSE_ONCE : SIM_REFUSE_FROM_THEN_ON);
        enum qr_status status = fill(&w, 0, 3, 0);

        EXPECT_TRUE(status == QR_OK || status == QR_ERR_NO_MEMORY);
        status = protect(&w, 1, true);
        EXPECT_TRUE(status == QR_OK || status == QR_ERR_NO_MEMORY);
        sim_refuse_nth(w.rig.sim, 0, SIM_REFUSE_ONCE);
        status = fill(&w, 0, 3, 0);
        EXPECT_TRUE(status == QR_OK || status == QR_ERR_EXISTS);
        EXPECT_EQ(load(&w.rig, 0), 3u);
        expect_pool(&w.rig, 3, 2, 2, 0);
        sim_validate(w.rig.sim);
        watched_shutdown(&w);
    }
}
