/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd(2).  What is done with the descriptor is in ioctl_userfaultfd.c and
 * tests/user/sharing/userfault.c.
 */
#include "calls.h"

#define USER_MODE_ONLY 1

static const struct documented documented[] = {
    {EINVAL, NULL}, {EMFILE, NULL}, {ENFILE, NULL}, {ENOMEM, BY_REFUSAL}, {EPERM, NULL},
};

static void
no_descriptors(void)
{
    use_up_descriptors();
    EXPECT(call(SYS_userfaultfd, 0, 0, 0, 0, 0, 0), -EMFILE);
}

static void
unprivileged(void)
{
    become_nobody();
    EXPECT(call(SYS_userfaultfd, 0, 0, 0, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_userfaultfd, O_CLOEXEC, 0, 0, 0, 0, 0), -EPERM);
    EXPECT(is_error(call(SYS_userfaultfd, USER_MODE_ONLY, 0, 0, 0, 0, 0)), false);
}

static void
no_files(void)
{
    EXPECT(call(SYS_userfaultfd, USER_MODE_ONLY, 0, 0, 0, 0, 0), -ENFILE);
}

/* Unless the administrator lets everybody. */
static void
let(void)
{
    become_nobody();
    EXPECT(is_error(call(SYS_userfaultfd, 0, 0, 0, 0, 0, 0)), false);
}

CALL(userfaultfd, SYS_userfaultfd, documented)
{
    static const struct around closing = {NULL, close_made};
    const struct row rows[] = {
        {"flags that are none", SYS_userfaultfd, {2}, -EINVAL, 0},
        {"all flags", SYS_userfaultfd, {-1}, -EINVAL, 0},
        {"no flags", SYS_userfaultfd, {0}, ANY_VALUE, 0},
        {"closed by exec", SYS_userfaultfd, {O_CLOEXEC}, ANY_VALUE, 0},
        {"not waiting", SYS_userfaultfd, {O_NONBLOCK}, ANY_VALUE, 0},
        {"faults of programs alone", SYS_userfaultfd, {USER_MODE_ONLY}, ANY_VALUE, 0},
    };

    RUN_AROUND(rows, &closing);
    EXPECT(in_child(no_descriptors), 0);
    EXPECT(in_child(unprivileged), 0);
    at_file_limit(no_files);
    if (on_own_machine()) {
        static const char path[] = "/proc/sys/vm/unprivileged_userfaultfd";
        long before = set_number(path, 1);

        EXPECT(in_child(let), 0);
        EXPECT(set_number(path, before), 1);
    }
}
