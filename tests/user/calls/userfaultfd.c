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

/* Does /proc/self/fdinfo say so of @fd, in a line of its own? */
static bool
fdinfo_has(int fd, const char *line)
{
    char path[64], text[256];
    bool found = false;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    file = fopen(path, "r");
    while (file != NULL && fgets(text, sizeof(text), file) != NULL)
        found = found || strcmp(text, line) == 0;
    if (file != NULL)
        fclose(file);
    return found;
}

static void
told(void)
{
    uint64_t api[3] = {0xaa};
    int fd = (int)call(SYS_userfaultfd, O_CLOEXEC, 0, 0, 0, 0, 0);

    EXPECT(fdinfo_has(fd, "pos:\t0\n"), true);
    EXPECT(fdinfo_has(fd, "pending:\t0\n"), true);
    EXPECT(fdinfo_has(fd, "total:\t0\n"), true);
    EXPECT(fdinfo_has(fd, "API:\taa:0:80000000000000df\n"), true);
    EXPECT(call(SYS_ioctl, fd, 0xc018aa3fu, (long)api, 0, 0, 0), 0);
    EXPECT(fdinfo_has(fd, "API:\taa:80000000:80000000000000df\n"), true);
    close(fd);
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
        told(); /* what ranges can do is Linux 6.1's */
        static const char path[] = "/proc/sys/vm/unprivileged_userfaultfd";
        long before = set_number(path, 1);

        EXPECT(in_child(let), 0);
        EXPECT(set_number(path, before), 1);
    }
}
