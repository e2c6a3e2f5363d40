/* SPDX-License-Identifier: MIT */
/*
 * Core files: who gets one, what it is called, and what is in it.  On Linux, only where core_pattern
 * is a plain name; what changes the machine is for Quire alone.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/procfs.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "check.h"

enum { NOTE_FILES = 0x46494c45, NOTE_SIGNAL = 0x53494749, NOTE_XFP = 0x46e62b7f };
enum { WORD = 0x5a17c0de };

static long page;
static bool on_quire;
static char folder[] = "/tmp/core-XXXXXX";

/* ---- a core file that is read ------------------------------------------------------- */

static unsigned char *core;
static size_t core_bytes;

static bool
core_open(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY);

    core = NULL;
    if (fd < 0)
        return false;
    if (fstat(fd, &status) == 0 && status.st_size > 0) {
        core_bytes = (size_t)status.st_size;
        core = mmap(NULL, core_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    close(fd);
    return core != NULL && core != MAP_FAILED;
}

static void
core_close(void)
{
    munmap(core, core_bytes);
    core = NULL;
}

static const ElfW(Phdr) * segment(unsigned i)
{
    const ElfW(Ehdr) *header = (const void *)core;

    return i < header->e_phnum ? (const ElfW(Phdr) *)(core + header->e_phoff) + i : NULL;
}

static const ElfW(Phdr) * segment_of(const void *address)
{
    const ElfW(Phdr) * at;

    for (unsigned i = 0; (at = segment(i)) != NULL; i++) {
        if (at->p_type == PT_LOAD && (uintptr_t)address - at->p_vaddr < at->p_memsz)
            return at;
    }
    return NULL;
}

/* The bytes at @address, if the file has them. */
static const unsigned char *
memory(const void *address)
{
    const ElfW(Phdr) *at = segment_of(address);
    uintptr_t offset = at == NULL ? 0 : (uintptr_t)address - at->p_vaddr;

    return at == NULL || offset >= at->p_filesz || at->p_offset + offset >= core_bytes
               ? NULL
               : core + at->p_offset + offset;
}

/* The @nth note of @type. */
static const void *
note(unsigned type, unsigned nth, size_t *bytes)
{
    const ElfW(Phdr) *notes = segment(0);
    size_t at = notes->p_offset, end = at + notes->p_filesz;

    while (at + sizeof(ElfW(Nhdr)) <= end && end <= core_bytes) {
        const ElfW(Nhdr) *head = (const void *)(core + at);
        size_t from = at + sizeof(*head) + ((head->n_namesz + 3u) & ~3u);

        at = from + ((head->n_descsz + 3u) & ~3u);
        if (head->n_type == type && nth-- == 0) {
            *bytes = head->n_descsz;
            return core + from;
        }
    }
    return NULL;
}

static unsigned
note_count(unsigned type)
{
    unsigned count = 0;
    size_t bytes;

    while (note(type, count, &bytes) != NULL)
        count++;
    return count;
}

/* ---- children that end --------------------------------------------------------------------- */

static void
limit_set(rlim_t bytes)
{
    struct rlimit limit = {bytes, RLIM_INFINITY};

    setrlimit(RLIMIT_CORE, &limit);
}

static char core_path[128];

static int
child_end(void (*body)(void))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        limit_set(RLIM_INFINITY);
        if (chdir(folder) == 0)
            body();
        _exit(99);
    }
    snprintf(core_path, sizeof(core_path), "%s/core", folder);
    if (access(core_path, F_OK) != 0 && !on_quire) /* core_uses_pid may be set */
        snprintf(core_path, sizeof(core_path), "%s/core.%d", folder, pid);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (access(core_path, F_OK) != 0)
        snprintf(core_path, sizeof(core_path), "%s/core", folder);
    return status;
}

/* The status that it is to end with, without the bit. */
static int raised;

static void
raise_it(void)
{
    signal(raised, SIG_DFL);
    kill(getpid(), raised);
    pause();
}

static void
test_signals(void)
{
    static const struct {
        int number;
        bool dumps;
    } rows[] = {
        {SIGQUIT, true},  {SIGILL, true},   {SIGTRAP, true},  {SIGABRT, true}, {SIGFPE, true},
        {SIGSEGV, true},  {SIGBUS, true},   {SIGSYS, true},   {SIGXCPU, true}, {SIGXFSZ, true},
        {SIGTERM, false}, {SIGKILL, false}, {SIGUSR1, false}, {SIGINT, false}, {SIGALRM, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        raised = rows[i].number;
        int status = child_end(raise_it);

        CHECK_EQ(status, rows[i].number | (rows[i].dumps ? 0x80 : 0));
        CHECK_EQ(core_open(core_path), rows[i].dumps);
        if (core == NULL)
            continue;
        size_t bytes;
        const struct elf_prstatus *about = note(NT_PRSTATUS, 0, &bytes);
        const siginfo_t *info = note(NOTE_SIGNAL, 0, &bytes);

        CHECK(about != NULL && about->pr_cursig == rows[i].number);
        CHECK(info != NULL && bytes == sizeof(*info) && info->si_signo == rows[i].number &&
              info->si_code == SI_USER);
        core_close();
        unlink(core_path);
    }
}

/* ---- memory: what the filter lets through ------------------------------------------------- */

enum { ANON, HIDDEN, SHARED, FILE_CLEAN, FILE_WRITTEN, FILE_SHARED, UNTOUCHED, PLACES };
enum { PAGES = 4 };
static volatile unsigned char *place[PLACES];
static unsigned filter;

static void
places_make(void)
{
    static const int flags[PLACES] = {
        [ANON] = MAP_PRIVATE | MAP_ANONYMOUS,
        [HIDDEN] = MAP_PRIVATE | MAP_ANONYMOUS,
        [SHARED] = MAP_SHARED | MAP_ANONYMOUS,
        [FILE_CLEAN] = MAP_PRIVATE,
        [FILE_WRITTEN] = MAP_PRIVATE,
        [FILE_SHARED] = MAP_SHARED,
        [UNTOUCHED] = MAP_PRIVATE | MAP_ANONYMOUS,
    };
    char name[64];

    snprintf(name, sizeof(name), "%s/mapped", folder);
    int fd = open(name, O_RDWR | O_CREAT, 0600);
    CHECK_EQ(ftruncate(fd, PAGES * page), 0);
    CHECK_EQ(pwrite(fd, "file", 4, page), 4);
    for (int i = 0; i < PLACES; i++) {
        /* A page that cannot be used on both sides, so that no two become one. */
        unsigned char *at =
            mmap(NULL, (size_t)((PAGES + 2) * page), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        place[i] = mmap(at + page, (size_t)(PAGES * page), PROT_READ | PROT_WRITE,
                        flags[i] | MAP_FIXED, flags[i] & MAP_ANONYMOUS ? -1 : fd, 0);
        CHECK(place[i] == at + page);
    }
    close(fd);
    place[ANON][page] = 'A';
    place[ANON][3 * page] = 0; /* touched, and nothing but zeroes */
    place[HIDDEN][page] = 'H';
    place[SHARED][page] = 'S';
    place[FILE_WRITTEN][2 * page] = 'W';
    CHECK_EQ(madvise((void *)place[HIDDEN], (size_t)(PAGES * page), MADV_DONTDUMP), 0);
}

static void
filter_set(unsigned value)
{
    char text[16];

    snprintf(text, sizeof(text), "0x%x", value);
    if (put_text("/proc/self/coredump_filter", text) != 0)
        _exit(98);
}

static void
end_with_filter(void)
{
    filter_set(filter);
    raised = SIGSEGV;
    raise_it();
}

static int
byte_at(int which, int at)
{
    const unsigned char *byte = memory((const void *)(place[which] + at * page));

    return byte == NULL ? -1 : *byte;
}

/* Bits as core(5) has them. */
static void
test_filter(void)
{
    static const unsigned filters[] = {0x33, 0, 1, 2, 4, 8, 0x7f};

    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        filter = filters[i];
        CHECK_EQ(child_end(end_with_filter), SIGSEGV | 0x80);
        CHECK(core_open(core_path));
        if (core == NULL)
            continue;
        for (int at = 0; at < PAGES; at++) {
            int file = at == 1 ? 'f' : 0, written = at == 2 ? 'W' : file;

            CHECK_EQ(byte_at(ANON, at), filter & 1 ? (at == 1 ? 'A' : 0) : -1);
            CHECK_EQ(byte_at(HIDDEN, at), -1);
            CHECK_EQ(byte_at(SHARED, at), filter & 2 ? (at == 1 ? 'S' : 0) : -1);
            CHECK_EQ(byte_at(FILE_CLEAN, at), filter & 4 ? file : -1);
            CHECK_EQ(byte_at(FILE_WRITTEN, at), filter & 5 ? written : -1);
            CHECK_EQ(byte_at(FILE_SHARED, at), filter & 8 ? file : -1);
            CHECK_EQ(byte_at(UNTOUCHED, at), -1);
        }
        CHECK(segment_of((const void *)place[HIDDEN]) != NULL); /* listed all the same */
        core_close();
        unlink(core_path);
    }
    /* Memory that nobody touched is a hole in the file. */
    filter = 0x33;
    CHECK_EQ(child_end(end_with_filter), SIGSEGV | 0x80);
    struct stat status;
    CHECK_EQ(stat(core_path, &status), 0);
    CHECK(status.st_blocks * 512 < status.st_size);
    unlink(core_path);
}

static void
test_filter_file(const char *self)
{
    char text[32] = {0};
    int fd = open("/proc/self/coredump_filter", O_RDONLY), status;

    CHECK_EQ(read(fd, text, sizeof(text)), 9);
    CHECK(strcmp(text, "00000033\n") == 0);
    close(fd);
    CHECK_EQ(put_text("/proc/self/coredump_filter", "x"), EINVAL);
    pid_t pid = fork();
    if (pid == 0) {
        filter_set(0xffffff15);
        if (fork() == 0)
            execl("/proc/self/exe", self, "filter", (char *)NULL);
        wait(&status);
        _exit(WEXITSTATUS(status));
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

/* After fork and exec: what was set, of the bits that there are. */
static int
filter_is_kept(void)
{
    char text[32] = {0};
    int fd = open("/proc/self/coredump_filter", O_RDONLY);

    return read(fd, text, sizeof(text)) == 9 && strcmp(text, "00000115\n") == 0 ? 0 : 1;
}

/* ---- notes -------------------------------------------------------------------------------- */

static void
crash_with_registers(void)
{
    long word = WORD;

#if defined(__x86_64__)
    __asm__ volatile("mov %0, %%r15; movq %0, %%xmm7; ud2" : : "r"(word) : "r15", "xmm7");
#elif defined(__i386__)
    __asm__ volatile("mov %0, %%esi; .byte 0x66, 0x0f, 0x6e, 0xfe; ud2" : : "r"(word) : "esi");
#elif defined(__aarch64__)
    __asm__ volatile("mov x19, %0; fmov d7, %0; .word 0" : : "r"(word) : "x19", "v7");
#elif defined(__riscv)
    __asm__ volatile("mv s11, %0; fmv.d.x fs11, %0; .word 0" : : "r"(word) : "s11", "fs11");
#endif
    (void)word;
}

/* Where they are then. */
static const struct {
    unsigned general, float_note, float_bytes;
} expected =
#if defined(__x86_64__)
    {0, NT_PRFPREG, 160 + 7 * 16};
#elif defined(__i386__)
    {3, NOTE_XFP, 160 + 7 * 16};
#elif defined(__aarch64__)
    {19, NT_PRFPREG, 7 * 16};
#else
    {27, NT_PRFPREG, 27 * 8};
#endif

static void
check_files(void)
{
    size_t bytes;
    const unsigned long *words = note(NOTE_FILES, 0, &bytes);
    const char *name = words == NULL ? NULL : (const char *)(words + 2 + 3 * words[0]);
    unsigned found = 0;

    CHECK(words != NULL);
    for (unsigned long i = 0; words != NULL && i < words[0]; i++) {
        char mapped[64];

        snprintf(mapped, sizeof(mapped), "%s/mapped", folder);
        if (strcmp(name, mapped) == 0 && words[2 + 3 * i] == (unsigned long)place[FILE_CLEAN]) {
            CHECK_EQ(words[3 + 3 * i] - words[2 + 3 * i], PAGES * page);
            CHECK_EQ(words[4 + 3 * i], 0);
            found++;
        }
        name += strlen(name) + 1;
    }
    CHECK_EQ(found, 1);
}

static void
test_notes(void)
{
    size_t bytes;
    long word = 0;

    CHECK_EQ(child_end(crash_with_registers), SIGILL | 0x80);
    CHECK(core_open(core_path));
    if (core == NULL)
        return;
    const ElfW(Ehdr) *header = (const void *)core;
    CHECK(memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_type == ET_CORE &&
          header->e_phentsize == sizeof(ElfW(Phdr)) && segment(0)->p_type == PT_NOTE);

    const struct elf_prstatus *about = note(NT_PRSTATUS, 0, &bytes);
    CHECK_EQ(bytes, sizeof(*about));
    CHECK_EQ(about->pr_cursig, SIGILL);
    CHECK_EQ(about->pr_ppid, getpid());
    CHECK_EQ(about->pr_fpvalid, 1);
    CHECK_EQ(((const unsigned long *)&about->pr_reg)[expected.general], WORD);
    const char *floating = note(expected.float_note, 0, &bytes);
    CHECK(floating != NULL && bytes >= 512 - 256);
    if (floating != NULL)
        memcpy(&word, floating + expected.float_bytes, sizeof(word));
    CHECK_EQ(word, WORD);

    const struct elf_prpsinfo *process = note(NT_PRPSINFO, 0, &bytes);
    CHECK_EQ(bytes, sizeof(*process));
    CHECK_EQ(process->pr_pid, about->pr_pid);
    CHECK_EQ(process->pr_uid, getuid());
    CHECK(strncmp(process->pr_fname, "core", 4) == 0 && strstr(process->pr_psargs, "core") != NULL);
    const siginfo_t *info = note(NOTE_SIGNAL, 0, &bytes);
    CHECK(info != NULL && info->si_signo == SIGILL && info->si_code > 0 && info->si_addr != NULL);
    const ElfW(auxv_t) *aux = note(NT_AUXV, 0, &bytes);
    for (size_t i = 0; i < bytes / sizeof(*aux); i++) {
        if (aux[i].a_type == AT_PAGESZ)
            word = (long)aux[i].a_un.a_val;
    }
    CHECK_EQ(word, page);
    check_files();
    /* The program's own first page, and a constant's that is in no other way there. */
    const ElfW(Phdr) *program = NULL;
    for (unsigned i = 1; segment(i) != NULL && program == NULL; i++) {
        if (segment(i)->p_filesz == (unsigned long)page && !(segment(i)->p_flags & PF_W) &&
            memcmp(core + segment(i)->p_offset, ELFMAG, SELFMAG) == 0)
            program = segment(i);
    }
    CHECK(program != NULL);
    core_close();
    unlink(core_path);
}

/* ---- threads ------------------------------------------------------------------------------- */

enum { THREADS = 4 };
static volatile int *tids; /* shared with the parent */

static void *
thread_runs(void *argument)
{
    long number = (long)argument;

    tids[number] = (int)syscall(SYS_gettid);
    for (;;) {
        if (number % 2 == 0)
            pause();
        else
            sched_yield();
    }
    return NULL;
}

static void *
thread_crashes(void *argument)
{
    tids[0] = (int)syscall(SYS_gettid);
    crash_with_registers();
    return argument;
}

static void
crash_beside_threads(void)
{
    pthread_t thread;

    for (long i = 1; i <= THREADS; i++)
        pthread_create(&thread, NULL, thread_runs, (void *)i);
    for (int i = 1; i <= THREADS; i++) {
        while (tids[i] == 0)
            sched_yield();
    }
    pthread_create(&thread, NULL, thread_crashes, NULL);
    pthread_join(thread, NULL);
}

static void
crash_everywhere(void)
{
    pthread_t thread;

    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread, NULL, thread_crashes, NULL);
    pause();
}

static void
test_threads(void)
{
    size_t bytes;

    tids = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK_EQ(child_end(crash_beside_threads), SIGILL | 0x80);
    CHECK(core_open(core_path));
    if (core == NULL)
        return;
    CHECK_EQ(note_count(NT_PRSTATUS), THREADS + 2);
    CHECK_EQ(note_count(expected.float_note), THREADS + 2);
    CHECK_EQ(note_count(NT_PRPSINFO), 1);
    const struct elf_prstatus *first = note(NT_PRSTATUS, 0, &bytes);
    CHECK_EQ(first->pr_pid, tids[0]); /* the one that did it */
    for (int i = 0; i <= THREADS; i++) {
        unsigned found = 0;

        for (unsigned n = 0; n < THREADS + 2; n++) {
            const struct elf_prstatus *about = note(NT_PRSTATUS, n, &bytes);

            found += about->pr_pid == tids[i];
        }
        CHECK_EQ(found, 1);
    }
    core_close();
    unlink(core_path);
    CHECK_EQ(child_end(crash_everywhere), SIGILL | 0x80);
    CHECK(core_open(core_path));
    if (core != NULL) {
        CHECK(note_count(NT_PRSTATUS) >= 2);
        core_close();
    }
    unlink(core_path);
}

/* ---- who gets none, and whose file it is ------------------------------------------------------ */

static void
end_without_limit(void)
{
    limit_set(0);
    raise_it();
}

static void
end_below_a_page(void)
{
    limit_set((rlim_t)page - 1);
    raise_it();
}

static void
end_undumpable(void)
{
    if (prctl(PR_SET_DUMPABLE, 0) == 0)
        raise_it();
}

static void
end_elsewhere(void)
{
    if (chdir("/proc") == 0)
        raise_it();
}

static void
end_at_folder(void)
{
    if (mkdir("core", 0700) == 0)
        raise_it();
}

static void
test_none(void)
{
    static void (*const bodies[])(void) = {end_without_limit, end_below_a_page, end_undumpable,
                                           end_elsewhere, end_at_folder};
    char name[64];

    raised = SIGSEGV;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        CHECK_EQ(child_end(bodies[i]), SIGSEGV);
        CHECK_EQ(core_open(core_path), false);
    }
    snprintf(name, sizeof(name), "%s/core", folder);
    CHECK_EQ(rmdir(name), 0);
}

static void
end_at_limit(void)
{
    limit_set((rlim_t)(8 * page));
    raise_it();
}

static void
test_limit(void)
{
    struct stat status;

    CHECK_EQ(child_end(end_at_limit), SIGSEGV | 0x80);
    CHECK_EQ(stat(core_path, &status), 0);
    CHECK(status.st_size > 0 && status.st_blocks * 512 <= 8 * page);
    unlink(core_path);
}

/* A file that has that name keeps its contents under any other. */
static void
test_names(void)
{
    char name[64], other[64], text[8] = {0};
    struct stat status;

    snprintf(name, sizeof(name), "%s/core", folder);
    snprintf(other, sizeof(other), "%s/other", folder);
    for (int by_symbol = 0; by_symbol < 2; by_symbol++) {
        int fd = open(other, O_RDWR | O_CREAT, 0644);

        CHECK_EQ(write(fd, "precious", 8), 8);
        CHECK_EQ(by_symbol ? symlink(other, name) : link(other, name), 0);
        CHECK_EQ(child_end(raise_it), SIGSEGV | 0x80);
        CHECK_EQ(pread(fd, text, 8, 0), 8);
        CHECK(memcmp(text, "precious", 8) == 0);
        CHECK_EQ(fstat(fd, &status), 0);
        CHECK_EQ(status.st_size, 8);
        CHECK_EQ(lstat(core_path, &status), 0);
        CHECK(S_ISREG(status.st_mode) && (status.st_mode & 0777) == 0600 && status.st_nlink == 1);
        close(fd);
        unlink(name);
        unlink(core_path);
        unlink(other);
    }
}

/* ---- while it is written ----------------------------------------------------------------------- */

/* Killed at some moment: it ends, one way or the other. */
static void
test_killed(void)
{
    for (int i = 0; i < 8; i++) {
        int status;
        pid_t pid = fork();

        if (pid == 0) {
            limit_set(RLIM_INFINITY);
            if (chdir(folder) == 0)
                raise_it();
            _exit(99);
        }
        usleep((useconds_t)i * 700);
        kill(pid, SIGKILL);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(status == SIGKILL || status == (SIGSEGV | 0x80));
        snprintf(core_path, sizeof(core_path), "%s/core", folder);
        unlink(core_path);
        snprintf(core_path, sizeof(core_path), "%s/core.%d", folder, pid);
        unlink(core_path);
    }
}

/* Without memory for this or that: it ends as ever, with a file or without. */
static unsigned refused;

static void
end_without_memory(void)
{
    char text[16];

    int fd = open("/proc/self/fail-nth", O_RDWR); /* stays open: its end would be the end of that */
    int n = snprintf(text, sizeof(text), "%u", refused);

    if (write(fd, text, (size_t)n) == n)
        raise_it();
}

static void
test_refusal(void)
{
    unsigned without = 0;

    for (refused = 1; refused < 32; refused++) {
        int status = child_end(end_without_memory);

        CHECK(status == SIGSEGV || status == (SIGSEGV | 0x80));
        without += status == SIGSEGV;
        unlink(core_path);
    }
    CHECK(without > 3);
}

/* Nobody is there to bring the missing pages: they are holes, and nobody waits for them. */
static void
end_with_listener(void)
{
    struct {
        uint64_t api, features, ioctls;
    } api = {0xaa, 0, 0};
    struct {
        uint64_t start, bytes, mode, ioctls;
    } listen = {(uintptr_t)place[ANON], (uint64_t)(PAGES * page), 1, 0};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

    if (fd >= 0 && (ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 0xaa, 0x3f, 24), &api) != 0 ||
                    ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 0xaa, 0, 32), &listen) != 0))
        _exit(97);
    raise_it();
}

static void
test_listener(void)
{
    CHECK_EQ(child_end(end_with_listener), SIGSEGV | 0x80);
    CHECK(core_open(core_path));
    if (core == NULL)
        return;
    CHECK_EQ(byte_at(ANON, 1), 'A');
    CHECK_EQ(byte_at(ANON, 2), 0);
    core_close();
    unlink(core_path);
}

/* ---- numbers of /proc/sys: what a write takes, as it says itself; all of these are 0 --------------- */

static void
test_numbers(void)
{
    static const struct {
        const char *text;
        int want;
    } rows[] = {
        {"0", 1},
        {"0\n", 2},
        {" 0", 2},
        {"0 5", 2},
        {"0 5\n", 2},
        {"0\t", 2},
        {"0x0 ", 4},
        {"0X0", 3},
        {"00", 2},
        {"-0", 2},
        {"0 x", 2},
        {"0\n\n", 3},
        {"0\n1", 2},
        {"", 0},
        {"0a", -EINVAL},
        {"\n", -EINVAL},
        {" ", -EINVAL},
        {"+0", -EINVAL},
        {"-", -EINVAL},
        {"x", -EINVAL},
        {"0,0", -EINVAL},
        {"08", -EINVAL},
        {"0x", -EINVAL},
        {"00000000000000000000000000", -EINVAL},
        {"99999999999999999999", -EINVAL},
    };
    int fd = open("/proc/sys/kernel/core_uses_pid", O_RDWR);
    char text[8] = {0};

    if (fd < 0 || read(fd, text, sizeof(text)) != 2 || text[0] != '0')
        return;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ssize_t n = pwrite(fd, rows[i].text, strlen(rows[i].text), 0);

        if (n < 0)
            n = -errno;
        if (n != rows[i].want)
            printf("FAIL number %zu, \"%s\": %zd\n", i, rows[i].text, n);
        CHECK_EQ(n, rows[i].want);
    }
    CHECK_EQ(pwrite(fd, "junk", 4, 3), 4); /* what is not at the start is ignored */
    CHECK_EQ(pwrite(fd, "0\0", 2, 0), -1);
    CHECK_EQ(pread(fd, text, sizeof(text), 0), 2);
    CHECK_EQ(text[0], '0');
    close(fd);
}

/* ---- what changes the machine ------------------------------------------------------------------- */

/* @ stands for the number of the process. */
static void
test_pattern(void)
{
    static const struct {
        const char *pattern, *uses_pid, *wanted;
    } rows[] = {
        {"%%.%s.%z%d%", "0", "%.11.1"},
        {"made-by-%e\nignored", "1", "made-by-!core.@"},
        {"%u%g-%p", "1", "00-@"},
        {"%h-%i%P", "0", "!-@@"},
        {"\n", "0", NULL},
        {"\n", "1", ".@"},
        {"none/core", "0", NULL},
    };
    char host[65] = {0};

    CHECK_EQ(put_text("/proc/sys/kernel/core_pattern", "|/bin/true"), EINVAL);
    CHECK_EQ(gethostname(host, sizeof(host) - 1), 0);
    CHECK_EQ(sethostname(".", 1), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int status;
        char name[256];
        size_t at = (size_t)snprintf(name, sizeof(name), "%s/", folder);

        CHECK_EQ(put_text("/proc/sys/kernel/core_pattern", rows[i].pattern), 0);
        CHECK_EQ(put_text("/proc/sys/kernel/core_uses_pid", rows[i].uses_pid), 0);
        pid_t pid = fork();
        if (pid == 0) {
            limit_set(RLIM_INFINITY);
            prctl(PR_SET_NAME, "/core");
            if (chdir(folder) == 0)
                raise_it();
            _exit(99);
        }
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        if (rows[i].wanted == NULL)
            continue;
        CHECK_EQ(status, SIGSEGV | 0x80);
        for (const char *from = rows[i].wanted; *from != '\0'; from++)
            at += (size_t)snprintf(name + at, sizeof(name) - at, *from == '@' ? "%d" : "%c",
                                   *from == '@' ? (int)pid : *from);
        CHECK_EQ(access(name, F_OK), 0);
        unlink(name);
    }
    CHECK_EQ(sethostname(host, strlen(host)), 0);
    CHECK_EQ(put_text("/proc/sys/kernel/core_pattern", "core"), 0);
    CHECK_EQ(put_text("/proc/sys/kernel/core_uses_pid", "0"), 0);
}

/* The disk is full: what there is stays, and the process ends as ever. */
static void
test_full_disk(void)
{
    char name[64];
    struct stat status;

    snprintf(name, sizeof(name), "size=%ld", 8 * page);
    CHECK_EQ(mount("none", folder, "tmpfs", 0, name), 0);
    CHECK_EQ(child_end(raise_it), SIGSEGV | 0x80);
    CHECK_EQ(stat(core_path, &status), 0);
    CHECK(status.st_blocks * 512 <= 8 * page);
    CHECK_EQ(umount(folder), 0);
}

/* ---- all of them -------------------------------------------------------------------------------- */

static bool
pattern_is_plain(void)
{
    char text[8] = {0};
    int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY);
    bool plain = read(fd, text, sizeof(text)) == 5 && strcmp(text, "core\n") == 0;

    close(fd);
    return plain;
}

int
main(int argc, char **argv)
{
    struct utsname machine;

    if (argc > 1 && strcmp(argv[1], "filter") == 0)
        return filter_is_kept();
    page = check_page();
    on_quire = uname(&machine) == 0 && strstr(machine.release, "quire") != NULL;
    CHECK(mkdtemp(folder) != NULL);
    test_filter_file(argv[0]);
    if (!on_quire && !pattern_is_plain()) {
        printf("core: core_pattern is not \"core\" here\n");
        return check_done("core");
    }
    places_make();
    test_signals();
    test_filter();
    test_notes();
    test_threads();
    test_none();
    test_limit();
    test_names();
    test_killed();
    test_listener();
    test_numbers();
    if (on_quire) {
        test_refusal();
        test_pattern();
        test_full_disk();
    }
    return check_done("core");
}
