/* SPDX-License-Identifier: MIT */
/*
 * Merging of equal pages as programs see it (Linux: Documentation/admin-guide/mm/ksm.rst): contents
 * whatever ksmd does, what /sys/kernel/mm/ksm and /proc say about it, and what may not be set.
 * Where the kernel merges nothing there is nothing to check.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "check.h"

#define DIR  "/sys/kernel/mm/ksm/"
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW   (PROT_READ | PROT_WRITE)

static size_t page;

/* ---- what the system says ------------------------------------------------------------------ */

/* The first number of a file, or -1. */
static long
number_in(const char *path)
{
    FILE *file = fopen(path, "r");
    long value = -1;

    if (file != NULL && fscanf(file, "%ld", &value) != 1)
        value = -1;
    if (file != NULL)
        fclose(file);
    return value;
}

static long
figure(const char *name)
{
    char path[96];

    snprintf(path, sizeof(path), DIR "%s", name);
    return number_in(path);
}

static int
set(const char *name, const char *text)
{
    char path[96];

    snprintf(path, sizeof(path), DIR "%s", name);
    return put_text(path, text);
}

/* Linux counts what it has scanned again: in the end both figures are right. */
static int
becomes(long shared, long sharing)
{
    for (int tries = 0; tries < 6000; tries++) {
        if (figure("pages_shared") == shared && figure("pages_sharing") == sharing)
            return 1;
        usleep(10000);
    }
    printf("shared %ld, sharing %ld\n", figure("pages_shared"), figure("pages_sharing"));
    return 0;
}

/* What the scan brings about sooner or later; how many rounds that takes depends on what else runs. */
#define CHECK_SOON(condition)                                      \
    do {                                                           \
        for (int tries = 0; !(condition) && tries < 6000; tries++) \
            usleep(10000);                                         \
        CHECK(condition);                                          \
    } while (0)

static uint64_t
word_of(const char *path, uint64_t index)
{
    int fd = open(path, O_RDONLY);
    uint64_t word = 0;

    CHECK(pread(fd, &word, 8, (off_t)(index * 8)) == 8);
    close(fd);
    return word;
}

/* The number of the frame behind @address. */
static uint64_t
frame_of(const void *address)
{
    return word_of("/proc/self/pagemap", (uintptr_t)address / page) & (((uint64_t)1 << 55) - 1);
}

static int
is_merged(const void *address)
{
    return word_of("/proc/kpageflags", frame_of(address)) >> 21 & 1;
}

/* Is @flag among the VmFlags of the region that holds @address? */
static int
has_flag(const void *address, const char *flag)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long start, end;
    int inside = 0, found = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = (uintptr_t)address >= start && (uintptr_t)address < end;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, flag) != NULL;
    }
    if (file != NULL)
        fclose(file);
    return found;
}

/* ---- pages --------------------------------------------------------------------------------- */

enum { PAGES = 64 };

/* 32 of one kind, 16 of another, 8 of zeroes, 8 of which none is like another. */
static int
kind_of(int i)
{
    return i < 32 ? 'a' : i < 48 ? 'b' : i < 56 ? 0 : i;
}

static char *
map_pages(void)
{
    char *memory = mmap(NULL, PAGES * page, RW, ANON, -1, 0);

    CHECK(memory != MAP_FAILED);
    CHECK(madvise(memory, PAGES * page, MADV_MERGEABLE) == 0);
    for (int i = 0; i < PAGES; i++)
        memset(memory + (size_t)i * page, kind_of(i), page);
    return memory;
}

static int
is_filled(const char *at, int with)
{
    for (size_t i = 0; i < page; i++) {
        if (at[i] != (char)with)
            return 0;
    }
    return 1;
}

static int
all_right(const char *memory)
{
    int right = 0;

    for (int i = 0; i < PAGES; i++)
        right += is_filled(memory + (size_t)i * page, kind_of(i));
    return right == PAGES;
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void
test_nodes(void)
{
    struct stat st;

    CHECK_EQ(set("run", "3"), EINVAL);
    CHECK_EQ(set("run", "-1"), EINVAL);
    CHECK_EQ(set("run", "x"), EINVAL);
    CHECK_EQ(set("pages_to_scan", "4294967296"), EINVAL);
    CHECK_EQ(set("sleep_millisecs", "1x"), EINVAL);
    CHECK_EQ(set("max_page_sharing", "1"), EINVAL);
    CHECK_EQ(set("use_zero_pages", "2"), EINVAL);
    CHECK_EQ(set("use_zero_pages", "y"), 0);
    CHECK_EQ(figure("use_zero_pages"), 1);
    CHECK_EQ(set("use_zero_pages", "off"), 0);
    CHECK_EQ(figure("use_zero_pages"), 0);
    CHECK_EQ(set("stable_node_chains_prune_millisecs", "100"), 0);
    CHECK_EQ(figure("stable_node_chains_prune_millisecs"), 100);
    CHECK(stat(DIR "pages_shared", &st) == 0 && (st.st_mode & 0777) == 0444);
    CHECK(stat(DIR "run", &st) == 0 && (st.st_mode & 0777) == 0644);
    CHECK_EQ(figure("stable_node_chains"), 0);
    CHECK_EQ(figure("stable_node_dups"), 0);
    if (access(DIR "merge_across_nodes", F_OK) == 0)
        CHECK_EQ(set("merge_across_nodes", "2"), EINVAL);
}

static void
test_advice(void)
{
    char *memory = mmap(NULL, 4 * page, RW, ANON, -1, 0);
    char *shared = mmap(NULL, page, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(memory != MAP_FAILED && shared != MAP_FAILED);
    CHECK(madvise(shared, page, MADV_MERGEABLE) == 0); /* without effect */
    CHECK(!has_flag(shared, " mg"));
    CHECK(madvise(memory + page, page, MADV_MERGEABLE) == 0);
    CHECK(has_flag(memory + page, " mg"));
    CHECK(!has_flag(memory, " mg"));
    CHECK(madvise(memory, 4 * page, MADV_UNMERGEABLE) == 0);
    CHECK(!has_flag(memory + page, " mg"));
    munmap(memory + 2 * page, page);
    CHECK_ERRNO(madvise(memory, 4 * page, MADV_MERGEABLE), ENOMEM);
    CHECK(has_flag(memory + 3 * page, " mg"));
    CHECK_ERRNO(madvise(memory + 1, page, MADV_MERGEABLE), EINVAL);
    munmap(memory, 4 * page);
    munmap(shared, page);
}

static void
test_merging(void)
{
    char *memory = map_pages();
    long copies = line_of("/proc/vmstat", "cow_ksm");

    CHECK(becomes(3, 31 + 15 + 7));
    CHECK(all_right(memory));
    CHECK_EQ(number_in("/proc/self/ksm_merging_pages"), 56);
    /* The last pages may be seen for the first time in the round that merges those before them. */
    CHECK_SOON(line_of("/proc/self/ksm_stat", "ksm_rmap_items") == 64);
    CHECK(is_merged(memory) && frame_of(memory) == frame_of(memory + 9 * page));
    CHECK(!is_merged(memory + 60 * page));
    if (access(DIR "merge_across_nodes", F_OK) == 0)
        CHECK_EQ(set("merge_across_nodes", figure("merge_across_nodes") ? "0" : "1"), EBUSY);
    CHECK_EQ(set("max_page_sharing", "200"), EBUSY);
    CHECK_EQ(set("max_page_sharing", "256"), 0);

    for (int i = 0; i < 4; i++)
        memset(memory + (size_t)i * page, '0' + i, page);
    CHECK(line_of("/proc/vmstat", "cow_ksm") >= copies + 4);
    CHECK(becomes(3, 31 + 15 + 7 - 4));
    for (int i = 0; i < 4; i++) {
        CHECK(is_filled(memory + (size_t)i * page, '0' + i));
        memset(memory + (size_t)i * page, 'a', page);
    }
    CHECK(becomes(3, 31 + 15 + 7));
    CHECK(all_right(memory));

    CHECK(madvise(memory, 16 * page, MADV_DONTNEED) == 0);
    CHECK(is_filled(memory, 0));
    memset(memory, 'a', 16 * page);
    CHECK(mprotect(memory, PAGES * page, PROT_READ) == 0);
    CHECK(becomes(3, 31 + 15 + 7));
    CHECK(madvise(memory + 8 * page, 16 * page, MADV_UNMERGEABLE) == 0);
    CHECK(becomes(3, 15 + 15 + 7));
    CHECK(mprotect(memory, PAGES * page, RW) == 0);
    char *moved = mmap(NULL, 8 * page, RW, ANON, -1, 0);

    CHECK(mremap(memory + 24 * page, 8 * page, 8 * page, MREMAP_MAYMOVE | MREMAP_FIXED, moved) ==
          moved);
    CHECK(is_filled(moved + 7 * page, 'a'));
    moved[0] = 'c';
    CHECK(moved[page] == 'a' && memory[0] == 'a' && memory[8 * page] == 'a');
    munmap(moved, 8 * page);
    munmap(memory, PAGES * page);
    CHECK(becomes(0, 0));
}

static void
test_fork(void)
{
    char *memory = map_pages();
    int status, channel[2];
    char byte;

    CHECK(becomes(3, 53));
    CHECK(pipe(channel) == 0);
    pid_t child = fork();

    if (child == 0) {
        int right = all_right(memory);

        memset(memory, 'x', 4 * page);
        close(channel[1]);
        (void)!read(channel[0], &byte, 1); /* until the parent has written its own */
        _exit(right && is_filled(memory + page, 'x') && is_filled(memory + 8 * page, 'a') ? 0 : 1);
    }
    close(channel[0]);
    memset(memory + 8 * page, 'y', 4 * page);
    close(channel[1]);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(is_filled(memory, 'a') && is_filled(memory + 8 * page, 'y'));
    munmap(memory, PAGES * page);
    CHECK(becomes(0, 0));
}

/* Pages of another user do not meet these; on Linux they do. */
static void
test_strangers(void)
{
    struct utsname name;
    int status, channel[2];
    char byte, *memory = map_pages();

    CHECK(uname(&name) == 0 && pipe(channel) == 0);
    int apart = strstr(name.release, "quire") != NULL;
    pid_t child = fork();

    if (child == 0) {
        close(channel[1]);
        munmap(memory, PAGES * page);
        if (setuid(1000) != 0)
            _exit(1);
        memory = map_pages();
        (void)!read(channel[0], &byte, 1); /* until the parent has looked */
        _exit(check_failures != 0 || !all_right(memory));
    }
    close(channel[0]);
    CHECK(becomes(apart ? 6 : 3 + 8, apart ? 2 * 53 : 2 * PAGES - (3 + 8)));
    close(channel[1]);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    munmap(memory, PAGES * page);
    CHECK(becomes(0, 0));
}

static void
test_limit(void)
{
    CHECK_EQ(set("run", "2"), 0);
    CHECK_EQ(set("max_page_sharing", "8"), 0);
    CHECK_EQ(set("run", "1"), 0);
    char *memory = map_pages();

    CHECK(becomes(4 + 2 + 1, 28 + 14 + 7));
    CHECK_EQ(figure("stable_node_chains"), 2);
    CHECK_EQ(figure("stable_node_dups"), 6);
    CHECK(all_right(memory));
    CHECK_EQ(set("run", "2"), 0);
    CHECK_EQ(figure("pages_shared"), 0);
    CHECK_EQ(figure("pages_sharing"), 0);
    CHECK_EQ(figure("pages_unshared"), 0);
    CHECK_EQ(figure("pages_volatile"), 0);
    CHECK_EQ(number_in("/proc/self/ksm_merging_pages"), 0);
    CHECK(all_right(memory));
    CHECK_EQ(set("max_page_sharing", "256"), 0);
    CHECK(has_flag(memory, " mg")); /* for the next run */
    munmap(memory, PAGES * page);
}

static void
test_zero_pages(void)
{
    CHECK_EQ(set("use_zero_pages", "1"), 0);
    CHECK_EQ(set("run", "1"), 0);
    char *memory = map_pages();

    CHECK(becomes(2, 31 + 15)); /* what shows the page of zeroes is not counted */
    for (int i = 49; i < 56; i++)
        CHECK_SOON(frame_of(memory + 48 * page) == frame_of(memory + (size_t)i * page));
    CHECK(!is_merged(memory + 48 * page));
    CHECK(all_right(memory));
    memory[48 * page] = 1;
    CHECK(memory[49 * page] == 0 && memory[48 * page] == 1);
    munmap(memory, PAGES * page);
    CHECK_EQ(set("use_zero_pages", "0"), 0);
    CHECK(becomes(0, 0));
}

/* ---- beside threads ----------------------------------------------------------------------------- */

enum { WRITERS = 3, SHARE = 24, ROUNDS = 30000 };

static char *arena;
static int wrong, enough;

/* Few different pages, so that they are merged all the time; each says what it wrote last.  They go on until some were. */
static void *
writer_main(void *argument)
{
    uint64_t random = 1 + (uint64_t)(uintptr_t)argument, value[SHARE] = {0};
    char *own = arena + (size_t)(uintptr_t)argument * SHARE * page;

    for (int i = 0; i < ROUNDS || !__atomic_load_n(&enough, __ATOMIC_RELAXED); i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t at = (random >> 33) % SHARE;
        volatile uint64_t *word = (uint64_t *)(own + at * page + 8 * ((random >> 40) % 4));

        if (word[0] != 0 && word[0] != 1 && word[0] != 2)
            __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
        word = (uint64_t *)(own + at * page + 64);
        if (*word != value[at])
            __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
        if (i % 8 == 0) {
            value[at] = (random >> 50) % 3;
            *word = value[at];
        }
        if (i % 1024 == 0)
            usleep(10000); /* some pages stand still for a round */
    }
    return NULL;
}

static void
test_threads(void)
{
    pthread_t writers[WRITERS];
    long copies = line_of("/proc/vmstat", "cow_ksm");

    arena = mmap(NULL, WRITERS * SHARE * page, RW, ANON, -1, 0);
    CHECK(arena != MAP_FAILED);
    CHECK(madvise(arena, WRITERS * SHARE * page, MADV_MERGEABLE) == 0);
    for (uintptr_t i = 0; i < WRITERS; i++)
        CHECK(pthread_create(&writers[i], NULL, writer_main, (void *)i) == 0);
    CHECK_SOON(line_of("/proc/vmstat", "cow_ksm") > copies);
    __atomic_store_n(&enough, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i], NULL);
    CHECK_EQ(wrong, 0);
    munmap(arena, WRITERS * SHARE * page);
    CHECK(becomes(0, 0));
}

int
main(void)
{
    page = (size_t)check_page();
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mkdir("/sys", 0755);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    if (access(DIR "run", W_OK) != 0)
        return check_done("ksm");
    test_nodes();
    test_advice();
    CHECK_EQ(set("pages_to_scan", "100000"), 0);
    CHECK_EQ(set("sleep_millisecs", "5"), 0);
    CHECK_EQ(set("run", "1"), 0);
    test_merging();
    test_fork();
    test_strangers();
    test_limit();
    test_zero_pages();
    test_threads();
    CHECK_EQ(set("run", "2"), 0);
    CHECK_EQ(set("run", "0"), 0);
    CHECK_EQ(set("sleep_millisecs", "20"), 0);
    CHECK_EQ(set("pages_to_scan", "100"), 0);
    return check_done("ksm");
}
