/* SPDX-License-Identifier: MIT */
/*
 * memfd_create(2).  What seals do is in fcntl.c.
 */
#include "calls.h"

#include <linux/memfd.h>
#include <sys/stat.h>

#define NOEXEC_SEAL 8 /* since Linux 6.3 */
#define EXEC        16
#define MEMFD(what, name, flags, want)                         \
    {                                                          \
        what, SYS_memfd_create, {(long)(name), flags}, want, 0 \
    }

static const struct documented documented[] = {
    {EFAULT, NULL}, {EINVAL, NULL}, {EMFILE, NULL}, {ENFILE, NULL}, {ENOMEM, BY_REFUSAL},
};

static void
no_descriptors(void)
{
    use_up_descriptors();
    EXPECT(call(SYS_memfd_create, (long)"x", 0, 0, 0, 0, 0), -EMFILE);
    EXPECT(call(SYS_memfd_create, (long)"x", 0x8000, 0, 0, 0, 0), -EINVAL);
}

static void
no_files(void)
{
    EXPECT(call(SYS_memfd_create, (long)"x", 0, 0, 0, 0, 0), -ENFILE);
}

CALL(memfd_create, SYS_memfd_create, documented)
{
    static char longest[250], too_long[251];
    static const struct around closing = {NULL, close_made};

    memset(longest, 'n', sizeof(longest) - 1);
    memset(too_long, 'n', sizeof(too_long) - 1);
    const struct row rows[] = {
        MEMFD("no name", 0, 0, -EFAULT),
        MEMFD("no memory at the name", 8, 0, -EFAULT),
        MEMFD("a name in the kernel", -page, 0, -EFAULT),
        MEMFD("a name that is too long", too_long, 0, -EINVAL),
        MEMFD("flags that are none", "x", 0x8000, -EINVAL),
        MEMFD("flags that are none, no name", 0, 0x8000, -EINVAL),
        MEMFD("a size without huge pages", "x", 21u << MFD_HUGE_SHIFT, -EINVAL),
        MEMFD("huge pages of no such size", "x", MFD_HUGETLB | 13u << MFD_HUGE_SHIFT, -ENODEV),
        MEMFD("the longest name", longest, 0, ANY_VALUE),
        MEMFD("an empty name", "", 0, ANY_VALUE),
        MEMFD("closed by exec", "x", MFD_CLOEXEC, ANY_VALUE),
        MEMFD("to be sealed", "x", MFD_ALLOW_SEALING, ANY_VALUE),
        MEMFD("all of it", "x", MFD_CLOEXEC | MFD_ALLOW_SEALING, ANY_VALUE),
    };
    const struct row newer[] = {
        MEMFD("to be executed, and not", "x", NOEXEC_SEAL | EXEC, -EINVAL),
        MEMFD("never to be executed", "x", NOEXEC_SEAL, ANY_VALUE),
        MEMFD("to be executed", "x", EXEC, ANY_VALUE),
    };
    struct stat status;

    RUN_AROUND(rows, &closing);
    if (is_since(6, 3))
        RUN_AROUND(newer, &closing);
    int fd = memfd_create("name", MFD_CLOEXEC);

    EXPECT(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EXPECT(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    EXPECT(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
    EXPECT(fstat(fd, &status), 0);
    EXPECT(status.st_size == 0 && S_ISREG(status.st_mode) && status.st_nlink == 0, true);
    close(fd);
    EXPECT(in_child(no_descriptors), 0);
    at_file_limit(no_files);
}
