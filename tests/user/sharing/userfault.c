/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: what is refused, what is told of whom, what an answer does, and that nobody waits
 * for ever when descriptor, region or process go away.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "uffd.h"

/* ---- refusals -------------------------------------------------------------------------------- */

static void
test_errors(void)
{
    struct uffdio_api api = {.api = UFFD_API + 1};
    struct uffd_msg message;
    char *at = map_pages(4, ANON, -1), *other = map_pages(1, ANON, -1);
    int fd, second, read_only, pipe_ends[2];

    CHECK_ERRNO(syscall(SYS_userfaultfd, 2), EINVAL);
    fd = (int)syscall(SYS_userfaultfd, O_NONBLOCK);
    CHECK(fd >= 0);
    CHECK_ERRNO(read(fd, &message, sizeof(message)), EINVAL);
    CHECK_ERRNO(uffd_register(fd, at, 1, UFFDIO_REGISTER_MODE_MISSING), EINVAL);
    CHECK_ERRNO(ioctl(fd, UFFDIO_API, &api), EINVAL);
    api.api = UFFD_API;
    api.features = (uint64_t)1 << 60;
    CHECK_ERRNO(ioctl(fd, UFFDIO_API, &api), EINVAL);
    CHECK_ERRNO(ioctl(fd, UFFDIO_API, (void *)8), EFAULT);
    api.api = UFFD_API;
    api.features = 0;
    CHECK_EQ(ioctl(fd, UFFDIO_API, &api), 0);
    CHECK_EQ(api.ioctls & 3, 3);
    CHECK_ERRNO(ioctl(fd, UFFDIO_API, &api), EINVAL); /* once */
    CHECK_ERRNO(read(fd, &message, sizeof(message)), EAGAIN);
    CHECK_ERRNO(read(fd, &message, 8), EINVAL);
    CHECK_ERRNO(ioctl(fd, 0x1234, 0), EINVAL);
    CHECK_ERRNO(uffd_register(fd, at, 1, 0), EINVAL);
    CHECK_ERRNO(uffd_register(fd, at, 1, 64), EINVAL);
    CHECK_ERRNO(uffd_register(fd, at + 1, 1, UFFDIO_REGISTER_MODE_MISSING), EINVAL);
    CHECK_ERRNO(uffd_register(fd, at, 0, UFFDIO_REGISTER_MODE_MISSING), EINVAL);
    CHECK_ERRNO(uffd_register(fd, at, 1, UFFDIO_REGISTER_MODE_MINOR), EINVAL);
    CHECK_ERRNO(
        uffd_register(fd, (char *)(UINTPTR_MAX / 2 / page * page), 1, UFFDIO_REGISTER_MODE_MISSING),
        sizeof(void *) == 8 ? EINVAL : ENOMEM);
    CHECK_EQ(pipe(pipe_ends), 0);
    read_only = open("/proc/self/exe", O_RDONLY);
    char *file = mmap(NULL, page, PROT_READ, MAP_SHARED, read_only, 0);
    CHECK(file != MAP_FAILED);
    CHECK(uffd_register(fd, file, 1, UFFDIO_REGISTER_MODE_MISSING) == -1 &&
          (errno == EINVAL || errno == EPERM));
    CHECK_EQ(uffd_register(fd, at, 2, UFFDIO_REGISTER_MODE_MISSING), 0);
    second = uffd_open(O_NONBLOCK, 0);
    CHECK_ERRNO(uffd_register(second, at, 1, UFFDIO_REGISTER_MODE_MISSING), EBUSY);
    CHECK_ERRNO(uffd_copy(fd, at + 2 * page, other, 1, 0), ENOENT);
    CHECK_ERRNO(uffd_copy(fd, at, other, 1, 64), EINVAL);
    CHECK_ERRNO(uffd_copy(fd, at + 1, other, 1, 0), EINVAL);
    CHECK_ERRNO(uffd_copy(fd, at, (char *)8, 1, 0), EFAULT);
    CHECK_EQ(copied, -EFAULT);
    CHECK_ERRNO(uffd_copy(fd, at, other, 1, UFFDIO_COPY_MODE_WP), EINVAL);
    CHECK_ERRNO(uffd_zero(fd, at + 2 * page, 1), ENOENT);
    CHECK_ERRNO(uffd_protect(fd, at, 1, UFFDIO_WRITEPROTECT_MODE_WP), ENOENT);
    CHECK_ERRNO(uffd_protect(fd, at, 1, 64), EINVAL);
    CHECK_ERRNO(
        uffd_protect(fd, at, 1, UFFDIO_WRITEPROTECT_MODE_WP | UFFDIO_WRITEPROTECT_MODE_DONTWAKE),
        EINVAL);
    CHECK_ERRNO(uffd_wake(fd, at + 1, 1), EINVAL);
    CHECK_EQ(uffd_unregister(fd, at, 4), 0);
    close(read_only);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    close(fd);
    close(second);
    munmap(at, 4 * page);
    munmap(other, page);
    munmap(file, page);
}

/* ---- missing pages ---------------------------------------------------------------------------- */

static void
test_missing(char *at, int shared)
{
    char *source = map_pages(2, ANON, -1);
    int fd = uffd_open(O_NONBLOCK, UFFD_FEATURE_THREAD_ID);
    struct uffd_msg message;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    struct touch touch;

    memset(source, 's', page);
    memset(source + page, 't', page);
    CHECK_EQ(uffd_register(fd, at, 8, UFFDIO_REGISTER_MODE_MISSING), 0);
    CHECK_EQ(poll(&wait, 1, 0), 0);
    touch_start(&touch, at + 5, -1);
    CHECK_EQ(poll(&wait, 1, -1), 1);
    CHECK_EQ(wait.revents, POLLIN);
    CHECK_EQ(read(fd, &message, sizeof(message)), sizeof(message));
    CHECK_EQ(message.arg.pagefault.address, (uintptr_t)at);
    CHECK_EQ(message.arg.pagefault.flags, 0);
    CHECK_EQ(message.arg.pagefault.feat.ptid, touch.tid);
    CHECK_ERRNO(read(fd, &message, sizeof(message)), EAGAIN);
    CHECK_EQ(touch.done, 0);
    CHECK_EQ(uffd_copy(fd, at, source, 1, UFFDIO_COPY_MODE_DONTWAKE), 0);
    CHECK_EQ(copied, page);
    CHECK_EQ(uffd_wake(fd, at, 1), 0);
    CHECK_EQ(touch_end(&touch), 's');
    CHECK_ERRNO(uffd_copy(fd, at, source, 1, 0), EEXIST);
    CHECK_EQ(copied, -EEXIST);

    touch_start(&touch, at + page, 'w');
    expect_fault(fd, at + page, UFFD_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_copy(fd, at + page, source, 2, 0), 0);
    touch_end(&touch);
    CHECK_EQ(at[page], 'w');
    CHECK_EQ(at[page + 1], 's');
    CHECK_EQ(at[2 * page], 't');
    /* Some first pages: what is done stays. */
    CHECK_EQ(uffd_zero(fd, at + 4 * page, 1), 0);
    CHECK_ERRNO(uffd_copy(fd, at + 3 * page, source, 2, 0), EAGAIN);
    CHECK_EQ(copied, page);
    CHECK_EQ(at[3 * page], 's');
    CHECK_EQ(at[4 * page], 0);
    at[4 * page] = 'z';
    CHECK_ERRNO(uffd_zero(fd, at + 4 * page, 1), EEXIST);

    /* Woken without an answer: it faults again. */
    touch_start(&touch, at + 6 * page, -1);
    expect_fault(fd, at + 6 * page, 0);
    CHECK_EQ(uffd_wake(fd, at + 6 * page, 1), 0);
    expect_fault(fd, at + 6 * page, 0);
    CHECK_EQ(uffd_unregister(fd, at + 6 * page, 1), 0);
    CHECK_EQ(touch_end(&touch), 0);

    /* A copy made by fork knows no listener. */
    pid_t child = fork();
    int status = -1;
    if (child == 0)
        _exit(at[7 * page] == 0 && at[page] == 'w' ? 0 : 1);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    if (!shared)
        CHECK_EQ(madvise(at, page, MADV_DONTNEED), 0);
    else
        CHECK_EQ(madvise(at, page, MADV_REMOVE), 0);
    touch_start(&touch, at, -1);
    expect_fault(fd, at, 0);
    close(fd); /* as if there had never been a listener */
    CHECK_EQ(touch_end(&touch), 0);
    munmap(source, 2 * page);
}

/* ---- write protection --------------------------------------------------------------------------- */

static void
test_protect(char *at, int shared)
{
    int fd = uffd_open(O_NONBLOCK, UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    struct touch touch;
    char *source = map_pages(1, ANON, -1);
    int status = -1;

    memset(at, 'a', 4 * page);
    if (uffd_register(fd, at, 6, UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MISSING) != 0 &&
        errno == EINVAL) { /* not every machine has it */
        close(fd);
        return;
    }
    CHECK_EQ(uffd_protect(fd, at, 3, UFFDIO_WRITEPROTECT_MODE_WP), 0);
    CHECK_EQ(at[0], 'a'); /* reads go on */
    touch_start(&touch, at + 1, 'b');
    expect_fault(fd, at, UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP);
    CHECK_EQ(at[1], 'a');
    CHECK_EQ(uffd_protect(fd, at, 1, 0), 0);
    touch_end(&touch);
    CHECK_EQ(at[1], 'b');
    at[3 * page] = 'c'; /* was not protected */

    /* Rights given back do not undo it. */
    CHECK_EQ(mprotect(at, 3 * page, PROT_READ), 0);
    CHECK_EQ(mprotect(at, 3 * page, PROT_READ | PROT_WRITE), 0);
    touch_start(&touch, at + page, 'd');
    expect_fault(fd, at + page, UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP);
    CHECK_EQ(uffd_protect(fd, at + page, 1, UFFDIO_WRITEPROTECT_MODE_DONTWAKE), 0);
    CHECK_EQ(uffd_wake(fd, at + page, 1), 0);
    touch_end(&touch);
    CHECK_EQ(at[page], 'd');

    /* Filled and protected in one step. */
    memset(source, 'f', page);
    CHECK_EQ(uffd_copy(fd, at + 4 * page, source, 1, UFFDIO_COPY_MODE_WP), 0);
    CHECK_EQ(at[4 * page], 'f');
    touch_start(&touch, at + 4 * page, 'g');
    expect_fault(fd, at + 4 * page, UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP);
    CHECK_EQ(uffd_protect(fd, at + 4 * page, 1, 0), 0);
    touch_end(&touch);
    CHECK_EQ(at[4 * page], 'g');

    /* The child of a fork writes its own copy unseen, of private memory. */
    if (!shared) {
        pid_t child = fork();

        if (child == 0) {
            at[2 * page] = 'x';
            _exit(at[2 * page] == 'x' ? 0 : 1);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
    touch_start(&touch, at + 2 * page, 'e');
    expect_fault(fd, at + 2 * page, UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP);
    CHECK_EQ(uffd_unregister(fd, at, 6), 0);
    touch_end(&touch);
    CHECK_EQ(at[2 * page], 'e');
    close(fd);
    munmap(source, page);
}

/* ---- minor faults ------------------------------------------------------------------------------- */

static void
test_minor(void)
{
    int memory = memfd_create("minor", 0), fd;
    struct touch touch;

    CHECK_EQ(ftruncate(memory, (off_t)(4 * page)), 0);
    char *watched = map_pages(4, MAP_SHARED, memory), *other = map_pages(4, MAP_SHARED, memory);
    memset(other, 'o', 2 * page);
    fd = uffd_open(O_NONBLOCK, UFFD_FEATURE_MINOR_SHMEM);
    CHECK_EQ(uffd_register(fd, watched, 4, UFFDIO_REGISTER_MODE_MINOR), 0);
    touch_start(&touch, watched + 3, -1);
    expect_fault(fd, watched, UFFD_PAGEFAULT_FLAG_MINOR);
    other[3] = 'n'; /* the page is there: change it, then let it be seen */
    CHECK_EQ(uffd_continue(fd, watched, 1), 0);
    CHECK_EQ(touch_end(&touch), 'n');
    CHECK_ERRNO(uffd_continue(fd, watched, 1), EEXIST);
    CHECK_ERRNO(uffd_continue(fd, watched + 3 * page, 1), EFAULT); /* no page there */
    touch_start(&touch, watched + page, 'p');
    expect_fault(fd, watched + page, UFFD_PAGEFAULT_FLAG_MINOR | UFFD_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_continue(fd, watched + page, 1), 0);
    touch_end(&touch);
    CHECK_EQ(other[page], 'p');
    watched[2 * page] = 1; /* missing, not minor: no listener for that */
    CHECK_EQ(other[2 * page], 1);
    close(fd);
    close(memory);
    munmap(watched, 4 * page);
    munmap(other, 4 * page);
}

/* ---- the kernel's own accesses -------------------------------------------------------------------- */

struct writer {
    pthread_t thread;
    int fd;
    char *from;
    ssize_t result;
    int error;
};

static void *
writer_body(void *context)
{
    struct writer *writer = context;

    writer->result = write(writer->fd, writer->from, 100);
    writer->error = errno;
    return NULL;
}

static void
test_kernel_access(void)
{
    char *at = map_pages(4, ANON, -1), *source = map_pages(1, ANON, -1), buffer[100] = {0};
    int fd = uffd_open(O_NONBLOCK, 0), pipe_ends[2];
    struct writer writer = {.from = at};
    struct iovec local = {buffer, 100}, remote = {at + 3 * page, 100};

    memset(source, 'k', page);
    CHECK_EQ(pipe(pipe_ends), 0);
    writer.fd = pipe_ends[1];
    CHECK_EQ(uffd_register(fd, at, 4, UFFDIO_REGISTER_MODE_MISSING), 0);
    CHECK_EQ(pthread_create(&writer.thread, NULL, writer_body, &writer), 0);
    expect_fault(fd, at, 0);
    CHECK_EQ(uffd_copy(fd, at, source, 1, 0), 0);
    CHECK_EQ(pthread_join(writer.thread, NULL), 0);
    CHECK_EQ(writer.result, 100);
    CHECK_EQ(read(pipe_ends[0], buffer, 100), 100);
    CHECK_EQ(buffer[99], 'k');
    close(fd);

    fd = uffd_open(O_NONBLOCK | UFFD_USER_MODE_ONLY, 0);
    CHECK_EQ(uffd_register(fd, at, 4, UFFDIO_REGISTER_MODE_MISSING), 0);
    CHECK_ERRNO(write(pipe_ends[1], at + page, 100), EFAULT);
    CHECK_ERRNO(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), EFAULT);
    close(fd);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    munmap(at, 4 * page);
    munmap(source, page);
}

/* ---- signals and ends --------------------------------------------------------------------------------- */

static volatile sig_atomic_t handled;

static void
handler(int number)
{
    (void)number;
    handled++;
}

static void
test_signal(void)
{
    char *at = map_pages(1, ANON, -1);
    int fd = uffd_open(O_NONBLOCK, 0);
    struct sigaction action = {.sa_handler = handler};
    struct touch touch;

    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_EQ(uffd_register(fd, at, 1, UFFDIO_REGISTER_MODE_MISSING), 0);
    touch_start(&touch, at, -1);
    expect_fault(fd, at, 0);
    handled = 0;
    CHECK_EQ(pthread_kill(touch.thread, SIGUSR1), 0);
    expect_fault(fd, at, 0); /* after the handler it faults again */
    CHECK_EQ(handled, 1);
    CHECK_EQ(uffd_zero(fd, at, 1), 0);
    CHECK_EQ(touch_end(&touch), 0);
    close(fd);
    munmap(at, page);
}

static void
test_sigbus(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        char *at = map_pages(1, ANON, -1);
        int fd = uffd_open(O_NONBLOCK, UFFD_FEATURE_SIGBUS);

        CHECK_EQ(uffd_register(fd, at, 1, UFFDIO_REGISTER_MODE_MISSING), 0);
        *(volatile char *)at = 1;
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status & 0x7f, SIGBUS);
}

enum { END_EXIT, END_KILL, END_EXEC, END_UNMAP, END_COUNT };

static void
child_that_ends(int how, int ready)
{
    char *at = map_pages(2, ANON, -1);
    int fd = uffd_open(O_NONBLOCK, 0);
    struct touch touch, second;
    char *arguments[] = {(char *)"userfault", (char *)"--exec", NULL};

    CHECK_EQ(uffd_register(fd, at, 2, UFFDIO_REGISTER_MODE_MISSING), 0);
    touch_start(&touch, at, -1);
    expect_fault(fd, at, 0);
    touch_start(&second, at + page, 1);
    expect_fault(fd, at + page, UFFD_PAGEFAULT_FLAG_WRITE);
    (void)!write(ready, "x", 1);
    if (how == END_EXIT)
        _exit(check_failures);
    if (how == END_EXEC)
        execv("/proc/self/exe", arguments);
    if (how == END_UNMAP) {
        munmap(at, 2 * page);
        uffd_wake(fd, at, 2); /* they find nothing there */
    }
    for (;;)
        pause();
}

static void
test_ends(void)
{
    static const int expected[] = {0, SIGKILL, 0, SIGSEGV};

    for (int how = 0; how < END_COUNT; how++) {
        int status = -1, ends[2];
        char byte;

        CHECK_EQ(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0)
            child_that_ends(how, ends[1]);
        CHECK_EQ(read(ends[0], &byte, 1), 1);
        if (how == END_KILL)
            CHECK_EQ(kill(child, SIGKILL), 0);
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status & 0xff7f, expected[how]); /* the core bit is the system's choice */
        close(ends[0]);
        close(ends[1]);
    }
}

/* A descriptor outlives the memory that it is for. */
static void
test_outlived(void)
{
    int ends[2], fd;
    char byte;
    pid_t child;

    CHECK_EQ(pipe(ends), 0);
    fd = uffd_open(O_NONBLOCK, 0);
    char *at = map_pages(1, ANON, -1);
    CHECK_EQ(uffd_register(fd, at, 1, UFFDIO_REGISTER_MODE_MISSING), 0);
    child = fork(); /* has the descriptor, which stays ours */
    if (child == 0) {
        char *mine = map_pages(1, ANON, -1);

        CHECK_EQ(read(ends[0], &byte, 1), 1);
        CHECK_EQ(uffd_zero(fd, at, 1), 0); /* in the parent's memory */
        _exit(check_failures != 0 || mine[0] != 0);
    }
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(at[0], 0);
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    close(fd);
    munmap(at, page);
    close(ends[0]);
    close(ends[1]);
}

int
main(int argc, char **argv)
{
    int memory;

    if (argc > 1 && strcmp(argv[1], "--exec") == 0)
        return 0;
    page = (size_t)sysconf(_SC_PAGESIZE);
    if (syscall(SYS_userfaultfd, O_CLOEXEC) < 0 && errno == EPERM) {
        printf("userfault: not allowed here\n");
        return 0;
    }
    test_errors();
    char *at = map_pages(8, ANON, -1);
    test_missing(at, 0);
    munmap(at, 8 * page);
    at = map_pages(8, MAP_SHARED | MAP_ANONYMOUS, -1);
    test_missing(at, 1);
    munmap(at, 8 * page);
    memory = memfd_create("watched", 0);
    CHECK_EQ(ftruncate(memory, (off_t)(8 * page)), 0);
    at = map_pages(8, MAP_SHARED, memory);
    test_protect(at, 1);
    munmap(at, 8 * page);
    close(memory);
    at = map_pages(8, ANON, -1);
    test_protect(at, 0);
    munmap(at, 8 * page);
    test_minor();
    test_kernel_access();
    test_signal();
    test_sigbus();
    test_ends();
    test_outlived();
    return check_done("userfault");
}
