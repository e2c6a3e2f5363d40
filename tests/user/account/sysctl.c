/* SPDX-License-Identifier: MIT */
/*
 * /proc/sys/vm: what is written is seen to act, and what is no number within limits is refused.
 * Runs as root, on Linux too (a machine of its own: it lowers watermarks and commit limits).
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../check.h"

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define MIB  (1l << 20)

static long page;

static int
put(const char *name, const char *text)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/sys/vm/%s", name);
    return put_text(path, text);
}

static int
put_number(const char *name, long value)
{
    char text[32];

    snprintf(text, sizeof(text), "%ld\n", value);
    return put(name, text);
}

static long
get(const char *name)
{
    char path[64], text[64] = "";
    FILE *file;
    long value = -1;

    snprintf(path, sizeof(path), "/proc/sys/vm/%s", name);
    file = fopen(path, "r");
    if (file != NULL && fgets(text, sizeof(text), file) != NULL) {
        char again[64];

        value = atol(text);
        snprintf(again, sizeof(again), "%ld\n", value);
        CHECK(strcmp(text, again) == 0);
    }
    if (file != NULL)
        fclose(file);
    return value;
}

static int
in_child(int (*fn)(void))
{
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        check_failures = 0;
        (void)fn();
        fflush(stdout);
        _exit(check_failures != 0);
    }
    return waitpid(child, &status, 0) == child ? status : -1;
}

/* ---- texts ---------------------------------------------------------------------------- */

static void
texts(void)
{
    static const struct {
        const char *name, *text;
        int error;
        long value; /* afterwards */
    } rows[] = {
        {"swappiness", "100\n", 0, 100},
        {"swappiness", " \t0 \n", 0, 0},
        {"swappiness", "200", 0, 200},
        {"swappiness", "201", EINVAL, 200},
        {"swappiness", "-1", EINVAL, 200},
        {"swappiness", "", 0, 200},
        {"swappiness", "x", EINVAL, 200},
        {"swappiness", "12x", EINVAL, 200},
        {"swappiness", "0x20", 0, 32},
        {"swappiness", "017", 0, 15},
        {"swappiness", "60", 0, 60},
        {"overcommit_memory", "3", EINVAL, 0},
        {"overcommit_memory", "-1", EINVAL, 0},
        {"max_map_count", "-1", EINVAL, 65530},
        {"mmap_min_addr", "4096", 0, 4096},
        {"mmap_min_addr", "65536", 0, 65536},
        {"drop_caches", "0", EINVAL, -1},
        {"drop_caches", "5", EINVAL, -1},
        {"drop_caches", "3", 0, -1},
        {"compact_memory", "1", 0, -1},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int error = put(rows[i].name, rows[i].text);

        if (error != rows[i].error)
            printf("%s \"%s\": error %d\n", rows[i].name, rows[i].text, error);
        CHECK_EQ(error, rows[i].error);
        if (rows[i].value >= 0)
            CHECK_EQ(get(rows[i].name), rows[i].value);
    }
}

/* What a mode forbids is forbidden to root, too. */
static void
modes(void)
{
    CHECK_ERRNO(open("/proc/sys/vm/drop_caches", O_RDONLY), EACCES);
    CHECK_ERRNO(open("/proc/sys/vm/compact_memory", O_RDWR), EACCES);
    CHECK_ERRNO(open("/proc/sys/kernel/ostype", O_WRONLY), EACCES);
    CHECK_ERRNO(access("/proc/sys/kernel/ostype", W_OK), EACCES);
    CHECK_ERRNO(access("/proc/sys/vm", W_OK), EACCES);
    CHECK_EQ(access("/proc/sys/vm/drop_caches", W_OK), 0);
    CHECK_EQ(access("/proc/sys/vm/swappiness", R_OK | W_OK), 0);
}

/* Nobody but root may write. */
static int
unprivileged(void)
{
    CHECK_EQ(setresuid(54321, 54321, 54321), 0);
    CHECK_EQ(put("swappiness", "10"), EACCES);
    CHECK_EQ(put("overcommit_memory", "1"), EACCES);
    CHECK_EQ(put("drop_caches", "1"), EACCES);
    CHECK_EQ(get("swappiness"), 60);
    return 0;
}

/* ---- mmap_min_addr ---------------------------------------------------------------------- */

static long
map_at(long at)
{
    void *got = mmap((void *)at, (size_t)page, RW, ANON | MAP_FIXED, -1, 0);

    return got == MAP_FAILED ? -errno : (long)got;
}

static int
low_for_root(void)
{
    CHECK_EQ(map_at(0), 0);
    CHECK_EQ(map_at(page), page);
    *(volatile char *)(page + 1) = 7;
    CHECK_EQ(munmap((void *)0, (size_t)(2 * page)), 0);
    void *hinted = mmap((void *)page, (size_t)page, RW, ANON, -1, 0);

    CHECK_EQ((long)hinted, 65536); /* hints are moved up to the limit, root's too */
    CHECK_EQ(munmap(hinted, (size_t)page), 0);
    return 0;
}

static int
low_for_others(void)
{
    CHECK_EQ(setresuid(54321, 54321, 54321), 0);
    CHECK_EQ(map_at(0), -EPERM);
    CHECK_EQ(map_at(65536 - page), -EPERM);
    CHECK_EQ(map_at(65536), 65536);
    CHECK_EQ(munmap((void *)65536, (size_t)page), 0);
    return 0;
}

/* The limit is a megabyte. */
static int
low_is_higher(void)
{
    CHECK_EQ(setresuid(54321, 54321, 54321), 0);
    CHECK_EQ(map_at(MIB - page), -EPERM);
    CHECK_EQ(map_at(MIB), MIB);
    CHECK_EQ(munmap((void *)MIB, (size_t)page), 0);
    CHECK_EQ((long)mmap((void *)65536, (size_t)page, RW, ANON, -1, 0), MIB);
    void *there = mmap(NULL, (size_t)page, RW, ANON, -1, 0);

    CHECK_EQ(mremap(there, (size_t)page, (size_t)page, MREMAP_MAYMOVE | MREMAP_FIXED,
                    (void *)65536) == MAP_FAILED
                 ? errno
                 : 0,
             EPERM);
    return 0;
}

/* The limit is zero. */
static int
low_is_zero(void)
{
    CHECK_EQ(setresuid(54321, 54321, 54321), 0);
    CHECK_EQ(map_at(0), 0);
    CHECK(mmap(NULL, (size_t)page, RW, ANON, -1, 0) != NULL);
    return 0;
}

static void
min_addr(void)
{
    CHECK_EQ(in_child(low_for_root), 0);
    CHECK_EQ(in_child(low_for_others), 0);
    CHECK_EQ(put_number("mmap_min_addr", MIB), 0);
    CHECK_EQ(in_child(low_is_higher), 0);
    CHECK_EQ(put_number("mmap_min_addr", 0), 0);
    CHECK_EQ(in_child(low_is_zero), 0);
    CHECK_EQ(put_number("mmap_min_addr", 65536), 0);
}

/* ---- overcommit -------------------------------------------------------------------------- */

static bool
can_map(long bytes, int flags)
{
    void *at = mmap(NULL, (size_t)bytes, RW, ANON | flags, -1, 0);

    if (at != MAP_FAILED)
        munmap(at, (size_t)bytes);
    return at != MAP_FAILED;
}

/* The largest private writable mapping that can be had, to 64 KiB. */
static long
largest(long most)
{
    long good = 0, bad = most;

    while (bad - good > 65536) {
        long middle = good + (bad - good) / 2;

        if (can_map(middle, 0))
            good = middle;
        else
            bad = middle;
    }
    return good;
}

static long
meminfo_bytes(const char *name)
{
    return line_of("/proc/meminfo", name) * 1024;
}

static long *shared;

static int
largest_for_others(void)
{
    CHECK_EQ(setresuid(54321, 54321, 54321), 0);
    *shared = largest(1l << 40);
    return 0;
}

/* Within what Linux counts inexactly. */
#define NEAR(a, b) (labs((a) - (b)) < 2 * MIB)

static void
overcommit(void)
{
    long total = meminfo_bytes("MemTotal"), limit, used, reserve, all;

    shared = mmap(NULL, (size_t)page, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    /* 0: what there could never be is refused. */
    CHECK_EQ(get("overcommit_memory"), 0);
    CHECK(can_map(total / 2, 0));
    CHECK(!can_map(total + 64 * MIB + meminfo_bytes("SwapTotal"), 0));
    CHECK(can_map(total * 8, MAP_NORESERVE));

    /* 1: everything goes. */
    CHECK_EQ(put("overcommit_memory", "1"), 0);
    CHECK(can_map(1l << 40, 0));

    /* 2: up to the limit, without what is reserved. */
    CHECK_EQ(put("overcommit_memory", "2"), 0);
    CHECK_EQ(put("overcommit_ratio", "80"), 0);
    limit = meminfo_bytes("CommitLimit");
    CHECK(NEAR(limit, total / 100 * 80 + meminfo_bytes("SwapTotal")));
    used = meminfo_bytes("Committed_AS");
    all = largest(1l << 40);
    CHECK(NEAR(all, limit - used));
    CHECK(!can_map(total, MAP_NORESERVE)); /* which means nothing here */
    reserve = get("admin_reserve_kbytes") * 1024;
    CHECK(reserve > MIB);
    CHECK_EQ(in_child(largest_for_others), 0);
    CHECK(NEAR(*shared, all - reserve));
    CHECK_EQ(put_number("admin_reserve_kbytes", (reserve + 16 * MIB) / 1024), 0);
    CHECK_EQ(in_child(largest_for_others), 0);
    CHECK(NEAR(*shared, all - reserve - 16 * MIB));
    CHECK_EQ(put_number("admin_reserve_kbytes", reserve / 1024), 0);

    /* A 32nd of a large space is left, but no more than the user reserve. */
    void *large = mmap(NULL, (size_t)(1024 * MIB), PROT_NONE, ANON, -1, 0);
    long old = get("user_reserve_kbytes");

    CHECK_EQ(put_number("user_reserve_kbytes", 1024 * 1024), 0);
    CHECK(NEAR(largest(1l << 40), all - 32 * MIB));
    CHECK_EQ(put_number("user_reserve_kbytes", 8 * 1024), 0);
    CHECK(NEAR(largest(1l << 40), all - 8 * MIB));
    CHECK_EQ(put_number("user_reserve_kbytes", old), 0);
    munmap(large, (size_t)(1024 * MIB));

    /* Kilobytes in place of the ratio. */
    CHECK_EQ(put_number("overcommit_kbytes", (used + 32 * MIB) / 1024), 0);
    CHECK_EQ(get("overcommit_ratio"), 0);
    CHECK(NEAR(meminfo_bytes("CommitLimit"), used + 32 * MIB + meminfo_bytes("SwapTotal")));
    CHECK(can_map(16 * MIB, 0) && !can_map(48 * MIB, 0));
    CHECK_EQ(put("overcommit_ratio", "50"), 0);
    CHECK_EQ(get("overcommit_kbytes"), 0);

    /* Huge pages do not count as memory. */
    limit = meminfo_bytes("CommitLimit");
    CHECK_EQ(put("nr_hugepages", "8"), 0);
    long pool = line_of("/proc/meminfo", "HugePages_Total") * meminfo_bytes("Hugepagesize");

    CHECK(pool > 0 && NEAR(meminfo_bytes("CommitLimit"), limit - pool / 2));
    CHECK_EQ(meminfo_bytes("Hugetlb"), pool);
    CHECK_EQ(put("nr_hugepages", "0"), 0);
    CHECK_EQ(line_of("/proc/meminfo", "HugePages_Total"), 0);
    CHECK_EQ(put("overcommit_memory", "0"), 0);
    munmap(shared, (size_t)page);
}

/* ---- watermarks -------------------------------------------------------------------------- */

/* The sum of a line of all zones. */
static long
zones(const char *name)
{
    FILE *file = fopen("/proc/zoneinfo", "r");
    char line[256], word[64];
    long sum = 0, value;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, " %63s %ld", word, &value) == 2 && strcmp(word, name) == 0 &&
            strncmp(line, "        ", 8) == 0)
            sum += value;
    }
    if (file != NULL)
        fclose(file);
    return sum;
}

static void
watermarks(void)
{
    long old = get("min_free_kbytes"), pages, min, low, high;

    CHECK(old > 0);
    min = zones("min");
    CHECK(labs(min * page / 1024 - old) <= old / 4);
    CHECK_EQ(put("min_free_kbytes", "20480"), 0);
    CHECK_EQ(get("min_free_kbytes"), 20480);
    pages = 20480 * 1024 / page;
    min = zones("min");
    low = zones("low");
    high = zones("high");
    CHECK(labs(min - pages) < pages / 16);
    CHECK(low > min && high > low && high <= 2 * min + 100);
    CHECK_EQ(put_number("min_free_kbytes", old), 0);
    CHECK_EQ(get("min_free_kbytes"), old);
    CHECK(labs(zones("min") * page / 1024 - old) <= old / 4);
}

/* ---- max_map_count ----------------------------------------------------------------------- */

static void
map_count(void)
{
    char *at = mmap(NULL, (size_t)(400 * page), PROT_NONE, ANON, -1, 0);
    int made = 0;

    CHECK_EQ(put("max_map_count", "200"), 0);
    for (int i = 1; i < 400; i += 2) {
        if (mprotect(at + i * page, (size_t)page, RW) != 0)
            break;
        made++;
    }
    CHECK(made > 60 && made < 100);
    CHECK_EQ(errno, ENOMEM);
    CHECK_EQ(put("max_map_count", "65530"), 0);
    munmap(at, (size_t)(400 * page));
}

int
main(void)
{
    page = check_page();
    texts();
    modes();
    CHECK_EQ(in_child(unprivileged), 0);
    min_addr();
    overcommit();
    watermarks();
    map_count();
    return check_done("sysctl");
}
