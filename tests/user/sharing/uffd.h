/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_SHARING_UFFD_H
#define TESTS_USER_SHARING_UFFD_H

/* What the programs about userfaultfd share: its calls, in pages of `page` bytes, and a thread that
 * touches memory. */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "../check.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static size_t page;

static inline char *
map_pages(size_t count, int flags, int fd)
{
    char *at = mmap(NULL, count * page, PROT_READ | PROT_WRITE, flags, fd, 0);

    CHECK(at != MAP_FAILED);
    return at;
}

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static inline int
uffd_open(int flags, uint64_t features)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | flags);

    CHECK(fd >= 0);
    CHECK_EQ(ioctl(fd, UFFDIO_API, &api), 0);
    CHECK_EQ(api.features & features, features);
    return fd;
}

static inline int
uffd_register(int fd, char *at, size_t count, uint64_t mode)
{
    struct uffdio_register request = {.range = {(uintptr_t)at, count * page}, .mode = mode};

    return ioctl(fd, UFFDIO_REGISTER, &request);
}

static inline int
uffd_unregister(int fd, char *at, size_t count)
{
    struct uffdio_range range = {(uintptr_t)at, count * page};

    return ioctl(fd, UFFDIO_UNREGISTER, &range);
}

static inline int
uffd_wake(int fd, char *at, size_t count)
{
    struct uffdio_range range = {(uintptr_t)at, count * page};

    return ioctl(fd, UFFDIO_WAKE, &range);
}

static long copied; /* of the last copy: bytes, or an error */

static inline int
uffd_copy(int fd, char *to, const char *from, size_t count, uint64_t mode)
{
    struct uffdio_copy copy = {
        .dst = (uintptr_t)to, .src = (uintptr_t)from, .len = count * page, .mode = mode};
    int result = ioctl(fd, UFFDIO_COPY, &copy);

    copied = (long)copy.copy;
    return result;
}

static inline int
uffd_zero(int fd, char *to, size_t count)
{
    struct uffdio_zeropage zero = {.range = {(uintptr_t)to, count * page}};

    return ioctl(fd, UFFDIO_ZEROPAGE, &zero);
}

static inline int
uffd_protect(int fd, char *at, size_t count, uint64_t mode)
{
    struct uffdio_writeprotect protect = {.range = {(uintptr_t)at, count * page}, .mode = mode};

    return ioctl(fd, UFFDIO_WRITEPROTECT, &protect);
}

static inline int
uffd_continue(int fd, char *at, size_t count)
{
    struct uffdio_continue request = {.range = {(uintptr_t)at, count * page}};

    return ioctl(fd, UFFDIO_CONTINUE, &request);
}

/* Wait for a fault and check what it says. */
static inline void
expect_fault(int fd, const char *address, uint64_t flags)
{
    struct uffd_msg message;
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    memset(&message, 0, sizeof(message));
    (void)poll(&wait, 1, -1);
    CHECK_EQ(read(fd, &message, sizeof(message)), sizeof(message));
    CHECK_EQ(message.event, UFFD_EVENT_PAGEFAULT);
    CHECK_EQ(message.arg.pagefault.address, (uintptr_t)address);
    CHECK_EQ(message.arg.pagefault.flags, flags);
}

/* ---- a thread that touches memory -------------------------------------------------------- */

struct touch {
    pthread_t thread;
    volatile char *at;
    int store; /* value to store; -1: load */
    int result;
    volatile int tid, done;
};

static inline void *
touch_body(void *context)
{
    struct touch *touch = context;

    touch->tid = (int)syscall(SYS_gettid);
    if (touch->store >= 0)
        *touch->at = (char)touch->store;
    else
        touch->result = (unsigned char)*touch->at;
    touch->done = 1;
    return NULL;
}

static inline void
touch_start(struct touch *touch, char *at, int store)
{
    memset(touch, 0, sizeof(*touch));
    touch->at = at;
    touch->store = store;
    CHECK_EQ(pthread_create(&touch->thread, NULL, touch_body, touch), 0);
}

static inline int
touch_end(struct touch *touch)
{
    CHECK_EQ(pthread_join(touch->thread, NULL), 0);
    CHECK_EQ(touch->done, 1);
    return touch->result;
}

#endif
