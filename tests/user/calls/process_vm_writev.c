/* SPDX-License-Identifier: MIT */
/*
 * process_vm_writev(2).
 */
#include "other.h"

static const struct documented documented[] = {
    {EFAULT, NULL}, {EINVAL, NULL}, {ENOMEM, BY_REFUSAL}, {EPERM, NULL}, {ESRCH, NULL},
};

CALL(process_vm_writev, SYS_process_vm_writev, documented)
{
    static char text[] = "written";
    struct iovec local = {text, 7}, remote = {(void *)AT(0), 7};

    other_rows(SYS_process_vm_writev);
    arena_make();
    other_start();
    EXPECT(call(SYS_process_vm_writev, other, (long)&local, 1, (long)&remote, 1, 0), 7);
    EXPECT(PTR(0)[0], 'A'); /* theirs is another copy */
    remote.iov_base = (void *)AT(SHARED_AT);
    EXPECT(call(SYS_process_vm_writev, other, (long)&local, 1, (long)&remote, 1, 0), 7);
    EXPECT(PTR(SHARED_AT)[0], 'w');
    const struct row rows[] = {
        {"may not be written there",
         SYS_process_vm_writev,
         {other, (long)&local, 1, (long)&(struct iovec){(void *)AT(RO_AT), 7}, 1, 0},
         -EFAULT,
         0},
        {"the same of a file",
         SYS_process_vm_writev,
         {other, (long)&local, 1, (long)&(struct iovec){(void *)AT(FILE_RO_AT), 7}, 1, 0},
         -EFAULT,
         0},
    };
    RUN(rows);
    other_end();
}
