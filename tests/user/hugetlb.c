/* SPDX-License-Identifier: MIT */
/*
 * Huge pages by name: mmap(MAP_HUGETLB), memfd_create(MFD_HUGETLB), what the pool says of
 * them in /proc and /sys, and the errors.  Where the pool cannot be filled, there is nothing
 * to test.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4u
#endif

#define SHM_HUGE 04000 /* SHM_HUGETLB */
#define ANON     (MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB)
#define RW       (PROT_READ | PROT_WRITE)
#define POOL     6

static size_t huge; /* bytes of a page */
static unsigned huge_shift;

/* ---- The pool -------------------------------------------------------------------- */

static long
file_number(const char *path)
{
    char text[32] = "";
    int fd = open(path, O_RDONLY);

    if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
        return -1;
    close(fd);
    return atol(text);
}

static int
file_set(const char *path, long value)
{
    char text[32];
    int fd = open(path, O_WRONLY);
    int length = snprintf(text, sizeof(text), "%ld\n", value);
    int done = fd >= 0 && write(fd, text, (size_t)length) == length;

    close(fd);
    return done;
}

static long
field(const char *path, const char *name)
{
    char line[256];
    FILE *file = fopen(path, "r");
    long value = -1;
    size_t length = strlen(name);

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, length) == 0 && line[length] == ':')
            value = atol(line + length + 1);
    }
    if (file != NULL)
        fclose(file);
    return value;
}

/* The number behind @name in the smaps of the region that starts at @at. */
static long
smaps_field(const void *at, const char *name)
{
    FILE *smaps = fopen("/proc/self/smaps", "r");
    size_t length = strlen(name);
    char line[256];
    long value = -1;
    int here = 0;

    while (smaps != NULL && fgets(line, sizeof(line), smaps) != NULL) {
        unsigned long start, end;

        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            here = start == (unsigned long)at;
        if (here && strncmp(line, name, length) == 0 && line[length] == ':')
            value = atol(line + length + 1);
    }
    if (smaps != NULL)
        fclose(smaps);
    return value;
}

static void
expect_pool(int line, long total, long free, long reserved, long surplus)
{
    const char *names[] = {"HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"};
    const long wanted[] = {total, free, reserved, surplus};

    for (int i = 0; i < 4; i++) {
        long value = field("/proc/meminfo", names[i]);

        check_count++;
        if (value != wanted[i]) {
            check_failures++;
            printf("FAIL %s:%d: %s is %ld, expected %ld\n", __FILE__, line, names[i], value,
                   wanted[i]);
        }
    }
}
#define EXPECT_POOL(...) expect_pool(__LINE__, __VA_ARGS__)

static char *
map(size_t pages, int flags)
{
    return mmap(NULL, pages * huge, RW, flags, -1, 0);
}

/* ---- What an access does ------------------------------------------------------------ */

/* Exit code of a child that runs @fn: 0, or the number of the signal that ended it. */
static int
in_child(void (*fn)(char *), char *at)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        fn(at);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void
touch(char *at)
{
    *(volatile char *)at = 1;
}

/* ---- Tests ---------------------------------------------------------------------------- */

static void
test_private(void)
{
    char *at = map(3, ANON);

    CHECK(at != MAP_FAILED);
    CHECK_EQ((uintptr_t)at % huge, 0);
    EXPECT_POOL(POOL, POOL, 3, 0);
    CHECK_EQ(at[huge + 5], 0); /* a read takes a page, too */
    EXPECT_POOL(POOL, POOL - 1, 2, 0);
    at[2 * huge] = 7;
    EXPECT_POOL(POOL, POOL - 2, 1, 0);
    CHECK_ERRNO(munmap(at, 4096), EINVAL);
    CHECK_ERRNO(munmap(at + 4096, huge), EINVAL);
    CHECK_ERRNO(mprotect(at, 4096, PROT_READ), EINVAL);
    CHECK_EQ(mprotect(at, huge, PROT_READ), 0);
    CHECK_EQ(in_child(touch, at), SIGSEGV);
    CHECK_EQ(mprotect(at, huge, RW), 0);
    at[0] = 1;
    EXPECT_POOL(POOL, POOL - 3, 0, 0);
    CHECK_EQ(madvise(at, huge, MADV_DONTNEED), 0);
    CHECK_ERRNO(madvise(at + 4096, huge, MADV_DONTNEED), EINVAL);
    CHECK_ERRNO(madvise(at, huge, MADV_FREE), EINVAL);
    CHECK_EQ(at[0], 0);
    CHECK_EQ(munmap(at + huge, huge), 0);
    EXPECT_POOL(POOL, POOL - 2, 0, 0);
    CHECK_EQ(at[2 * huge], 7);
    CHECK_EQ(munmap(at, 3 * huge), 0);
    EXPECT_POOL(POOL, POOL, 0, 0);
}

static void
test_errors(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = open("/proc/self/exe", O_RDONLY);
    char *at;

    CHECK_ERRNO((long)map(POOL + 1, ANON), ENOMEM);
    CHECK_ERRNO((long)mmap(NULL, 0, RW, ANON, -1, 0), EINVAL);
    CHECK_ERRNO((long)mmap(NULL, huge, RW, ANON | 13 << MAP_HUGE_SHIFT, -1, 0), EINVAL);
    CHECK_ERRNO((long)mmap(NULL, huge, PROT_READ, MAP_PRIVATE | MAP_HUGETLB, fd, 0), EINVAL);
    CHECK_ERRNO((long)mmap((void *)(64 * huge + page), huge, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
    close(fd);
    EXPECT_POOL(POOL, POOL, 0, 0);

    /* Lengths are rounded up, hints too. */
    at = mmap(NULL, 1, RW, ANON | (int)(huge_shift << MAP_HUGE_SHIFT), -1, 0);
    CHECK(at != MAP_FAILED);
    at[huge - 1] = 1;
    EXPECT_POOL(POOL, POOL - 1, 0, 0);
    CHECK_EQ(munmap(at, huge), 0);

    /* Growing is refused, moving is not; pieces are. */
    at = map(2, ANON);
    CHECK_ERRNO((long)mremap(at, huge, 2 * huge, MREMAP_MAYMOVE), EINVAL);
    CHECK_ERRNO((long)mremap(at + page, huge, huge, MREMAP_MAYMOVE), EINVAL);
    at[0] = 9;
    char *to = map(2, ANON | MAP_NORESERVE);
    CHECK_EQ((long)mremap(at, huge, huge, MREMAP_MAYMOVE | MREMAP_FIXED, to), (long)to);
    CHECK_EQ(to[0], 9);
    CHECK_EQ(in_child(touch, at), SIGSEGV);
    CHECK_EQ(munmap(to, 2 * huge), 0);
    CHECK_EQ(munmap(at + huge, huge), 0);
    EXPECT_POOL(POOL, POOL, 0, 0);
}

static void
test_no_reserve(void)
{
    char *held = map(POOL, ANON);
    char *at = map(1, ANON | MAP_NORESERVE);

    CHECK(held != MAP_FAILED && at != MAP_FAILED);
    CHECK_EQ(in_child(touch, at), SIGBUS); /* all of them are promised */
    held[0] = 1;
    CHECK_EQ(munmap(held, POOL * huge), 0);
    CHECK_EQ(in_child(touch, at), 0);
    CHECK_EQ(munmap(at, huge), 0);
}

static void
test_shared(void)
{
    char *at = map(2, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB);

    CHECK(at != MAP_FAILED);
    EXPECT_POOL(POOL, POOL, 2, 0);
    CHECK_EQ(in_child(touch, at + huge), 0);
    CHECK_EQ(at[huge], 1);
    EXPECT_POOL(POOL, POOL - 1, 1, 0);
    CHECK_EQ(munmap(at, 2 * huge), 0);
    EXPECT_POOL(POOL, POOL, 0, 0);
}

static char *fork_at;

static void
fork_body(char *at)
{
    if (at[0] != 1)
        _exit(99);
    at[0] = 2; /* the last free page */
    at[huge] = 2;
}

/* The child finds the pool empty: SIGBUS; the parent, which was promised its pages, does not. */
static void
test_fork(void)
{
    size_t pages = POOL - 1;

    fork_at = map(pages, ANON);
    CHECK(fork_at != MAP_FAILED);
    for (size_t i = 0; i < pages; i++)
        fork_at[i * huge] = 1;
    EXPECT_POOL(POOL, 1, 0, 0);
    CHECK_EQ(in_child(fork_body, fork_at), SIGBUS);
    CHECK_EQ(fork_at[0], 1);
    CHECK_EQ(fork_at[huge], 1);
    EXPECT_POOL(POOL, 1, 0, 0);

    int ends[2], status;
    CHECK_EQ(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;

        if (read(ends[0], &byte, 1) != 1)
            _exit(98);
        _exit(fork_at[2 * huge] == 1 ? 0 : 97); /* which the parent has taken */
    }
    for (size_t i = 0; i < pages; i++)
        fork_at[i * huge] = 3; /* one copy, then the child's are taken */
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    CHECK_EQ(munmap(fork_at, pages * huge), 0);
    EXPECT_POOL(POOL, POOL, 0, 0);
    close(ends[0]);
    close(ends[1]);
}

static void
test_memfd(void)
{
    int fd = (int)syscall(SYS_memfd_create, "huge", MFD_HUGETLB | 2u /* MFD_ALLOW_SEALING */);
    struct stat stat;
    char byte = 5;

    CHECK(fd >= 0);
    CHECK_ERRNO(syscall(SYS_memfd_create, "huge", MFD_HUGETLB | 13u << MAP_HUGE_SHIFT), ENODEV);
    CHECK_ERRNO(syscall(SYS_memfd_create, "huge", 13u << MAP_HUGE_SHIFT), EINVAL);
    CHECK_ERRNO(ftruncate(fd, 4096), EINVAL);
    CHECK_EQ(ftruncate(fd, (off_t)(3 * huge)), 0);
    CHECK_ERRNO(write(fd, &byte, 1), EINVAL);
    char *at = mmap(NULL, 2 * huge, RW, MAP_SHARED, fd, (off_t)huge);
    CHECK(at != MAP_FAILED);
    EXPECT_POOL(POOL, POOL, 2, 0);
    at[huge] = 4;
    CHECK_EQ(pread(fd, &byte, 1, (off_t)(2 * huge)), 1);
    CHECK_EQ(byte, 4);
    CHECK_EQ(pread(fd, &byte, 1, 0), 1); /* a hole */
    CHECK_EQ(byte, 0);
    CHECK_EQ(fstat(fd, &stat), 0);
    CHECK_EQ(stat.st_blksize, huge);
    CHECK_EQ(stat.st_size, 3 * huge);
    CHECK_EQ((size_t)stat.st_blocks * 512, huge);

    char *copy = mmap(NULL, huge, RW, MAP_PRIVATE, fd, (off_t)(2 * huge));
    CHECK(copy != MAP_FAILED);
    CHECK_EQ(copy[0], 4);
    copy[0] = 8;
    CHECK_EQ(at[huge], 4);
    CHECK_EQ(copy[0], 8);
    CHECK_EQ(munmap(copy, huge), 0);

    CHECK_EQ(
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(2 * huge), (off_t)huge),
        0);
    CHECK_EQ(at[huge], 0);
    CHECK_EQ(ftruncate(fd, (off_t)huge), 0);
    CHECK_EQ(in_child(touch, at), SIGBUS);
    CHECK_EQ(fcntl(fd, 1033 /* F_ADD_SEALS */, 4 /* F_SEAL_GROW */), 0);
    CHECK_ERRNO(ftruncate(fd, (off_t)(2 * huge)), EPERM);
    CHECK_EQ(munmap(at, 2 * huge), 0);
    close(fd);
    EXPECT_POOL(POOL, POOL, 0, 0);
}

/* System V: promised when it is made, whoever attaches it; for root and one group. */
static void
test_shm(void)
{
    int id = shmget(IPC_PRIVATE, 2 * huge - 1, 0600 | IPC_CREAT | SHM_HUGE);
    struct shmid_ds status;

    CHECK(id >= 0);
    EXPECT_POOL(POOL, POOL, 2, 0);
    CHECK_EQ(shmctl(id, IPC_STAT, &status), 0);
    CHECK_EQ(status.shm_segsz, 2 * huge - 1);
    char *at = shmat(id, NULL, 0), *again = shmat(id, NULL, SHM_RDONLY);
    CHECK((long)at != -1 && (long)again != -1);
    CHECK_EQ((uintptr_t)at % huge, 0);
    EXPECT_POOL(POOL, POOL, 2, 0);
    at[2 * huge - 1] = 7;
    CHECK_EQ(again[2 * huge - 1], 7);
    CHECK_EQ(smaps_field(at, "KernelPageSize"), huge >> 10);
    EXPECT_POOL(POOL, POOL - 1, 1, 0);
    CHECK_EQ(in_child(touch, again), SIGSEGV);
    CHECK_EQ(in_child(touch, at), 0);
    CHECK_EQ(again[0], 1);
    CHECK_ERRNO((long)shmat(id, (char *)(64 * huge) + sysconf(_SC_PAGESIZE), 0), EINVAL);
    CHECK_EQ(shmdt(again), 0);
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
    CHECK_EQ(at[2 * huge - 1], 7);
    CHECK_EQ(shmdt(at), 0);
    EXPECT_POOL(POOL, POOL, 0, 0);

    CHECK_ERRNO(shmget(IPC_PRIVATE, (POOL + 1) * huge, 0600 | SHM_HUGE), ENOMEM);
    CHECK_ERRNO(shmget(IPC_PRIVATE, huge, 0600 | SHM_HUGE | 13 << MAP_HUGE_SHIFT), EINVAL);
    id = shmget(IPC_PRIVATE, huge, 0600 | SHM_HUGE | (int)(huge_shift << MAP_HUGE_SHIFT));
    CHECK(id >= 0);
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
    EXPECT_POOL(POOL, POOL, 0, 0);
}

static void
shm_as_somebody(char *at)
{
    (void)at;
    if (setgid(77) != 0 || setuid(77) != 0)
        _exit(98);
    int id = shmget(IPC_PRIVATE, huge, 0600 | SHM_HUGE);

    if (id < 0)
        _exit(errno == EPERM ? 1 : 99);
    _exit(shmctl(id, IPC_RMID, NULL) == 0 ? 0 : 97);
}

static void
test_shm_group(void)
{
    const char *group = "/proc/sys/vm/hugetlb_shm_group";

    CHECK_EQ(file_number(group), 0);
    CHECK_EQ(in_child(shm_as_somebody, NULL), 1);
    CHECK(file_set(group, 77));
    CHECK_EQ(in_child(shm_as_somebody, NULL), 0);
    CHECK(file_set(group, 0));
}

static void
test_reports(void)
{
    char *at = map(2, ANON);
    unsigned char present[2] = {2, 2};
    char path[96];

    CHECK(at != MAP_FAILED);
    at[0] = 1;
    CHECK_EQ(field("/proc/self/status", "HugetlbPages"), huge >> 10);
    CHECK_EQ(mincore(at, 2 * (size_t)sysconf(_SC_PAGESIZE), present), 0);
    CHECK_EQ(present[0] & present[1] & 1, 1);

    CHECK_EQ(smaps_field(at, "Private_Hugetlb"), huge >> 10);
    CHECK_EQ(smaps_field(at, "KernelPageSize"), huge >> 10);
    CHECK_EQ(smaps_field(at, "Rss"), 0);

    const char *sys = "/sys/kernel/mm/hugepages/hugepages-%zukB/%s";
    snprintf(path, sizeof(path), sys, huge >> 10, "nr_hugepages");
    CHECK_EQ(file_number(path), POOL);
    snprintf(path, sizeof(path), sys, huge >> 10, "free_hugepages");
    CHECK_EQ(file_number(path), POOL - 1);
    snprintf(path, sizeof(path), sys, huge >> 10, "resv_hugepages");
    CHECK_EQ(file_number(path), 1);
    CHECK_EQ(munmap(at, 2 * huge), 0);
}

/* Another process's view, and memory locked: both are ordinary. */
static void
test_other_calls(void)
{
    char *at = mmap(NULL, huge, RW, ANON | MAP_POPULATE, -1, 0);
    char byte = 0;
    struct iovec local = {&byte, 1}, remote;

    CHECK(at != MAP_FAILED);
    EXPECT_POOL(POOL, POOL - 1, 0, 0);
    at[huge - 1] = 6;
    remote = (struct iovec){at + huge - 1, 1};
    CHECK_EQ(syscall(SYS_process_vm_readv, getpid(), &local, 1ul, &remote, 1ul, 0ul), 1);
    CHECK_EQ(byte, 6);
    CHECK_EQ(mlock(at, 1), 0);
    CHECK_EQ(munlock(at, 1), 0);
    CHECK_EQ(msync(at, huge, MS_SYNC), 0);
    CHECK_EQ(munmap(at, huge), 0);
    EXPECT_POOL(POOL, POOL, 0, 0);
}

/* ---- Every call ------------------------------------------------------------------------- */

/*
 * What calls that know nothing of huge pages answer about them.  Anew before each row:
 *
 *   huge page  0  1 | 2    | 3  4 | 5
 *              private | none | shared | small pages, private
 */
struct row {
    const char *what;
    long number, arg[5], want;
};

static char *rows_at;

static void
rows_make(void)
{
    const int fixed = MAP_FIXED | MAP_NORESERVE, all = PROT_READ | PROT_WRITE;

    munmap(rows_at, 6 * huge);
    CHECK(mmap(rows_at, 2 * huge, all, ANON | fixed, -1, 0) == rows_at);
    CHECK(mmap(rows_at + 3 * huge, 2 * huge, all, (ANON ^ MAP_PRIVATE) | MAP_SHARED | fixed, -1,
               0) == rows_at + 3 * huge);
    CHECK(mmap(rows_at + 5 * huge, huge, all, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0) ==
          rows_at + 5 * huge);
    rows_at[0] = rows_at[huge] = 'p';
    rows_at[3 * huge] = rows_at[4 * huge] = 's';
}

static void
rows_run(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const long *arg = rows[i].arg;

        rows_make();
        long got = syscall(rows[i].number, arg[0], arg[1], arg[2], arg[3], arg[4]);

        got = got == -1 ? -errno : got;
        check_count++;
        if (got != rows[i].want) {
            check_failures++;
            printf("FAIL %s: %ld, expected %ld\n", rows[i].what, got, rows[i].want);
        }
    }
}

static void
test_calls(void)
{
    const long page = sysconf(_SC_PAGESIZE), h = (long)huge;
    static unsigned char vector[8];

    rows_at = mmap(NULL, 7 * huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(rows_at != MAP_FAILED);
    rows_at += -(uintptr_t)rows_at & (huge - 1);

    const long at = (long)rows_at, shared = at + 3 * h, small = at + 5 * h;
    const struct row rows[] = {
        {"munmap, a small page", SYS_munmap, {at, page}, -EINVAL},
        {"munmap, from the middle", SYS_munmap, {at + page, h}, -EINVAL},
        {"munmap, to the middle", SYS_munmap, {at, h + page}, -EINVAL},
        {"munmap", SYS_munmap, {at, h}, 0},
        {"munmap, into small ones", SYS_munmap, {shared + h, h + page}, 0},
        {"mprotect, a small page", SYS_mprotect, {at, page, PROT_READ}, -EINVAL},
        {"mprotect, from the middle", SYS_mprotect, {at + page, h - page, PROT_READ}, -EINVAL},
        {"mprotect", SYS_mprotect, {at + h, h, PROT_READ}, 0},
        {"mremap, the same", SYS_mremap, {at, h, h, 0}, at},
        {"mremap, longer", SYS_mremap, {at, h, 2 * h, MREMAP_MAYMOVE}, -EINVAL},
        {"mremap, shorter", SYS_mremap, {at, 2 * h, h, 0}, at},
        {"mremap, to the middle", SYS_mremap, {at, h, h, 3, small + page}, -EINVAL},
        {"mremap, a length of small pages", SYS_mremap, {at, page, page, 3, small}, small},
        {"mremap, onto small pages", SYS_mremap, {at, h, h, 3, small}, small},
        {"madvise, not needed", SYS_madvise, {at, h, MADV_DONTNEED}, 0},
        {"madvise, not needed, from the middle",
         SYS_madvise,
         {at + page, h, MADV_DONTNEED},
         -EINVAL},
        {"madvise, not needed, less than one", SYS_madvise, {at, page, MADV_DONTNEED}, 0},
        {"madvise, free", SYS_madvise, {at, h, MADV_FREE}, -EINVAL},
        {"madvise, cold", SYS_madvise, {at, h, 20}, -EINVAL},
        {"madvise, out of memory", SYS_madvise, {at, h, 21}, -EINVAL},
        {"madvise, remove", SYS_madvise, {shared, h, MADV_REMOVE}, 0},
        {"madvise, remove a small page", SYS_madvise, {shared, page, MADV_REMOVE}, 0},
        {"madvise, remove, private", SYS_madvise, {at, h, MADV_REMOVE}, -EACCES},
        {"madvise, wiped by fork", SYS_madvise, {at, h, MADV_WIPEONFORK}, -EINVAL},
        {"madvise, not in forks", SYS_madvise, {at, h, MADV_DONTFORK}, 0},
        {"madvise, not in forks, a small page", SYS_madvise, {at, page, MADV_DONTFORK}, -EINVAL},
        {"madvise, not in dumps", SYS_madvise, {at, h, MADV_DONTDUMP}, 0},
        {"madvise, in dumps", SYS_madvise, {at, h, MADV_DODUMP}, 0},
        {"madvise, huge", SYS_madvise, {at, h, MADV_HUGEPAGE}, 0},
        {"madvise, not huge", SYS_madvise, {at, h, MADV_NOHUGEPAGE}, 0},
        {"madvise, collapse", SYS_madvise, {at, h, 25}, -EINVAL},
        {"madvise, equal", SYS_madvise, {at, h, MADV_MERGEABLE}, 0},
        {"madvise, will need", SYS_madvise, {at, h, MADV_WILLNEED}, 0},
        {"madvise, populate to read", SYS_madvise, {at, h, 22}, 0},
        {"madvise, populate to write", SYS_madvise, {at, 2 * h, 23}, 0},
        {"madvise, random", SYS_madvise, {at, h, MADV_RANDOM}, 0},
        {"mincore", SYS_mincore, {at, page, (long)vector}, 0},
        {"mincore, into a hole", SYS_mincore, {at + 2 * h - page, 2 * page, (long)vector}, -ENOMEM},
        {"mlock, a small page", SYS_mlock, {at, page}, 0},
        {"munlock, a small page", SYS_munlock, {at, page}, 0},
        {"msync", SYS_msync, {shared, h, MS_SYNC}, 0},
        {"msync, a small page", SYS_msync, {shared + page, page, MS_SYNC | MS_INVALIDATE}, 0},
        {"remap_file_pages", SYS_remap_file_pages, {shared, h, 0, 0, 0}, 0},
        {"remap_file_pages, a small page", SYS_remap_file_pages, {shared, page, 0, 0, 0}, -EINVAL},
        {"remap_file_pages, from a small page",
         SYS_remap_file_pages,
         {shared, h, 0, 1, 0},
         -EINVAL},
        {"process_madvise is not for it", SYS_madvise, {at, h, 77}, -EINVAL},
    };

    rows_run(rows, sizeof(rows) / sizeof(rows[0]));
    munmap(rows_at, 6 * huge);
}

static void
test_surplus(void)
{
    CHECK(file_set("/proc/sys/vm/nr_overcommit_hugepages", 2));
    CHECK_EQ(file_number("/proc/sys/vm/nr_overcommit_hugepages"), 2);
    char *at = map(POOL + 1, ANON);
    CHECK(at != MAP_FAILED);
    EXPECT_POOL(POOL + 1, POOL + 1, POOL + 1, 1);
    for (size_t i = 0; i <= POOL; i++)
        at[i * huge] = 1;
    EXPECT_POOL(POOL + 1, 0, 0, 1);
    CHECK_EQ(munmap(at, (POOL + 1) * huge), 0);
    EXPECT_POOL(POOL, POOL, 0, 0);
    CHECK(file_set("/proc/sys/vm/nr_overcommit_hugepages", 0));
}

/* ---- Every size ----------------------------------------------------------------------- */

/* Pages of @bytes: mapped, forked, protected, moved, copied on write, each as one. */
static void
use_size(size_t bytes)
{
    int flag = __builtin_ctzl(bytes) << MAP_HUGE_SHIFT, status;
    char *at = mmap(NULL, 2 * bytes, RW, ANON | flag, -1, 0);

    CHECK(at != MAP_FAILED);
    CHECK_EQ((uintptr_t)at % bytes, 0);
    at[0] = 1;
    at[bytes - 1] = 2;
    CHECK_EQ(smaps_field(at, "KernelPageSize"), bytes >> 10);
    CHECK_EQ(smaps_field(at, "Private_Hugetlb"), bytes >> 10);
    pid_t pid = fork();
    if (pid == 0) {
        at[bytes / 2] = 3; /* a copy, of the second page */
        _exit(at[0] == 1 && at[bytes - 1] == 2 ? 0 : 1);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0
              ? 1
              : WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    CHECK_EQ(at[bytes / 2], 0);
    at[bytes / 2] = 4;
    CHECK_ERRNO(munmap(at + bytes / 2, bytes), EINVAL);
    CHECK_EQ(mprotect(at, bytes, PROT_READ), 0);
    CHECK_EQ(in_child(touch, at), SIGSEGV);
    CHECK_EQ(mprotect(at, bytes, PROT_NONE), 0);
    CHECK_EQ(mprotect(at, bytes, RW), 0);
    CHECK_EQ(at[bytes / 2] + at[0] + at[bytes - 1], 7);
    char *to = mmap(NULL, 3 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(to != MAP_FAILED);
    to = (char *)(((uintptr_t)to + bytes - 1) & -bytes);
    CHECK_EQ((long)mremap(at, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to), (long)to);
    CHECK_EQ(to[bytes / 2] + to[0] + to[bytes - 1], 7);
    to[1] = 8;
    CHECK_EQ(munmap(to, bytes), 0);
    CHECK_EQ(munmap(at + bytes, bytes), 0);

    int fd = (int)syscall(SYS_memfd_create, "huge", MFD_HUGETLB | (unsigned)flag);
    struct stat stat;
    CHECK(fd >= 0);
    CHECK_EQ(fstat(fd, &stat), 0);
    CHECK_EQ(stat.st_blksize, bytes);
    close(fd);
}

/* On Linux somebody else may have been promised pages. */
static int
size_is_ours(unsigned long kb)
{
    char path[128];

    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%lukB/resv_hugepages", kb);
    return file_number(path) == 0;
}

/* Every size that /sys knows, but for those for which the memory of a test does not do. */
static void
test_sizes(void)
{
    const char *top = "/sys/kernel/mm/hugepages";
    DIR *dir = opendir(top);
    struct dirent *entry;
    unsigned long kb;
    char path[128];

    CHECK(dir != NULL);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (sscanf(entry->d_name, "hugepages-%lukB", &kb) != 1 || kb > 64 << 10)
            continue;
        snprintf(path, sizeof(path), "%s/hugepages-%lukB/nr_hugepages", top, kb);
        long before = file_number(path);

        if (file_set(path, 2) && file_number(path) == 2 && size_is_ours(kb)) {
            use_size((size_t)kb << 10);
            printf("hugetlb: pages of %lu KiB\n", kb);
        }
        CHECK(file_set(path, before));
        CHECK_EQ(file_number(path), before);
    }
    if (dir != NULL)
        closedir(dir);
}

/* Huge pages are not locked, but come at once where all that is mapped is to be. */
static void
test_future(void)
{
    CHECK_EQ(mlockall(MCL_FUTURE), 0);
    char *at = map(2, ANON);

    CHECK(at != MAP_FAILED);
    EXPECT_POOL(POOL, POOL - 2, 0, 0);
    CHECK_EQ(munlockall(), 0);
    CHECK_EQ(munmap(at, 2 * huge), 0);
    EXPECT_POOL(POOL, POOL, 0, 0);
}

int
main(void)
{
    test_sizes();

    long before = file_number("/proc/sys/vm/nr_hugepages");

    huge = (size_t)field("/proc/meminfo", "Hugepagesize") << 10;
    if (before < 0 || (long)huge <= 0 || !file_set("/proc/sys/vm/nr_hugepages", POOL) ||
        file_number("/proc/sys/vm/nr_hugepages") != POOL) {
        printf("hugetlb: no pool of %d pages of %zu KiB here\n", POOL, huge >> 10);
        file_set("/proc/sys/vm/nr_hugepages", before);
        return 0;
    }
    while ((size_t)1 << huge_shift < huge)
        huge_shift++;
    test_private();
    test_errors();
    test_no_reserve();
    test_shared();
    test_fork();
    test_memfd();
    test_shm();
    test_shm_group();
    test_reports();
    test_other_calls();
    test_future();
    test_calls();
    test_surplus();
    CHECK(file_set("/proc/sys/vm/nr_hugepages", before));
    CHECK_EQ(file_number("/proc/sys/vm/nr_hugepages"), before);
    return check_done("hugetlb");
}
