/* SPDX-License-Identifier: MIT */
/*
 * How much of memory may wait for the disk.
 */
#include "writeback.h"

#include <quire/report.h>

#include "memory.h"
#include "tmpfs.h"

/* Of all memory, in hundredths: whoever writes beyond it waits for the disk. */
enum { DIRTY_RATIO = 20, DIRTY_ALWAYS = 256 };

void
writeback_throttle(struct qr_object *object)
{
    const struct qr_counters *counters = qr_frames_counters(memory.frames);
    size_t dirty = (size_t)qr_counter_read(counters, QR_PAGES_DIRTY);

    if (dirty > DIRTY_ALWAYS && dirty > fs_free_pages() / 100 * DIRTY_RATIO) {
        /* An error is counted, and told by fsync. */
        enum qr_status status = qr_object_sync(object, 0, SIZE_MAX);

        (void)status;
    }
}
