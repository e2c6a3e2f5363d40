/* SPDX-License-Identifier: MIT */
/*
 * The system calls of i386 whose structures or numbers are its own, each made raw and
 * its answer read in the layout that Linux documents.  Where two calls tell the same
 * thing in two layouts, they have to agree.
 */
#define _GNU_SOURCE
#include "../user/check.h"

#include <asm/ldt.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define FILE_NAME "/tmp/i386_abi"

static int fd;

static uint32_t
word(const void *bytes, unsigned offset)
{
    uint32_t value;

    memcpy(&value, (const char *)bytes + offset, sizeof value);
    return value;
}

static uint64_t
wide(const void *bytes, unsigned offset)
{
    uint64_t value;

    memcpy(&value, (const char *)bytes + offset, sizeof value);
    return value;
}

/* ---- Files ---------------------------------------------------------------------- */

static void
test_stat(void)
{
    uint8_t old[64 + 8], new[96 + 8], statx[256];

    memset(old, 0xee, sizeof old);
    memset(new, 0xee, sizeof new);
    CHECK_EQ(ftruncate(fd, 12345), 0);
    CHECK_EQ(syscall(SYS_fstat, fd, old), 0);
    CHECK_EQ(syscall(SYS_fstat64, fd, new), 0);
    CHECK_EQ(word(old, 64), 0xeeeeeeee); /* nothing beyond */
    CHECK_EQ(word(new, 96), 0xeeeeeeee);
    CHECK_EQ(word(old, 4), (uint32_t)wide(new, 88)); /* inode */
    CHECK_EQ(word(new, 12), word(old, 4));
    CHECK_EQ(word(old, 8) & 0xffff, word(new, 16)); /* mode */
    CHECK_EQ(word(new, 16), 0100644);
    CHECK_EQ(word(new, 20), 1);
    CHECK_EQ(word(old, 20), 12345);
    CHECK_EQ(wide(new, 44), 12345);
    CHECK_EQ(word(old, 24), word(new, 52)); /* block size */
    CHECK_EQ(word(old, 28), (uint32_t)wide(new, 56));
    CHECK_EQ(word(old, 40), word(new, 72)); /* modified */
    CHECK_EQ(word(old, 44), word(new, 76));
    CHECK_EQ(syscall(SYS_statx, AT_FDCWD, FILE_NAME, 0, 0x7ff, statx), 0);
    CHECK_EQ(wide(statx, 32), wide(new, 88));
    CHECK_EQ(syscall(SYS_stat64, FILE_NAME, new), 0);
    CHECK_EQ(syscall(SYS_lstat64, FILE_NAME, new), 0);
    CHECK_EQ(syscall(SYS_stat, FILE_NAME, old), 0);
    CHECK_EQ(syscall(SYS_lstat, FILE_NAME, old), 0);
    CHECK_EQ(syscall(SYS_fstatat64, AT_FDCWD, FILE_NAME, new, 0), 0);
    CHECK_EQ(wide(new, 44), 12345);
    CHECK_ERRNO(syscall(SYS_fstat64, fd, -4096), EFAULT);
    CHECK_ERRNO(syscall(SYS_fstat64, fd, -8), EFAULT); /* and it must not wrap */
}

static void
test_statfs(void)
{
    uint8_t narrow[64], broad[88];

    CHECK_EQ(syscall(SYS_statfs, "/tmp", narrow), 0);
    CHECK_EQ(syscall(SYS_statfs64, "/tmp", 84, broad), 0);
    CHECK_ERRNO(syscall(SYS_statfs64, "/tmp", 64, broad), EINVAL);
    CHECK_EQ(word(narrow, 0), word(broad, 0));   /* type */
    CHECK_EQ(word(narrow, 4), word(broad, 4));   /* block size */
    CHECK_EQ(word(narrow, 36), word(broad, 56)); /* longest name */
    CHECK_EQ(word(broad, 56), 255);
    CHECK_EQ(syscall(SYS_fstatfs64, fd, 84, broad), 0);
    CHECK_EQ(word(narrow, 0), word(broad, 0));
}

static void
test_positions(void)
{
    uint64_t position = 0;
    char byte = 'x', read_back = 0;

    CHECK_EQ(syscall(SYS__llseek, fd, 1, 5, &position, SEEK_SET), 0);
    CHECK(position == 0x100000005);
    CHECK_ERRNO(syscall(SYS_lseek, fd, 0, SEEK_CUR), EOVERFLOW);
    CHECK_EQ(syscall(SYS_lseek, fd, 100, SEEK_SET), 100);
    CHECK_EQ(syscall(SYS_lseek, fd, -50, SEEK_CUR), 50);
    CHECK_EQ(syscall(SYS_ftruncate64, fd, 0, 2), 0);
    CHECK_EQ(syscall(SYS_pwrite64, fd, &byte, 1, 7, 1), 1);
    CHECK_EQ(syscall(SYS_pread64, fd, &read_back, 1, 7, 1), 1);
    CHECK_EQ(read_back, 'x');
    struct {
        void *base;
        uint32_t bytes;
    } piece = {&read_back, 1};
    read_back = 0;
    CHECK_EQ(syscall(SYS_preadv, fd, &piece, 1, 7, 1), 1);
    CHECK_EQ(read_back, 'x');
    CHECK_EQ(syscall(SYS_fallocate, fd, 0, 0, 0, 4096, 0), 0);
    CHECK_EQ(syscall(SYS_truncate64, FILE_NAME, 4096, 0), 0);
    CHECK_EQ(syscall(SYS_ftruncate, fd, 100), 0);
    CHECK_ERRNO(syscall(SYS_ftruncate, fd, -1), EINVAL);
}

static void
test_locks(void)
{
    struct {
        int16_t type, whence;
        int32_t start, length, pid;
    } narrow = {F_WRLCK, SEEK_SET, 10, 20, 0};
    struct {
        int16_t type, whence;
        int64_t start __attribute__((packed, aligned(4)));
        int64_t length __attribute__((packed, aligned(4)));
        int32_t pid;
    } broad = {F_WRLCK, SEEK_SET, 0, 0, 0};

    CHECK_EQ(syscall(SYS_fcntl, fd, 6, &narrow), 0); /* F_SETLK */
    pid_t child = fork();
    if (child == 0) {
        narrow.type = F_WRLCK;
        narrow.start = 0;
        narrow.length = 0;
        CHECK_EQ(syscall(SYS_fcntl, fd, 5, &narrow), 0); /* F_GETLK */
        CHECK_EQ(narrow.type, F_WRLCK);
        CHECK_EQ(narrow.start, 10);
        CHECK_EQ(narrow.length, 20);
        CHECK_EQ(narrow.pid, getppid());
        CHECK_EQ(syscall(SYS_fcntl64, fd, 12, &broad), 0); /* F_GETLK64 */
        CHECK(broad.start == 10 && broad.length == 20);
        CHECK_EQ(broad.pid, getppid());
        _exit(check_failures != 0);
    }
    int status = -1;
    CHECK_EQ(syscall(SYS_waitpid, child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static void
test_directories(void)
{
    char narrow[2048], broad[2048];
    int directory = open("/", O_RDONLY | O_DIRECTORY);
    long got = syscall(SYS_getdents, directory, narrow, sizeof narrow);

    CHECK(got > 0);
    CHECK_EQ(syscall(SYS_lseek, directory, 0, SEEK_SET), 0);
    CHECK(syscall(SYS_getdents64, directory, broad, sizeof broad) > 0);
    /* The first entries of both tell the same. */
    for (long a = 0, b = 0, n = 0; n < 8 && a < got; n++) {
        uint16_t a_bytes, b_bytes;

        memcpy(&a_bytes, narrow + a + 8, 2);
        memcpy(&b_bytes, broad + b + 16, 2);
        CHECK_EQ(word(narrow, (unsigned)a), (uint32_t)wide(broad, (unsigned)b));
        CHECK_EQ(strcmp(narrow + a + 10, broad + b + 19), 0);
        CHECK_EQ(narrow[a + a_bytes - 1], broad[b + 18]); /* type */
        a += a_bytes;
        b += b_bytes;
    }
    close(directory);
}

/* ---- Times ------------------------------------------------------------------------ */

static void
test_times(void)
{
    int32_t narrow[4] = {0}, left[2] = {-1, -1}, zero[2] = {0, 1000000};
    int64_t broad[2];

    CHECK_EQ(syscall(SYS_clock_gettime, CLOCK_REALTIME, narrow), 0);
    CHECK_EQ(syscall(SYS_clock_gettime64, CLOCK_REALTIME, broad), 0);
    CHECK(broad[0] - narrow[0] >= 0 && broad[0] - narrow[0] < 3);
    int32_t seconds = -1;
    CHECK(syscall(SYS_time, &seconds) - broad[0] < 3);
    CHECK(seconds - broad[0] >= 0 && seconds - broad[0] < 3);
    CHECK_EQ(syscall(SYS_gettimeofday, narrow, NULL), 0);
    CHECK(narrow[0] - broad[0] < 3 && narrow[1] < 1000000);
    CHECK_EQ(syscall(SYS_clock_getres, CLOCK_MONOTONIC, narrow), 0);
    CHECK(narrow[0] == 0 && narrow[1] > 0);
    CHECK_EQ(syscall(SYS_nanosleep, zero, left), 0);
    CHECK_EQ(left[0], -1); /* only an interrupted sleep writes it */
    CHECK_EQ(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, zero, NULL), 0);
    broad[0] = 0;
    broad[1] = (int64_t)((uint64_t)0xdeadbeef << 32 | 1000000); /* the upper half is padding */
    CHECK_EQ(syscall(SYS_clock_nanosleep_time64, CLOCK_MONOTONIC, 0, broad, NULL), 0);
    int32_t times[2][2] = {{1000, 5}, {2000, 6}};
    uint8_t stat[96];
    CHECK_EQ(syscall(SYS_utimensat, AT_FDCWD, FILE_NAME, times, 0), 0);
    CHECK_EQ(syscall(SYS_fstat64, fd, stat), 0);
    CHECK_EQ(word(stat, 64), 1000);
    CHECK_EQ(word(stat, 68), 5);
    CHECK_EQ(word(stat, 72), 2000);
    int32_t utime[2] = {3000, 4000};
    CHECK_EQ(syscall(SYS_utime, FILE_NAME, utime), 0);
    CHECK_EQ(syscall(SYS_fstat64, fd, stat), 0);
    CHECK_EQ(word(stat, 64), 3000);
    int32_t ticks[4];
    CHECK(syscall(SYS_times, ticks) != -1 || errno == 0);
}

static volatile sig_atomic_t alarms;

static void
on_alarm(int number)
{
    alarms += number == SIGALRM || number == SIGUSR1;
}

static void
test_timers(void)
{
    int32_t value[4] = {0, 0, 0, 20000}, old[4];
    struct {
        int32_t value, number, notify, tid;
    } event = {7, SIGUSR1, SIGEV_SIGNAL, 0};
    int id = -1;
    int32_t sleep[2] = {5, 0}, left[2] = {0, 0};

    struct sigaction action = {.sa_handler = on_alarm}; /* interrupts calls */
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    CHECK_EQ(syscall(SYS_setitimer, 0, value, NULL), 0);
    CHECK_EQ(syscall(SYS_getitimer, 0, old), 0);
    CHECK(old[2] == 0 && old[3] <= 20000);
    CHECK_ERRNO(syscall(SYS_nanosleep, sleep, left), EINTR);
    CHECK_EQ(left[0], 4);
    CHECK_EQ(alarms, 1);
    CHECK_EQ(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), 0);
    int32_t timer[4] = {0, 0, 0, 10000000};
    CHECK_EQ(syscall(SYS_timer_settime, id, 0, timer, old), 0);
    CHECK_EQ(syscall(SYS_timer_gettime, id, old), 0);
    CHECK(old[2] == 0 && old[3] <= 10000000);
    while (alarms < 2)
        usleep(1000);
    CHECK_EQ(syscall(SYS_timer_delete, id), 0);
}

static void
test_waiting(void)
{
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(write(ends[1], "a", 1), 1);
    uint32_t set = 1u << ends[0];
    int32_t limit[2] = {1, 0};

    CHECK(ends[0] < 32);
    CHECK_EQ(syscall(SYS__newselect, ends[0] + 1, &set, NULL, NULL, limit), 1);
    CHECK_EQ(set, 1u << ends[0]);
    uint32_t arguments[5] = {(uint32_t)ends[0] + 1, (uint32_t)(uintptr_t)&set, 0, 0,
                             (uint32_t)(uintptr_t)limit};
    CHECK_EQ(syscall(SYS_select, arguments), 1);
    limit[0] = 0;
    limit[1] = 1000000;
    char byte;
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    CHECK_EQ(syscall(SYS_pselect6, ends[0] + 1, &set, NULL, NULL, limit, NULL), 0);
    CHECK(limit[0] == 0 && limit[1] == 0); /* what is left */
    uint64_t mask = 0;
    uint32_t mask_argument[2] = {(uint32_t)(uintptr_t)&mask, 8};
    int64_t long_limit[2] = {0, 1000000};
    CHECK_EQ(syscall(SYS_pselect6_time64, 0, NULL, NULL, NULL, long_limit, mask_argument), 0);
    limit[1] = 1000000;
    CHECK_EQ(syscall(SYS_ppoll, NULL, 0, limit, NULL, 8), 0);
    uint32_t futex = 1;
    limit[1] = 1000000;
    CHECK_ERRNO(syscall(SYS_futex, &futex, 0, 1, limit), ETIMEDOUT);
    CHECK_ERRNO(syscall(SYS_futex, &futex, 0, 2, limit), EAGAIN);
    close(ends[0]);
    close(ends[1]);
}

/* ---- Signals ------------------------------------------------------------------------ */

static volatile uint32_t seen_cr2, seen_sp, seen_mask, seen_number;

/* Without SA_SIGINFO the sigcontext itself follows the number on the stack. */
static void
old_handler(int number, struct sigcontext context)
{
    seen_number = (uint32_t)number;
    seen_sp = context.esp;
    seen_mask = context.oldmask;
    context.eax = context.eax; /* the handler owns it */
}

static void
test_old_signals(void)
{
    struct {
        void *handler;
        uint32_t mask, flags;
        void *restorer;
    } action = {(void *)old_handler, 1u << (SIGUSR2 - 1), 0, NULL}, old;
    uint32_t set = 1u << (SIGTERM - 1), before = 0;

    /* No restorer: the return is the kernel's affair. */
    CHECK_EQ(syscall(SYS_sigaction, SIGUSR1, &action, NULL), 0);
    CHECK_EQ(syscall(SYS_sigaction, SIGUSR1, NULL, &old), 0);
    CHECK(old.handler == (void *)old_handler && old.mask == 1u << (SIGUSR2 - 1));
    CHECK_EQ(syscall(SYS_sigprocmask, SIG_BLOCK, &set, &before), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(seen_number, SIGUSR1);
    CHECK_EQ(seen_mask, before | set);
    CHECK(seen_sp != 0);
    CHECK_EQ(syscall(SYS_sgetmask), (long)(before | set));
    CHECK_EQ(syscall(SYS_ssetmask, before), (long)(before | set));
    CHECK_EQ(syscall(SYS_sigpending, &set), 0);
    CHECK_EQ(set, 0);
    CHECK_EQ(syscall(SYS_signal, SIGUSR2, SIG_IGN), 0);
    CHECK_EQ(syscall(SYS_signal, SIGUSR2, SIG_DFL), (long)SIG_IGN);
}

static void
on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    CHECK_EQ(number, SIGSEGV);
    CHECK_EQ(info->si_code, SEGV_MAPERR);
    CHECK(info->si_addr == (void *)0x1234);
    CHECK_EQ(uc->uc_mcontext.gregs[REG_TRAPNO], 14);
    CHECK_EQ(uc->uc_mcontext.cr2, 0x1234);
    seen_cr2 = uc->uc_mcontext.cr2;
    uc->uc_mcontext.gregs[REG_EAX] = (int)(uintptr_t)&seen_sp; /* read this instead */
}

static void
test_rt_signals(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigset_t set;
    siginfo_t info;
    union sigval value = {.sival_int = 0x12345678};
    double kept = 1.25;

    sigaction(SIGSEGV, &action, NULL);
    seen_sp = 77;
    uint32_t got;
    __asm__ volatile("movl (%%eax), %0" : "=r"(got) : "a"(0x1234) : "memory");
    CHECK_EQ(got, 77);
    CHECK_EQ(seen_cr2, 0x1234);
    CHECK(kept * 4 == 5.0);
    signal(SIGSEGV, SIG_DFL);

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    CHECK_EQ(sigqueue(getpid(), SIGRTMIN + 1, value), 0);
    int32_t limit[2] = {1, 0};
    CHECK_EQ(syscall(SYS_rt_sigtimedwait, &set, &info, limit, 8), SIGRTMIN + 1);
    CHECK_EQ(info.si_code, SI_QUEUE);
    CHECK_EQ(info.si_value.sival_int, 0x12345678);
    CHECK_EQ(info.si_pid, getpid());
    limit[0] = 0;
    CHECK_ERRNO(syscall(SYS_rt_sigtimedwait, &set, &info, limit, 8), EAGAIN);
}

/* ---- Processes ------------------------------------------------------------------------ */

/* The number behind @name in /proc/meminfo; 0 where it has no such line. */
static uint64_t
meminfo_kb(const char *name)
{
    char line[128];
    unsigned long value = 0;
    FILE *file = fopen("/proc/meminfo", "r");

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtoul(line + strlen(name), NULL, 10);
    }
    if (file != NULL)
        fclose(file);
    return value;
}

static void
test_processes(void)
{
    uint32_t limit[2], usage[18];
    uint64_t long_limit[2];
    siginfo_t info;
    int status;

    memset(usage, 0xee, sizeof usage);
    CHECK_EQ(syscall(SYS_getrusage, 0, usage), 0);
    CHECK(usage[1] < 1000000 && usage[4] > 0); /* microseconds, peak */
    CHECK_EQ(syscall(SYS_prlimit64, 0, 7, NULL, long_limit), 0);
    CHECK_EQ(syscall(SYS_ugetrlimit, 7, limit), 0);
    CHECK_EQ(limit[0], (uint32_t)long_limit[0]);
    CHECK_EQ(syscall(SYS_prlimit64, 0, 9, NULL, long_limit), 0); /* RLIMIT_AS: none */
    CHECK_EQ(syscall(SYS_ugetrlimit, 9, limit), 0);
    CHECK_EQ(limit[0], UINT32_MAX);
    CHECK_EQ(syscall(SYS_getrlimit, 9, limit), 0);
    CHECK_EQ(limit[0], INT32_MAX);
    limit[1] = UINT32_MAX;
    limit[0] = 0x40000000;
    CHECK_EQ(syscall(SYS_setrlimit, 9, limit), 0);
    CHECK_EQ(syscall(SYS_prlimit64, 0, 9, NULL, long_limit), 0);
    CHECK(long_limit[0] == 0x40000000 && long_limit[1] == UINT64_MAX);

    pid_t child = fork();
    if (child == 0)
        _exit(3);
    CHECK_EQ(syscall(SYS_waitid, 1, child, &info, WEXITED | WNOWAIT, usage), 0);
    CHECK_EQ(info.si_pid, child);
    CHECK_EQ(info.si_status, 3);
    CHECK_EQ(info.si_code, CLD_EXITED);
    CHECK_EQ(syscall(SYS_wait4, child, &status, 0, usage), child);
    CHECK_EQ(status, 3 << 8);
    CHECK(usage[1] < 1000000);

    uint8_t sysinfo[64];
    CHECK_EQ(syscall(SYS_sysinfo, sysinfo), 0);
    CHECK(word(sysinfo, 16) > 0 && word(sysinfo, 52) >= 1); /* total, unit */
    CHECK((uint64_t)word(sysinfo, 16) * word(sysinfo, 52) > 16u << 20);
    /* totalhigh, freehigh; none below 896 MiB */
    CHECK_EQ((uint64_t)word(sysinfo, 44) * word(sysinfo, 52), 1024 * meminfo_kb("HighTotal:"));
    CHECK(word(sysinfo, 48) <= word(sysinfo, 44) && word(sysinfo, 44) < word(sysinfo, 16));
    CHECK_EQ(syscall(SYS_nice, 1), 0);
    CHECK_EQ(20 - syscall(SYS_getpriority, 0, 0), 1);
    CHECK_EQ(syscall(SYS_umount, "/nowhere"), -1);
}

static void
test_identities(void)
{
    uint16_t ids[3] = {1, 1, 1};

    CHECK_EQ(syscall(SYS_getuid), (long)getuid());
    CHECK_EQ(syscall(SYS_getresuid, &ids[0], &ids[1], &ids[2]), 0);
    CHECK_EQ(ids[2], geteuid());
    CHECK_EQ(syscall(SYS_setreuid, -1, -1), 0);
    if (geteuid() != 0)
        return;
    uint16_t groups[2] = {5, 6}, back[2] = {0, 0};
    CHECK_EQ(syscall(SYS_setgroups, 2, groups), 0);
    CHECK_EQ(syscall(SYS_getgroups, 2, back), 2);
    CHECK(back[0] == 5 && back[1] == 6);
    CHECK_EQ(syscall(SYS_chown, FILE_NAME, 1000, -1), 0);
    uint8_t stat[96];
    CHECK_EQ(syscall(SYS_fstat64, fd, stat), 0);
    CHECK_EQ(word(stat, 24), 1000);
    CHECK_EQ(word(stat, 28), getegid());
}

/* ---- Memory and thread pointers ----------------------------------------------------------- */

static uint32_t tls_word = 0xabcdef;

static void
test_memory(void)
{
    uint32_t arguments[6] = {0,          8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                             UINT32_MAX, 0};
    long at = syscall(SYS_mmap, arguments);

    CHECK(at != -1);
    *(volatile int *)at = 1;
    CHECK_EQ(syscall(SYS_munmap, at, 8192), 0);
    CHECK_EQ(ftruncate(fd, 3 * 4096), 0);
    CHECK_EQ(pwrite(fd, "here", 4, 2 * 4096), 4);
    char *page = (char *)syscall(SYS_mmap2, 0, 4096, PROT_READ, MAP_PRIVATE, fd, 2);
    CHECK(page != MAP_FAILED && memcmp(page, "here", 4) == 0);
    CHECK_ERRNO(syscall(SYS_mmap2, 0xc0000000, 4096, PROT_READ,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                ENOMEM);
}

static void
test_thread_area(void)
{
    struct user_desc d = {.entry_number = UINT_MAX,
                          .base_addr = (uint32_t)(uintptr_t)&tls_word,
                          .limit = 0xfffff,
                          .seg_32bit = 1,
                          .limit_in_pages = 1,
                          .useable = 1};
    struct user_desc back = {0};
    uint32_t old_fs, value;

    CHECK_EQ(syscall(SYS_set_thread_area, &d), 0);
    back.entry_number = d.entry_number;
    CHECK_EQ(syscall(SYS_get_thread_area, &back), 0);
    CHECK_EQ(memcmp(&back, &d, sizeof d), 0);
    __asm__ volatile("movl %%fs, %0" : "=r"(old_fs));
    __asm__ volatile("movl %1, %%fs; movl %%fs:0, %0" : "=r"(value) : "r"(d.entry_number * 8 + 3));
    CHECK_EQ(value, 0xabcdef);
    usleep(1000); /* through the scheduler and back */
    __asm__ volatile("movl %%fs:0, %0" : "=r"(value));
    CHECK_EQ(value, 0xabcdef);
    /* The segment goes while FS still names it: FS is null from then on. */
    struct user_desc none = {
        .entry_number = d.entry_number, .read_exec_only = 1, .seg_not_present = 1};
    CHECK_EQ(syscall(SYS_set_thread_area, &none), 0);
    usleep(1000);
    __asm__ volatile("movl %0, %%fs" : : "r"(old_fs));
    d.contents = 2; /* code */
    CHECK_ERRNO(syscall(SYS_set_thread_area, &d), EINVAL);
    d.contents = 0;
    d.entry_number = 3;
    CHECK_ERRNO(syscall(SYS_set_thread_area, &d), EINVAL);
}

int
main(void)
{
    fd = open(FILE_NAME, O_CREAT | O_RDWR | O_TRUNC, 0644);
    CHECK(fd >= 0);
    test_stat();
    test_statfs();
    test_positions();
    test_locks();
    test_directories();
    test_times();
    test_timers();
    test_waiting();
    test_old_signals();
    test_rt_signals();
    test_memory();
    test_thread_area();
    test_identities();
    test_processes();
    unlink(FILE_NAME);
    printf("i386_abi: %d checks, %d failures\n", check_count, check_failures);
    return check_failures != 0;
}
