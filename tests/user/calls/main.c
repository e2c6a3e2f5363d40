/* SPDX-License-Identifier: MIT */
/*
 * The arena and the runner: `calls` runs every call's file in a child of its own, `calls
 * NAME...` those.  With `own` first the machine's limits may be changed.
 */
#include "calls.h"

#include <grp.h>
#include <setjmp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/utsname.h>

long page, user_end;
int file_rw, file_ro;
int check_failures, check_count;

static struct call_test *tests;
static const struct call_test *running;
static bool own_machine;

/* The errors that the call which is tested made so far; shared with children. */
enum { ERRORS = 134 };
static unsigned char *made_errors;

/* Nothing here may allocate between two looks at the state: the heap is part of it. */
static char text[65536];

/* ---- looking ------------------------------------------------------------------- */

static size_t
slurp(const char *path)
{
    int fd = open(path, O_RDONLY);
    size_t length = 0;
    ssize_t n;

    while (fd >= 0 && length < sizeof(text) - 1 &&
           (n = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)n;
    if (fd >= 0)
        close(fd);
    text[length] = '\0';
    return length;
}

static uint64_t
hash_bytes(uint64_t hash, const volatile void *bytes, size_t count)
{
    const volatile unsigned char *at = bytes;

    for (size_t i = 0; i < count; i++)
        hash = (hash ^ at[i]) * 0x100000001b3u;
    return hash;
}

long
status_kib(const char *field)
{
    const char *line;

    slurp("/proc/self/status");
    line = strstr(text, field);
    return line == NULL ? -1 : atol(line + strlen(field) + 1);
}

/* What maps says of the mapping at @address; false: there is none. */
static bool
maps_find(long address, char *rights, unsigned long long *offset)
{
    slurp("/proc/self/maps");
    for (char *line = text; line != NULL && *line != '\0';) {
        unsigned long start, end;

        if (sscanf(line, "%lx-%lx %4s %llx", &start, &end, rights, offset) == 4 &&
            (unsigned long)address >= start && (unsigned long)address < end)
            return true;
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return false;
}

const char *
rights_at(long address)
{
    static char rights[5];
    unsigned long long offset;

    return maps_find(address, rights, &offset) ? rights : "";
}

long
offset_at(long address)
{
    char rights[5];
    unsigned long long offset;

    return maps_find(address, rights, &offset) ? (long)offset : -1;
}

bool
has_flag(long address, const char *flag)
{
    bool inside = false;

    slurp("/proc/self/smaps");
    for (char *line = text; line != NULL && *line != '\0';) {
        unsigned long start, end;
        char *next = strchr(line, '\n');

        if (next != NULL)
            *next++ = '\0';
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = (unsigned long)address >= start && (unsigned long)address < end;
        if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            char wanted[8];

            snprintf(wanted, sizeof(wanted), " %s", flag);
            return strstr(line, wanted) != NULL;
        }
        line = next;
    }
    return false;
}

bool
on_quire(void)
{
    struct utsname name;

    return uname(&name) == 0 && strstr(name.release, "quire") != NULL;
}

bool
on_own_machine(void)
{
    return own_machine;
}

bool
is_since(int major, int minor)
{
    struct utsname name;
    int have_major = 0, have_minor = 0;

    return on_quire() ||
           (uname(&name) == 0 && sscanf(name.release, "%d.%d", &have_major, &have_minor) == 2 &&
            (have_major > major || (have_major == major && have_minor >= minor)));
}

void
use_up_descriptors(void)
{
    struct rlimit limit;
    int next = dup(0);

    close(next);
    EXPECT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)next;
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

void
become_nobody(void)
{
    EXPECT(setgroups(0, NULL), 0);
    EXPECT(setresgid(65534, 65534, 65534), 0);
    EXPECT(setresuid(65534, 65534, 65534), 0);
}

void
become_single(void)
{
    struct rlimit count = {1, 2};

    EXPECT(setresuid(54321, 54321, 54321), 0);
    EXPECT(setrlimit(RLIMIT_NPROC, &count), 0);
}

long
set_number(const char *path, long value)
{
    char digits[32];
    int fd = open(path, O_RDWR), length = snprintf(digits, sizeof(digits), "%ld", value);
    long before;

    slurp(path);
    before = atol(text);
    EXPECT(write(fd, digits, (size_t)length), length);
    close(fd);
    return before;
}

int
resident(long address)
{
    unsigned char byte = 0;

    return syscall(SYS_mincore, address, page, &byte) != 0 ? -1 : byte & 1;
}

/* ---- touching ------------------------------------------------------------------ */

static sigjmp_buf touch_out;
static volatile long touch_raised;

static void
touch_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    touch_raised = RAISED(number, info->si_code);
    siglongjmp(touch_out, 1);
}

long
touch(long address, enum touch how)
{
    struct sigaction action = {.sa_sigaction = touch_signal, .sa_flags = SA_SIGINFO};
    struct sigaction old[2];

    sigaction(SIGSEGV, &action, &old[0]);
    sigaction(SIGBUS, &action, &old[1]);
    touch_raised = 0;
    if (sigsetjmp(touch_out, 1) == 0) {
        volatile unsigned char *at = (volatile unsigned char *)address;

        if (how == TOUCH_WRITE)
            *at = *at;
        else
            (void)*at;
    }
    sigaction(SIGSEGV, &old[0], NULL);
    sigaction(SIGBUS, &old[1], NULL);
    return touch_raised;
}

/* ---- the arena ----------------------------------------------------------------- */

static void
place(int at, int pages, int prot, int flags, int fd)
{
    void *got = mmap((void *)AT(at), (size_t)(pages * page), prot, flags | MAP_FIXED, fd, 0);

    if (got != (void *)AT(at)) {
        printf("FAIL the arena: page %d (errno %d)\n", at, errno);
        exit(1);
    }
}

void
arena_make(void)
{
    munlockall();
    munmap((void *)AT(0), (size_t)(ARENA_PAGES * page));
    place(RW_AT, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    place(SHARED_AT, 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    place(NONE_AT, 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    place(FILE_PRIVATE_AT, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE, file_rw);
    place(FILE_SHARED_AT, 4, PROT_READ | PROT_WRITE, MAP_SHARED, file_rw);
    place(FILE_RO_AT, 2, PROT_READ, MAP_SHARED, file_ro);
    place(RO_AT, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    for (int i = 0; i < 4; i++) {
        PTR(RW_AT + i)[0] = (unsigned char)('A' + i);
        PTR(SHARED_AT + i)[0] = (unsigned char)('S' + i);
    }
    for (int i = 0; i < 2; i++)
        PTR(FILE_SHARED_AT + i)[0] = (unsigned char)('f' + i);
}

/* The first bytes of every written page. */
static uint64_t
hash_arena(uint64_t hash)
{
    static const int written[] = {0, 1, 2, 3, 6, 7, 8, 9, 16, 17};
    enum { PIECES = sizeof(written) / sizeof(written[0]), BYTES = 64 };
    static unsigned char copy[PIECES * BYTES];
    struct iovec to = {copy, sizeof(copy)}, from[PIECES];

    for (int i = 0; i < PIECES; i++)
        from[i] = (struct iovec){(void *)AT(written[i]), BYTES};
    memset(copy, 0, sizeof(copy));
    (void)!process_vm_readv(getpid(), &to, 1, from, PIECES, 0);
    return hash_bytes(hash, copy, sizeof(copy));
}

/* Which files are open, and what of them a call could change. */
static uint64_t
hash_files(uint64_t hash)
{
    for (int fd = 0; fd < 32; fd++) {
        struct stat status;
        long long seen[7] = {fd, fcntl(fd, F_GETFL)};
        int bytes = 0;

        if (seen[1] == -1)
            continue;
        memset(&status, 0, sizeof(status));
        (void)fstat(fd, &status);
        (void)ioctl(fd, FIONREAD, &bytes);
        seen[2] = fcntl(fd, F_GETFD);
        seen[3] = fcntl(fd, F_GET_SEALS);
        seen[4] = S_ISREG(status.st_mode) ? status.st_size : bytes;
        seen[5] = S_ISREG(status.st_mode) ? (long long)status.st_blocks : 0;
        seen[6] = fd > 2 ? lseek(fd, 0, SEEK_CUR) : 0;
        hash = hash_bytes(hash, seen, sizeof(seen));
    }
    return hash;
}

static uint64_t
hash_limits(uint64_t hash)
{
    for (int i = 0; i < 16; i++) {
        struct rlimit limit;

        memset(&limit, 0, sizeof(limit));
        (void)getrlimit((enum __rlimit_resource)i, &limit);
        hash = hash_bytes(hash, &limit, sizeof(limit));
    }
    return hash;
}

/* Everything that a failed call must not change. */
static uint64_t
state_hash(void)
{
    uint64_t hash = 0xcbf29ce484222325u;
    long numbers[4];
    int policy = -1;

    hash = hash_bytes(hash, text, slurp("/proc/self/maps"));
    if (own_machine)
        hash = hash_bytes(hash, text, slurp("/proc/sysvipc/shm"));
    (void)syscall(SYS_get_mempolicy, &policy, NULL, 0, 0, 0);
    numbers[0] = status_kib("VmLck:");
    numbers[1] = syscall(SYS_brk, 0);
    numbers[2] = waitpid(-1, NULL, WNOHANG | __WALL);
    numbers[3] = policy;
    hash = hash_bytes(hash, numbers, sizeof(numbers));
    return hash_arena(hash_limits(hash_files(hash)));
}

/* ---- rows ------------------------------------------------------------------------ */

long
call(long number, long a, long b, long c, long d, long e, long f)
{
    long result = syscall(number, a, b, c, d, e, f);

    if (result == -1 && running != NULL && number == running->number && errno < ERRORS)
        made_errors[errno] = 1;
    return result == -1 ? -errno : result;
}

void
check_report(const char *file, int line, const char *what, long got, long wanted)
{
    const char *name = strrchr(file, '/');

    check_failures++;
    printf("FAIL %s:%d: %s is %#lx (%ld), expected %#lx (%ld)\n", name == NULL ? file : name + 1,
           line, what, got, got, wanted, wanted);
}

bool
is_error(long value)
{
    return value < 0 && value > -4096;
}

static bool
returns_twice(long number)
{
#ifdef SYS_fork
    if (number == SYS_fork)
        return true;
#endif
    return number == SYS_clone || number == SYS_clone3;
}

/* The call of @row; of two that come back from it, one: the child ends at once. */
static long
row_call(const struct row *row)
{
    const long *arg = row->arg;
    long got = call(row->number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);

    if (!returns_twice(row->number) || is_error(got))
        return got;
    if (got == 0)
        _exit(0);
    EXPECT(waitpid((pid_t)got, NULL, __WALL), got);
    return got;
}

static void
row_run(const struct row *row, const struct around *around)
{
    uint64_t before = 0;
    long got;

    arena_make();
    if (around != NULL && around->before != NULL)
        around->before();
    if (is_error(row->want) && !(row->flags & PARTIAL))
        before = state_hash();
    got = row_call(row);
    check_count++;
    if (row->want == ANY_VALUE ? is_error(got) : got != row->want) {
        check_failures++;
        printf("FAIL %s: %ld (%#lx), expected %ld\n", row->what, got, got, row->want);
    } else if (before != 0 && before != state_hash()) {
        check_failures++;
        printf("FAIL %s: failed as it should, but changed something\n", row->what);
    }
    if (around != NULL && around->after != NULL)
        around->after(row, got);
    /* What it mapped somewhere. */
    if (row->number == NR_MMAP && !is_error(got) && (got < ARENA || got >= AT(ARENA_PAGES)))
        munmap((void *)got, (size_t)row->arg[1]);
}

/* ---- refused allocations ----------------------------------------------------------- */

const char by_refusal[] = "memory is short";

static bool
is_refusal(long error)
{
    return error == -ENOMEM || error == -EAGAIN || error == -EFAULT || error == -ENFILE ||
           error == -ENOSPC;
}

/*
 * The row again, the @nth allocation in the kernel refused: it fails and leaves all as it was, or it
 * works.  @return whether there was one to refuse
 */
static bool
row_refuse(const struct row *row, const struct around *around, int nth)
{
    char digits[16];
    ssize_t length = snprintf(digits, sizeof(digits), "%d", nth);
    uint64_t before;
    int fd;

    arena_make();
    if (around != NULL && around->before != NULL)
        around->before();
    before = state_hash();
    fd = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, digits, (size_t)length, 0) != length)
        return false;
    long got = row_call(row);
    bool refused = pread(fd, digits, sizeof(digits), 0) > 0 && digits[0] == '0';
    close(fd);
    check_count++;
    if (is_error(got) && (!refused || !is_refusal(got))) {
        check_failures++;
        printf("FAIL %s: %ld with allocation %d refused\n", row->what, got, nth);
    } else if (is_error(got) && !(row->flags & PARTIAL) && before != state_hash()) {
        check_failures++;
        printf("FAIL %s: with allocation %d refused it changed something\n", row->what, nth);
    }
    if (around != NULL && around->after != NULL)
        around->after(row, got);
    return refused;
}

static bool
has_refusals(const struct call_test *test)
{
    for (size_t i = 0; i < test->documented_count; i++) {
        if (test->documented[i].why_not == by_refusal)
            return access("/proc/self/fail-nth", W_OK) == 0;
    }
    return false;
}

void
rows_run(const struct row *rows, size_t count, const struct around *around)
{
    for (size_t i = 0; i < count; i++) {
        if (!(rows[i].flags & OWN_ONLY) || on_own_machine())
            row_run(&rows[i], around);
    }
    for (size_t i = 0; i < count && has_refusals(running); i++) {
        bool works = rows[i].number == running->number && !is_error(rows[i].want);

        for (int nth = 1; works && nth < 100 && row_refuse(&rows[i], around, nth); nth++)
            continue;
    }
    arena_make();
}

void
close_made(const struct row *row, long got)
{
    (void)row;
    if (!is_error(got))
        close((int)got);
}

int
in_child(void (*fn)(void))
{
    int status = -1;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        int before = check_failures;

        fn();
        fflush(stdout);
        _exit(check_failures != before);
    }
    waitpid(child, &status, 0);
    return status;
}

static void (*limited_fn)(void);

static void
fill_and_run(void)
{
    enum { LIMIT = 300 };
    static const char path[] = "/proc/sys/vm/max_map_count";
    long before, got = 0;

    arena_make();
    before = set_number(path, LIMIT);
    for (int i = 0; got >= 0 && i < LIMIT; i++)
        got = call(NR_MMAP, AT(2 * ARENA_PAGES + 2 * i), page, PROT_READ,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    EXPECT(got, -ENOMEM);
    limited_fn();
    (void)set_number(path, before);
}

void
at_map_limit(void (*fn)(void))
{
    limited_fn = fn;
    if (on_own_machine())
        EXPECT(in_child(fill_and_run), 0);
}

static void
nobody_and_run(void)
{
    become_nobody();
    limited_fn();
}

void
at_file_limit(void (*fn)(void))
{
    static const char path[] = "/proc/sys/fs/file-max";

    if (!on_own_machine())
        return;
    long before = set_number(path, 0);

    limited_fn = fn;
    EXPECT(in_child(nobody_and_run), 0);
    (void)set_number(path, before);
}

/* ---- the runner -------------------------------------------------------------------- */

void
call_register(struct call_test *test)
{
    struct call_test **at = &tests;

    while (*at != NULL && strcmp((*at)->name, test->name) < 0)
        at = &(*at)->next;
    test->next = *at;
    *at = test;
}

static void
files_open(void)
{
    char name[] = "/tmp/callsXXXXXX";

    file_rw = mkstemp(name);
    file_ro = open(name, O_RDONLY);
    unlink(name);
    if (file_rw < 0 || file_ro < 0 || ftruncate(file_rw, 2 * page) != 0) {
        printf("FAIL no file in /tmp (errno %d)\n", errno);
        exit(1);
    }
}

static bool
is_wanted(const struct call_test *test, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], test->name) == 0)
            return true;
    }
    return argc == 1;
}

#ifndef __i386__
/* Are there addresses of 56 bits, above the stack, for who asks? */
static bool
has_wide_addresses(void)
{
    void *high = (void *)(1ul << 52);
    void *at =
        mmap(high, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (at != MAP_FAILED)
        munmap(at, page);
    return at == high;
}
#endif

/*
 * Where the user's addresses end: above the stack, which is near that or near where addresses
 * end that nobody has to ask for.  A 32-bit program on a 64-bit kernel has nearly all of 4 GiB.
 */
static void
find_user_end(void)
{
    unsigned long stack = (unsigned long)__builtin_frame_address(0);

#ifdef __i386__
    user_end = (long)(stack >= 0xc0000000ul ? 0xffffe000ul : 0xc0000000ul);
#else
    static const int bits[] = {38, 47, 48};

    for (size_t i = sizeof(bits) / sizeof(bits[0]); i-- > 0;) {
        if (stack < 1ul << bits[i])
            user_end = (long)(1ul << bits[i]);
    }
    if (has_wide_addresses())
        user_end = (long)(1ul << 56);
#ifdef __x86_64__
    user_end -= page;
#endif
#endif
}

/*
 * What is documented was seen, or is said to be out of reach and was not.  A machine may be without
 * the call: its file says of which ones that is known.
 */
static void
check_documented(const struct call_test *test)
{
    if (made_errors[ENOSYS])
        return;
    for (size_t i = 0; i < test->documented_count; i++) {
        const struct documented *row = &test->documented[i];

        bool wanted = row->why_not == NULL || row->why_not == by_refusal;

        if (row->why_not == by_refusal && !has_refusals(test))
            continue;
        check_count++;
        if (row->error == 0 || made_errors[row->error] == wanted)
            continue;
        check_failures++;
        printf("FAIL %s: %s %s\n", test->name, strerrorname_np(row->error),
               wanted ? "was not made by any row" : "can be made after all");
    }
}

static void
run_one(void)
{
    files_open();
    memset(made_errors, 0, ERRORS);
    (void)state_hash(); /* lets the stack and the library grow to what they need */
    running->run();
    if (on_quire() && on_own_machine())
        check_documented(running);
    printf("%s %s: %d checks, %d failures\n", check_failures == 0 ? "ok  " : "FAIL", running->name,
           check_count, check_failures);
}

int
main(int argc, char **argv)
{
    int failures = 0;

    page = sysconf(_SC_PAGESIZE);
    find_user_end();
    own_machine = argc > 1 && strcmp(argv[1], "own") == 0;
    if (own_machine && !on_quire() && access("/etc/command", R_OK) != 0) {
        printf("own: this machine was not booted by quire-run\n");
        return 2;
    }
    if (own_machine) {
        argc--;
        argv++;
    }
    made_errors = mmap(NULL, ERRORS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (running = tests; running != NULL; running = running->next) {
        if (!is_wanted(running, argc, argv))
            continue;
        int status = in_child(run_one);

        if (status != 0) {
            failures++;
            printf("FAIL %s: status %#x\n", running->name, (unsigned)status);
        }
    }
    fflush(stdout);
    return failures != 0;
}
