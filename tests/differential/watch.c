/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd as far as one thread can use it: with UFFD_FEATURE_SIGBUS a fault that nobody
 * resolved is a signal, and is not waited for.  Each process has its own descriptor, made when
 * it first asks; a fork leaves the child's memory unwatched.
 */
#include "differential.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

enum { FD_WATCH = 110, USER_MODE_ONLY = 1 };

/* The descriptor of this process. */
static long
watcher(void)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_SIGBUS};
    uint64_t fd = FD_WATCH + self;
    long made, result;

    if (call(CALL_FCNTL, fd, F_GETFD) >= 0)
        return (long)fd;
    made = call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
    if (made < 0)
        return made;
    scratch_put(0, &api, sizeof(api));
    result = call(SYS_ioctl, (uint64_t)made, UFFDIO_API, machine_scratch());
    if (result == 0)
        result = call(SYS_dup3, (uint64_t)made, fd, 0);
    call(SYS_close, (uint64_t)made);
    return result;
}

static void
register_execute(const uintptr_t *arg, long fd)
{
    struct uffdio_register range = {.range = {arg[0], arg[1]}, .mode = arg[2]};
    long result;

    /* Nothing is mapped ahead; and whether a child has the page of zeroes is nobody's business. */
    if (((arg[2] & UFFDIO_REGISTER_MODE_MINOR) || self != 0) && is_ours(arg[0]) &&
        is_ours(arg[0] + arg[1]))
        call(SYS_madvise, arg[0], arg[1], 4);
    scratch_put(0, &range, sizeof(range));
    result = call(SYS_ioctl, (uint64_t)fd, UFFDIO_REGISTER, machine_scratch());
    say_result(result);
    scratch_get(&range, 0, sizeof(range));
    /* Those that Quire has: wake, copy, zero page, write protection, continue. */
    if (result == 0)
        say(" ioctls %lx", (unsigned long)(range.ioctls & 0xdc));
}

void
unwatch_around(uintptr_t start, size_t bytes)
{
    const uintptr_t beside[] = {start - PAGE_BYTES, start + bytes};
    uint64_t fd = FD_WATCH + self;

    if (start % PAGE_BYTES != 0 || bytes % PAGE_BYTES != 0 || call(CALL_FCNTL, fd, F_GETFD) < 0)
        return;
    for (unsigned i = 0; i < 2; i++) {
        const struct uffdio_range range = {beside[i], PAGE_BYTES};

        if (!is_ours(beside[i]))
            continue;
        scratch_put(0, &range, sizeof(range));
        call(SYS_ioctl, fd, UFFDIO_UNREGISTER, machine_scratch());
    }
}

/* arg: which, where, length, from or mode. */
static void
resolve_execute(const uintptr_t *arg, long fd)
{
    struct uffdio_copy copy = {.dst = arg[1], .src = arg[3], .len = arg[2], .mode = arg[4]};
    struct uffdio_zeropage zero = {.range = {arg[1], arg[2]}, .mode = arg[4]};
    struct uffdio_writeprotect protect = {.range = {arg[1], arg[2]}, .mode = arg[4]};
    struct uffdio_continue resume = {.range = {arg[1], arg[2]}, .mode = arg[4]};
    int64_t done = 0;

    switch (arg[0] % 4) {
    case 0:
        scratch_put(0, &copy, sizeof(copy));
        say_result(call(SYS_ioctl, (uint64_t)fd, UFFDIO_COPY, machine_scratch()));
        scratch_get(&copy, 0, sizeof(copy));
        done = copy.copy;
        break;
    case 1:
        scratch_put(0, &zero, sizeof(zero));
        say_result(call(SYS_ioctl, (uint64_t)fd, UFFDIO_ZEROPAGE, machine_scratch()));
        scratch_get(&zero, 0, sizeof(zero));
        done = zero.zeropage;
        break;
    case 2:
        scratch_put(0, &protect, sizeof(protect));
        say_result(call(SYS_ioctl, (uint64_t)fd, UFFDIO_WRITEPROTECT, machine_scratch()));
        break;
    default:
        scratch_put(0, &resume, sizeof(resume));
        say_result(call(SYS_ioctl, (uint64_t)fd, UFFDIO_CONTINUE, machine_scratch()));
        scratch_get(&resume, 0, sizeof(resume));
        done = resume.mapped;
        break;
    }
    say(" done %ld", (long)done);
}

void
watch_execute(enum op_kind kind, const uintptr_t *arg)
{
    struct uffdio_range range = {arg[0], arg[1]};
    long fd = watcher();

    if (fd < 0) {
        say(" no watcher");
        say_result(fd);
        return;
    }
    if (kind == OP_WATCH) {
        register_execute(arg, fd);
    } else if (kind == OP_RESOLVE) {
        resolve_execute(arg, fd);
    } else {
        scratch_put(0, &range, sizeof(range));
        say_result(call(SYS_ioctl, (uint64_t)fd, UFFDIO_UNREGISTER, machine_scratch()));
    }
}
