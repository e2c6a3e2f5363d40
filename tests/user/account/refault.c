/* SPDX-License-Identifier: MIT */
/*
 * Pages of files that reclaim drops and that come back: what is counted of them, for the machine and for a
 * group, whom it saves later, and what waiting for them is.
 *
 *     refault DIRECTORY    on a disk
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "../check.h"

#define ROOT  "/sys/fs/cgroup"
#define GROUP ROOT "/refault"
#define MIB   (1l << 20)

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static long page;
static int fd;

struct stats {
    uint64_t cache, dirty, writeback, evicted, recently;
};

static struct stats
cached(void)
{
    uint64_t range[2] = {0, 0};
    struct stats stats = {0};

    CHECK_EQ(syscall(SYS_cachestat, fd, range, &stats, 0), 0);
    return stats;
}

static long
stat_of(const char *name)
{
    return line_of(GROUP "/memory.stat", name);
}

/* So many, and a few of the file system's own pages. */
static bool
is_about(long value, long pages)
{
    if (value < pages || value > pages + 8)
        printf("%ld is not about %ld\n", value, pages);
    return value >= pages && value <= pages + 8;
}

static void
read_pages(long first, long count)
{
    static char block[65536];

    for (long at = first * page; at < (first + count) * page; at += (long)sizeof(block))
        CHECK_EQ(pread(fd, block, sizeof(block), at), sizeof(block));
}

static long
stalled(void)
{
    FILE *file = fopen(GROUP "/memory.pressure", "r");
    long value = -1;
    char line[256];

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "some", 4) == 0)
            (void)sscanf(strstr(line, "total="), "total=%ld", &value);
    }
    if (file != NULL)
        fclose(file);
    return value;
}

/* A quarter of the file goes: the pages at @first, and perhaps some of the file system's own. */
static void
reclaim(long first, long quarter)
{
    unsigned char there[2];
    char text[32];
    char *at;

    snprintf(text, sizeof(text), "%ld", quarter * page);
    CHECK_EQ(put_text(GROUP "/memory.reclaim", text), 0);
    at = mmap(NULL, (size_t)(4 * quarter * page), PROT_READ, MAP_SHARED, fd, 0);
    CHECK_EQ(mincore(at + first * page, (size_t)page, there), 0);
    CHECK_EQ(there[0] & 1, 0);
    CHECK_EQ(munmap(at, (size_t)(4 * quarter * page)), 0);
}

static void
file_pages(const char *directory)
{
    long bytes = 4 * MIB, pages = bytes / page, quarter = pages / 4, all, waited;
    long scanned = line_of("/proc/vmstat", "pgscan_file"), direct;
    static char block[65536];
    char path[256];

    snprintf(path, sizeof(path), "%s/refault.data", directory);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (long at = 0; at < bytes; at += (long)sizeof(block))
        CHECK_EQ(write(fd, block, sizeof(block)), sizeof(block));
    CHECK_EQ(fsync(fd), 0);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(cached().cache, pages);
    CHECK_EQ(cached().evicted, 0);

    /* They go; what was dropped by hand would leave nothing. */
    direct = line_of("/proc/vmstat", "pgscan_direct");
    reclaim(0, quarter);
    CHECK_EQ(cached().cache + cached().evicted, pages);
    CHECK(cached().evicted > 0 && (long)cached().evicted <= quarter);
    CHECK_EQ(cached().recently, cached().evicted);
    CHECK(stat_of("pgsteal") >= quarter && stat_of("pgscan") >= stat_of("pgsteal"));
    CHECK_EQ(stat_of("pgsteal_direct"), stat_of("pgsteal"));
    CHECK(line_of("/proc/vmstat", "pgscan_file") >= scanned + quarter);
    CHECK(line_of("/proc/vmstat", "pgscan_direct") >= direct + quarter);
    CHECK_EQ(stat_of("workingset_refault_file"), 0);
    CHECK(line_of("/proc/vmstat", "workingset_nodes") > 0);

    /* They come back: too soon to be out of use. */
    all = (long)cached().evicted;
    read_pages(0, quarter);
    CHECK_EQ(cached().evicted, 0);
    CHECK(is_about(stat_of("workingset_refault_file"), all));
    CHECK(is_about(stat_of("workingset_activate_file"), all));
    CHECK_EQ(stat_of("workingset_restore_file"), 0);
    CHECK(is_about(stat_of("active_file") / page, all));
    CHECK(line_of("/proc/meminfo", "Active(file)") * 1024 >= all * page);

    /* So others go first; these lose their mark. */
    reclaim(quarter, quarter);
    CHECK(stat_of("pgrefill") >= all);
    CHECK_EQ(stat_of("active_file"), 0);
    read_pages(quarter, quarter);

    /* Next time they go, and who wants them again waits for want of memory. */
    waited = stalled();
    CHECK(waited >= 0);
    reclaim(0, quarter);
    read_pages(0, quarter);
    CHECK(stat_of("workingset_restore_file") >= all / 2);
    CHECK(stat_of("workingset_restore_file") <= 2 * all);
    CHECK(stalled() > waited);

    /* Nothing is remembered of what is cut off, or dropped by hand. */
    CHECK_EQ(put_text(GROUP "/memory.reclaim", "2M"), 0);
    CHECK(cached().evicted > 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    CHECK_EQ(cached().evicted, 0);
    CHECK_EQ(cached().cache, 0);
    read_pages(0, pages);
    CHECK_EQ(put_text(GROUP "/memory.reclaim", "2M"), 0);
    CHECK(cached().evicted > 0);
    CHECK_EQ(ftruncate(fd, 0), 0);
    CHECK_EQ(cached().evicted, 0);
    CHECK_EQ(stat_of("active_file"), 0);
}

/* Advice drops pages, too, and leaves something behind. */
static void
advised(void)
{
    long pages = 64;
    char *at;

    CHECK_EQ(ftruncate(fd, pages * page), 0);
    at = mmap(NULL, (size_t)(pages * page), PROT_READ, MAP_SHARED, fd, 0);
    CHECK_EQ(madvise(at, (size_t)(pages * page), 22 /* POPULATE_READ */), 0);
    CHECK_EQ(cached().cache, pages);
    CHECK_EQ(madvise(at, (size_t)(pages * page), 21 /* PAGEOUT */), 0);
    CHECK_EQ(cached().evicted, pages);
    CHECK_EQ(((volatile char *)at)[5 * page], 0);
    CHECK((long)cached().evicted < pages);
    munmap(at, (size_t)(pages * page));
}

/* What else memory.stat counts. */
static void
others(void)
{
    long huge = line_of("/proc/meminfo", "Hugepagesize") * 1024, locked = 8 * page;
    long mapped = stat_of("file_mapped"), dirty = stat_of("file_dirty");
    char *at =
        mmap(NULL, (size_t)(2 * huge), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *aligned = at + (huge - (uintptr_t)at % huge) % huge;
    char *file = mmap(NULL, (size_t)(64 * page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    CHECK(at != MAP_FAILED && file != MAP_FAILED);
    CHECK_EQ(stat_of("anon_thp"), 0);
    CHECK_EQ(madvise(aligned, (size_t)huge, MADV_HUGEPAGE), 0);
    aligned[0] = 1;
    if (huge <= 4 * MIB) { /* else there may be none so large */
        CHECK_EQ(stat_of("anon_thp"), huge);
        CHECK_EQ(stat_of("thp_fault_alloc"), 1);
        CHECK(stat_of("anon") >= huge);
    }
    CHECK_EQ(munmap(at, (size_t)(2 * huge)), 0);
    CHECK_EQ(stat_of("anon_thp"), 0);
    at =
        mmap(NULL, (size_t)(32 * page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_EQ(madvise(at, (size_t)(32 * page), MADV_NOHUGEPAGE), 0);
    memset(at, 1, (size_t)(32 * page));
    CHECK_EQ(stat_of("unevictable"), 0);
    CHECK_EQ(mlock(at, (size_t)locked), 0);
    CHECK_EQ(stat_of("unevictable"), locked);
    CHECK_EQ(munlock(at, (size_t)locked), 0);
    CHECK_EQ(madvise(at, (size_t)(32 * page), MADV_FREE), 0);
    CHECK_EQ(stat_of("pglazyfree"), 32);
    CHECK_EQ(munmap(at, (size_t)(32 * page)), 0);
    for (long i = 0; i < 64; i++)
        file[i * page] = 1;
    CHECK(stat_of("file_mapped") >= mapped + 64 * page);
    CHECK(stat_of("file_dirty") >= dirty + 64 * page);
    CHECK_EQ(fsync(fd), 0);
    CHECK(stat_of("file_dirty") < dirty + 64 * page);
    CHECK_EQ(munmap(file, (size_t)(64 * page)), 0);
    CHECK(stat_of("file_mapped") <= mapped);
}

int
main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    page = check_page();
    mkdir(ROOT, 0755);
    CHECK_EQ(mount("none", ROOT, "cgroup2", 0, NULL), 0);
    CHECK_EQ(put_text(ROOT "/cgroup.subtree_control", "+memory"), 0);
    CHECK_EQ(mkdir(GROUP, 0755), 0);
    CHECK_EQ(put_text(GROUP "/cgroup.procs", "0"), 0);
    file_pages(argv[1]);
    advised();
    others();
    close(fd);
    CHECK_EQ(put_text(ROOT "/cgroup.procs", "0"), 0);
    for (int i = 0; i < 200 && rmdir(GROUP) != 0; i++)
        usleep(10000);
    CHECK(access(GROUP, F_OK) != 0);
    CHECK_EQ(umount(ROOT), 0);
    return check_done("refault");
}
