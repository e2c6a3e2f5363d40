/* SPDX-License-Identifier: MIT */
/*
 * Who is charged for an object's page: the group of the thread that first needed it, whoever uses
 * it later.  The host says which group that is; threads without one are charged nothing.
 */
#include "objects.h"

/* Of one call that makes a page: the host need not change its mind meanwhile. */
#define CHARGE_WAITS 16u

void
qr_objects_set_thread_group(struct qr_objects *objects, struct qr_groups *groups,
                            qr_thread_group_fn fn)
{
    objects->groups = groups;
    atomic_store_explicit(&objects->thread_group, fn, memory_order_release);
}

enum qr_status
qr_object_charge_slowly(qr_thread_group_fn fn, struct qr_frame *frame, unsigned alloc_flags)
{
    struct qr_group *group = fn();
    enum qr_status status = QR_OK;
    bool again = (alloc_flags & QR_ALLOC_ATOMIC) == 0;

    if (group == NULL)
        return QR_OK;
    for (unsigned waits = 0; waits < CHARGE_WAITS; waits++) {
        status = qr_group_charge_frame(group, frame);
        if (status == QR_OK || !again || !qr_group_make_room(group, 1))
            break;
    }
    qr_group_put(group);
    return status == QR_OK ? QR_OK : QR_ERR_NO_MEMORY;
}
