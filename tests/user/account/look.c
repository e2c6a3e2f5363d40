/* SPDX-License-Identifier: MIT */
/*
 * Who may look into whose memory by /proc: files of another user's process, of one's own that may not be dumped, of one
 * that has ended; what pagemap and stat hide; and that an open file stays with the memory it was opened for.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../check.h"

static long page;

enum { NOBODY = 65534 };

static void
become_nobody(void)
{
    CHECK_EQ(setgroups(0, NULL), 0);
    CHECK_EQ(setresgid(NOBODY, NOBODY, NOBODY), 0);
    CHECK_EQ(setresuid(NOBODY, NOBODY, NOBODY), 0);
}

static int
in_child(void (*fn)(void))
{
    int status = -1;

    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int before = check_failures;

        fn();
        fflush(stdout);
        _exit(check_failures != before);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    return status;
}

static pid_t
sleeper(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        for (;;)
            pause();
    }
    return pid;
}

static void
end(pid_t pid)
{
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

/* ---- which files ---------------------------------------------------------------------- */

enum { FOR_ALL, FOR_LOOKING, FOR_OWNER }; /* with the mode that follows */

static const struct {
    const char *name;
    int whose;
} files[] = {
    {"maps", FOR_LOOKING},      {"smaps", FOR_LOOKING},     {"smaps_rollup", FOR_LOOKING},
    {"numa_maps", FOR_LOOKING}, {"pagemap", FOR_OWNER},     {"mem", FOR_OWNER},
    {"auxv", FOR_OWNER},        {"environ", FOR_OWNER},     {"io", FOR_OWNER},
    {"statm", FOR_ALL},         {"status", FOR_ALL},        {"stat", FOR_ALL},
    {"limits", FOR_ALL},        {"cmdline", FOR_ALL},       {"comm", FOR_ALL},
    {"oom_score", FOR_ALL},     {"oom_score_adj", FOR_ALL}, {"fdinfo/1", FOR_LOOKING},
};

/* Open each for reading, with @all or only those for everybody. */
static void
open_all(pid_t pid, bool all)
{
    char path[64], target[64];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "/proc/%d/%s", pid, files[i].name);
        int fd = open(path, O_RDONLY), error = fd < 0 ? errno : 0;

        CHECK_EQ(error, all || files[i].whose == FOR_ALL ? 0 : EACCES);
        if (error != (all || files[i].whose == FOR_ALL ? 0 : EACCES))
            printf("it was %s\n", path);
        close(fd);
    }
    static const char *const links[] = {"exe", "cwd", "root"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "/proc/%d/%s", pid, links[i]);
        CHECK((readlink(path, target, sizeof(target)) > 0) == all);
    }
    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    int fd = open(path, O_RDONLY | O_DIRECTORY);

    CHECK((fd >= 0) == all);
    close(fd);
    snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
    fd = open(path, O_WRONLY);
    CHECK((fd >= 0) == all);
    close(fd);
}

static pid_t roots;

/* Field @number of /proc/PID/stat. */
static unsigned long
stat_field(pid_t pid, int number)
{
    char path[64], text[1024] = "", *at;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);

    CHECK(read(fd, text, sizeof(text) - 1) > 0);
    close(fd);
    at = strrchr(text, ')') + 2;
    for (int i = 3; i < number; i++)
        at = strchr(at, ' ') + 1;
    return strtoul(at, NULL, 10);
}

static void
strangers(void)
{
    CHECK(stat_field(roots, 26) > 1); /* startcode */
    CHECK(stat_field(roots, 28) > 1); /* startstack */
    become_nobody();
    open_all(roots, false);
    CHECK_EQ(stat_field(roots, 26), 1);
    CHECK_EQ(stat_field(roots, 27), 1);
    CHECK_EQ(stat_field(roots, 28), 0);
    CHECK_EQ(stat_field(roots, 45), 0); /* start_data */
    CHECK(stat_field(roots, 23) > 0);   /* the size is no secret */
}

/* One's own user's, which was user 0's: not before it says that it may be dumped. */
static void
of_the_same_user(void)
{
    struct stat status;

    become_nobody();
    CHECK_EQ(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    pid_t pid = sleeper();

    open_all(pid, false);
    CHECK_ERRNO(open("/proc/self/mem", O_RDWR), EACCES);
    CHECK_EQ(stat("/proc/self/maps", &status), 0);
    CHECK_EQ(status.st_uid, 0);
    CHECK_EQ(stat("/proc/self", &status), 0);
    CHECK_EQ(status.st_uid, NOBODY);
    int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY); /* one's own, always */
    CHECK(fd >= 0);
    close(fd);
    end(pid);
    CHECK_EQ(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
    CHECK_EQ(stat("/proc/self/maps", &status), 0);
    CHECK_EQ(status.st_uid, NOBODY);
    pid = sleeper();
    open_all(pid, true);
    end(pid);
}

/* ---- what is hidden in them ------------------------------------------------------------------ */

static uint64_t
pagemap_word(const void *at)
{
    uint64_t word = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);

    CHECK_EQ(pread(fd, &word, 8, (long)((uintptr_t)at / (size_t)page * 8)), 8);
    close(fd);
    return word;
}

#define PRESENT ((uint64_t)1 << 63)
#define FRAME   (((uint64_t)1 << 55) - 1)

static void
frames(void)
{
    char *at = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t word;

    at[0] = 1;
    word = pagemap_word(at);
    CHECK((word & PRESENT) && (word & FRAME) != 0);
    become_nobody();
    CHECK_EQ(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
    word = pagemap_word(at);
    CHECK((word & PRESENT) && (word & FRAME) == 0);
}

/* Of the memory that was there when the file was opened. */
static void
stays_with_memory(void)
{
    static char value = 'm';
    int ends[2], status;
    char byte, path[64], line[32];

    CHECK_EQ(pipe(ends), 0);
    pid_t pid = fork();

    if (pid == 0) {
        char *arguments[] = {"cat", NULL};

        dup2(ends[0], 0);
        close(ends[0]);
        close(ends[1]);
        (void)!read(0, &byte, 1);
        execv("/bin/cat", arguments);
        _exit(9);
    }
    close(ends[0]);
    snprintf(path, sizeof(path), "/proc/%d/mem", pid);
    int fd = open(path, O_RDWR);

    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    int maps = open(path, O_RDONLY);

    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
    int rollup = open(path, O_RDONLY);

    snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
    int auxv = open(path, O_RDONLY);

    CHECK_EQ(read(maps, line, sizeof(line)), sizeof(line));
    CHECK_EQ(pread(fd, &byte, 1, (long)(uintptr_t)&value), 1);
    CHECK_EQ(byte, 'm');
    CHECK_EQ(write(ends[1], "x", 1), 1);
    for (int i = 0; i < 5000 && pread(fd, &byte, 1, (long)(uintptr_t)&value) == 1; i++)
        usleep(1000);
    CHECK_EQ(pread(fd, &byte, 1, (long)(uintptr_t)&value), 0); /* nobody's now */
    CHECK_EQ(pwrite(fd, &byte, 1, (long)(uintptr_t)&value), 0);
    CHECK_EQ(pread(maps, line, sizeof(line), 0), 0);
    CHECK_ERRNO(pread(rollup, line, sizeof(line), 0), ESRCH);
    CHECK_EQ(pread(auxv, line, sizeof(line), 0),
             sizeof(line)); /* is kept with the process's description */
    close(maps);
    close(rollup);
    close(auxv);
    CHECK_EQ(kill(pid, 0), 0);
    close(ends[1]);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    close(fd);
}

/* A text that is longer than one read: the same whatever the reads are, and from wherever. */
static void
in_pieces(void)
{
    enum { REGIONS = 300, BYTES = 1 << 18 };
    static char whole[BYTES], again[BYTES];
    static const size_t sizes[] = {1, 100, 1000, 4096, 70000};
    char *at = mmap(NULL, (size_t)(REGIONS * page), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ssize_t count, length = 0, done;

    for (int i = 0; i < REGIONS; i += 2)
        CHECK_EQ(mprotect(at + i * page, (size_t)page, PROT_READ), 0);
    int fd = open("/proc/self/maps", O_RDONLY);

    while ((count = read(fd, whole + length, BYTES / 2)) > 0) {
        CHECK(count <= BYTES / 2 && length < BYTES / 2);
        length += count;
    }
    CHECK_EQ(count, 0);
    CHECK(length > REGIONS * 40);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
        for (done = 0; (count = read(fd, again + done, sizes[i])) > 0; done += count)
            CHECK(count == (ssize_t)sizes[i] || sizes[i] >= 4096 || done + count == length);
        CHECK_EQ(done, length);
        CHECK(memcmp(whole, again, (size_t)length) == 0);
    }
    for (ssize_t from = length - 10; from >= 0; from -= 4999) {
        CHECK_EQ(pread(fd, again, 10, from), 10);
        CHECK(memcmp(whole + from, again, 10) == 0);
    }
    CHECK_EQ(pread(fd, again, 10, length + 10), 0);
    /* Whole lines, as many as fit into a page: a read of a page is a short one. */
    count = pread(fd, again, 4096, 0);
    CHECK(count > 3900 && count < 4096 && again[count - 1] == '\n');
    close(fd);
    munmap(at, (size_t)(REGIONS * page));
}

/* A mapping's line is one, whatever its file is called. */
static void
names(void)
{
    int fd = memfd_create("two\nlines", 0);
    char line[256];
    bool found = false;

    CHECK_EQ(ftruncate(fd, page), 0);
    CHECK(mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
    FILE *maps = fopen("/proc/self/maps", "r");

    while (fgets(line, sizeof(line), maps) != NULL)
        found |= strstr(line, "/memfd:two\\012lines (deleted)\n") != NULL;
    CHECK(found);
    fclose(maps);
    close(fd);
}

/* ---- fdinfo ---------------------------------------------------------------------------- */

/* Is there a line of fdinfo/@fd that starts with @start? */
static bool
told_of(int fd, const char *start)
{
    char path[64], line[256];
    bool found = false;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        found = found || strncmp(line, start, strlen(start)) == 0;
    if (file != NULL)
        fclose(file);
    if (!found)
        printf("no line %s", start);
    return found;
}

static void
plain_file(void)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    char text[64], path[64];
    struct stat file;

    CHECK_EQ(lseek(fd, 3, SEEK_SET), 3);
    CHECK_EQ(fstat(fd, &file), 0);
    CHECK(told_of(fd, "pos:\t3\n"));
    snprintf(text, sizeof(text), "ino:\t%lu\n", (unsigned long)file.st_ino);
    CHECK(told_of(fd, text));
    CHECK(told_of(fd, "mnt_id:\t"));
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    CHECK_EQ(stat(path, &file), 0);
    CHECK_EQ(file.st_mode, S_IFREG | 0444);
    close(fd);
    CHECK_ERRNO(open(path, O_RDONLY), ENOENT);
}

static void
anonymous_files(void)
{
    int count = eventfd(0x1f, EFD_CLOEXEC), set = epoll_create1(0);
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0xabc};
    char text[96];

    CHECK(told_of(count, "eventfd-count:               1f\n"));
    CHECK(told_of(count, "flags:\t02000002\n"));
    CHECK(told_of(set, "flags:\t02\n"));
    CHECK_EQ(epoll_ctl(set, EPOLL_CTL_ADD, count, &event), 0);
    snprintf(text, sizeof(text),
             "tfd: %8d events:       19 data:              abc  pos:0 ino:", count);
    CHECK(told_of(set, text));
    snprintf(text, sizeof(text), "Pid:\t%d\n", getpid());
    CHECK(told_of(self, text));
    close(self);
    close(set);
    close(count);
}

/* A process that is waited for has no number any more. */
static void
gone_process(void)
{
    pid_t pid = sleeper();
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    end(pid);
    CHECK(told_of(fd, "Pid:\t-1\n"));
    close(fd);
}

int
main(void)
{
    page = check_page();
    roots = sleeper();
    open_all(roots, true);
    CHECK_EQ(in_child(strangers), 0);
    end(roots);
    CHECK_EQ(in_child(of_the_same_user), 0);
    CHECK_EQ(in_child(frames), 0);
    stays_with_memory();
    in_pieces();
    names();
    plain_file();
    anonymous_files();
    gone_process();
    return check_done("look");
}
