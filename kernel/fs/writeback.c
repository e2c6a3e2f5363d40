/* SPDX-License-Identifier: MIT */
/*
 * When what is dirty goes to the disk by itself, and when clean pages make room.
 *
 * A thread, kflushd, looks every dirty_writeback_centisecs.  It writes everything back when something
 * has been dirty for dirty_expire_centisecs, or more than dirty_background_ratio per cent of free memory
 * is dirty; whoever writes while more than dirty_ratio per cent is, waits until its own file is clean.
 *
 * Memory that runs short takes clean pages (the shrinker).  Where most are dirty it has kflushd write and
 * waits a little: not for the disk, since the caller may hold locks that writing needs.
 */
#include "writeback.h"

#include <quire/reclaim.h>
#include <quire/report.h>

#include "block.h"
#include "disk_file.h"
#include "memory.h"
#include "sched.h"
#include "tmpfs.h"
#include "wait.h"

enum {
    DIRTY_ALWAYS = 256, /* pages that are never too many */
    PRESSURE_WAITS = 10,
};

#define CENTISECOND ((uint64_t)10000000)
#define PRESSURE_NS ((uint64_t)10000000)

static atomic_uint ratio = 20, background_ratio = 10, expire = 3000, interval = 500;

static struct wait_queue flusher_queue = WAIT_QUEUE_INIT(flusher_queue);
static atomic_bool wanted; /* by somebody who is short of memory */

static size_t
dirty_pages(void)
{
    return (size_t)qr_counter_read(qr_frames_counters(memory.frames), QR_PAGES_DIRTY);
}

static bool
is_above(size_t dirty, unsigned percent)
{
    return dirty > DIRTY_ALWAYS && dirty > (fs_free_pages() + dirty) / 100 * percent;
}

void
writeback_throttle(struct qr_object *object)
{
    size_t dirty = dirty_pages();

    if (!is_above(dirty, atomic_load(&background_ratio))) {
        return;
    }
    if (!is_above(dirty, atomic_load(&ratio))) {
        atomic_store(&wanted, true);
        wait_wake_all(&flusher_queue);
        return;
    }
    enum qr_status status = qr_object_sync(object, 0, SIZE_MAX);
    (void)status; /* counted: fsync tells */
}

/* ---- the thread ------------------------------------------------------------------------------- */

static void
flush_all(void)
{
    mounts_sync();
    for (size_t i = 0; disk_at(i) != NULL; i++) {
        struct disk *disk = disk_at(i);

        if (qr_object_dirty(disk->object) > 0) {
            (void)disk_object_sync(disk, disk->object, 0, SIZE_MAX);
        }
    }
}

static void
flusher_main(void *argument)
{
    uint64_t dirty_since = 0; /* 0: nothing was dirty at the last look */

    (void)argument;
    for (;;) {
        uint64_t now = clock_monotonic_ns();
        uint64_t pause = atomic_load(&interval) * CENTISECOND;
        int64_t result;

        WAIT_EVENT_UNTIL(result, &flusher_queue, atomic_load(&wanted), WAIT_UNINTERRUPTIBLE,
                         now + (pause > 0 ? pause : 100 * CENTISECOND));
        bool asked = atomic_exchange(&wanted, false);
        size_t dirty = dirty_pages();

        now = clock_monotonic_ns();
        dirty_since = dirty == 0 ? 0 : dirty_since == 0 ? now : dirty_since;
        bool expired = dirty_since != 0 && now - dirty_since >= atomic_load(&expire) * CENTISECOND;
        (void)result;
        if (asked || (pause > 0 && (expired || is_above(dirty, atomic_load(&background_ratio))))) {
            flush_all();
            dirty_since = 0;
        }
    }
}

/* ---- making room ---------------------------------------------------------------------------- */

static size_t
shrink(void *context, const struct qr_reclaim_request *request)
{
    enum qr_shrink_which which = request->background ? QR_SHRINK_BEHIND : QR_SHRINK_ALL;
    size_t freed = qr_objects_shrink(memory.objects, request->pages, which, request->group);

    (void)context;
    for (unsigned i = 0; i < PRESSURE_WAITS && !request->first_round && freed < request->pages &&
                         dirty_pages() > 0 && request->pages != SIZE_MAX;
         i++) {
        atomic_store(&wanted, true);
        wait_wake_all(&flusher_queue);
        sched_sleep_until(clock_monotonic_ns() + PRESSURE_NS);
        freed += qr_objects_shrink(memory.objects, request->pages - freed, which, request->group);
    }
    return freed;
}

void
writeback_start(void)
{
    static struct qr_shrinker shrinker = {
        .name = "files", .kind = QR_SHRINKER_FILE, .shrink = shrink};

    if (disk_at(0) == NULL) {
        return;
    }
    qr_reclaim_add(memory.vm, &shrinker);
    if (kernel_thread_start("kflushd", flusher_main, NULL) == NULL) {
        panic("no memory for the thread that writes back");
    }
}

/* ---- /proc/sys/vm ---------------------------------------------------------------------------- */

static int64_t
store_number(atomic_uint *number, const char *text, size_t length, uint64_t most)
{
    uint64_t value;
    size_t used = decimal_parse(text, length, &value);

    if (used == 0 || value > most ||
        (used < length && !(text[used] == '\n' && used + 1 == length))) {
        return -EINVAL;
    }
    atomic_store(number, (unsigned)value);
    return 0;
}

#define NUMBER_NODE(name, most)                                                                    \
    static void show_##name(const struct text_target *target, struct qr_writer *writer)            \
    {                                                                                              \
        (void)target;                                                                              \
        qr_writer_printf(writer, "%u\n", atomic_load(&name));                                      \
    }                                                                                              \
    static int64_t store_##name(const struct text_target *target, const char *text, size_t length) \
    {                                                                                              \
        (void)target;                                                                              \
        return store_number(&name, text, length, most);                                            \
    }

NUMBER_NODE(ratio, 100)
NUMBER_NODE(background_ratio, 100)
NUMBER_NODE(expire, 1000000)
NUMBER_NODE(interval, 1000000)

const struct text_node writeback_nodes[4] = {
    {.name = "dirty_ratio", .mode = 0644, .show = show_ratio, .store = store_ratio},
    {.name = "dirty_background_ratio",
     .mode = 0644,
     .show = show_background_ratio,
     .store = store_background_ratio},
    {.name = "dirty_expire_centisecs", .mode = 0644, .show = show_expire, .store = store_expire},
    {.name = "dirty_writeback_centisecs",
     .mode = 0644,
     .show = show_interval,
     .store = store_interval},
};
