/* SPDX-License-Identifier: MIT */
/*
 * The arena and the runner: `calls` runs every call's file in a child of its own, `calls
 * NAME...` those.
 */
#include "calls.h"

#include <setjmp.h>
#include <sys/uio.h>
#include <sys/utsname.h>

long page, user_end;
int file_rw, file_ro;
int check_failures, check_count;

static struct call_test *tests;

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

const char *
rights_at(long address)
{
    static char rights[5];

    slurp("/proc/self/maps");
    for (char *line = text; line != NULL && *line != '\0';) {
        unsigned long start, end;

        if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 &&
            (unsigned long)address >= start && (unsigned long)address < end)
            return rights;
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return "";
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

/* Everything that a failed call must not change. */
static uint64_t
state_hash(void)
{
    uint64_t hash = 0xcbf29ce484222325u;
    long numbers[2];

    hash = hash_bytes(hash, text, slurp("/proc/self/maps"));
    numbers[0] = status_kib("VmLck:");
    numbers[1] = syscall(SYS_brk, 0);
    return hash_arena(hash_bytes(hash, numbers, sizeof(numbers)));
}

/* ---- rows ------------------------------------------------------------------------ */

long
call(long number, long a, long b, long c, long d, long e, long f)
{
    long result = syscall(number, a, b, c, d, e, f);

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

static void
row_run(const struct row *row)
{
    const long *arg = row->arg;
    uint64_t before = 0;
    long got;

    arena_make();
    if (is_error(row->want) && !(row->flags & PARTIAL))
        before = state_hash();
    got = call(row->number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
    check_count++;
    if (row->want == ANY_VALUE ? is_error(got) : got != row->want) {
        check_failures++;
        printf("FAIL %s: %ld (%#lx), expected %ld\n", row->what, got, got, row->want);
    } else if (before != 0 && before != state_hash()) {
        check_failures++;
        printf("FAIL %s: failed as it should, but changed something\n", row->what);
    }
    /* What it mapped somewhere. */
    if (row->number == NR_MMAP && !is_error(got) && (got < ARENA || got >= AT(ARENA_PAGES)))
        munmap((void *)got, (size_t)row->arg[1]);
}

void
rows_run(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!(rows[i].flags & QUIRE_ONLY) || on_quire())
            row_run(&rows[i]);
    }
    arena_make();
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

static const struct call_test *running;

static void
run_one(void)
{
    files_open();
    (void)state_hash(); /* lets the stack and the library grow to what they need */
    running->run();
    printf("%s %s: %d checks, %d failures\n", check_failures == 0 ? "ok  " : "FAIL", running->name,
           check_count, check_failures);
}

int
main(int argc, char **argv)
{
    int failures = 0;

    page = sysconf(_SC_PAGESIZE);
    find_user_end();
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
