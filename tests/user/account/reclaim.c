/* SPDX-License-Identifier: MIT */
/*
 * Whose pages go when some must: vm.swappiness between kinds, memory.low and memory.min between groups.
 *
 *     reclaim DIRECTORY    on a disk
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "../cgroup.h"

#define RW (PROT_READ | PROT_WRITE)

static long page;

/* A file of @bytes, clean and in the cache. */
static int
make_file(const char *directory, const char *name, long bytes)
{
    static char block[65536];
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    memset(block, 'x', sizeof(block));
    for (long at = 0; at < bytes; at += (long)sizeof(block))
        CHECK_EQ(write(fd, block, sizeof(block)), sizeof(block));
    CHECK_EQ(fsync(fd), 0);
    CHECK_EQ(unlink(path), 0);
    return fd;
}

/* ---- swappiness -------------------------------------------------------------------------- */

/* 2 MiB go; of these so many 200ths of memory that was freed lazily. */
static void
weigh(unsigned swappiness)
{
    char text[16];
    long lazy = line_of("/proc/vmstat", "pglazyfreed"), file = line_in("g", "memory.stat", "file");
    long went = 2 * MIB * swappiness / 200;

    snprintf(text, sizeof(text), "%u", swappiness);
    CHECK_EQ(put_text("/proc/sys/vm/swappiness", text), 0);
    CHECK_EQ(put_in("g", "memory.reclaim", "2M"), 0);
    lazy = (line_of("/proc/vmstat", "pglazyfreed") - lazy) * page;
    file -= line_in("g", "memory.stat", "file");
    CHECK(labs(lazy - went) <= 16 * page);
    CHECK(labs(file - (2 * MIB - went)) <= 16 * page);
    if (labs(lazy - went) > 16 * page || labs(file - (2 * MIB - went)) > 16 * page)
        printf("swappiness %u: lazy %ld, file %ld\n", swappiness, lazy, file);
}

static void
kinds(const char *directory)
{
    int fd = make_file(directory, "kinds", 12 * MIB);
    char *at = mmap(NULL, (size_t)(12 * MIB), RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK_EQ(madvise(at, (size_t)(12 * MIB), MADV_NOHUGEPAGE), 0);
    memset(at, 1, (size_t)(12 * MIB));
    CHECK_EQ(madvise(at, (size_t)(12 * MIB), MADV_FREE), 0);
    weigh(0);
    weigh(200);
    weigh(100);
    weigh(60);
    CHECK_EQ(put_text("/proc/sys/vm/swappiness", "60"), 0);
    munmap(at, (size_t)(12 * MIB));
    close(fd);
}

/* ---- protection ----------------------------------------------------------------------------- */

static int kept[2];

static void
fill_kept(const char *which)
{
    static char block[65536];
    int fd = kept[which[0] - 'a'];

    memset(block, 'y', sizeof(block));
    for (long at = 0; at < 4 * MIB; at += (long)sizeof(block))
        CHECK_EQ(pwrite(fd, block, sizeof(block), at), sizeof(block));
    CHECK_EQ(fsync(fd), 0);
}

static long
file_of(const char *group)
{
    return line_in(group, "memory.stat", "file");
}

static void
protection(const char *directory)
{
    kept[0] = make_file(directory, "a", 0);
    kept[1] = make_file(directory, "b", 0);
    group_make("p");
    CHECK_EQ(put_in("p", "cgroup.subtree_control", "+memory"), 0);
    group_make("p/a");
    group_make("p/b");
    run_in("p/a", fill_kept, "a");
    run_in("p/b", fill_kept, "b");
    CHECK(file_of("p/a") >= 4 * MIB && file_of("p/b") >= 4 * MIB);
    CHECK_EQ(put_in("p", "memory.low", "max"), 0);
    CHECK_EQ(put_in("p/a", "memory.low", "16M"), 0);

    /* First whoever is not protected. */
    CHECK_EQ(put_in("p", "memory.reclaim", "2M"), 0);
    CHECK(file_of("p/a") >= 4 * MIB);
    CHECK(file_of("p/b") <= 2 * MIB + 64 * page);
    CHECK_EQ(line_in("p/a", "memory.events", "low"), 0);

    /* Then those below their `low`, which are told. */
    CHECK_EQ(put_in("p", "memory.reclaim", "4M"), 0);
    CHECK(file_of("p/b") <= 64 * page);
    CHECK(file_of("p/a") <= 2 * MIB + 64 * page);
    CHECK(line_in("p/a", "memory.events", "low") >= 1);
    CHECK(line_in("p", "memory.events", "low") >= 1);
    CHECK_EQ(line_in("p", "memory.events.local", "low"), 0);
    CHECK_EQ(line_in("p/b", "memory.events", "low"), 0);

    /* Nobody touches what is below `min`; dropping caches does. */
    long before = file_of("p/a");

    CHECK_EQ(put_in("p", "memory.min", "max"), 0);
    CHECK_EQ(put_in("p/a", "memory.min", "16M"), 0);
    CHECK_EQ(put_in("p", "memory.reclaim", "1M"), EAGAIN);
    CHECK_EQ(file_of("p/a"), before);
    CHECK_EQ(put_text("/proc/sys/vm/drop_caches", "1"), 0);
    CHECK(file_of("p/a") <= 64 * page);
    close(kept[0]);
    close(kept[1]);
    group_remove("p/a");
    group_remove("p/b");
    group_remove("p");
}

/* ---- pressure -------------------------------------------------------------------------------- */

static long
stalled(const char *which)
{
    FILE *file = fopen("/proc/pressure/memory", "r");
    char line[256];
    long value = -1;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, which, strlen(which)) == 0)
            (void)sscanf(strstr(line, "total="), "total=%ld", &value);
    }
    if (file != NULL)
        fclose(file);
    return value;
}

/* So little is to be had that what was freed lazily must go: whoever needs memory waits for it. */
static void
pressure(void)
{
    long kept = 48 * MIB, step = 24 * MIB, some = stalled("some");
    char *lazy = mmap(NULL, (size_t)kept, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long old, freed = line_of("/proc/vmstat", "pglazyfreed");
    long stolen = line_of("/proc/vmstat", "pgsteal_anon");
    char text[32];
    FILE *file = fopen("/proc/sys/vm/min_free_kbytes", "r");

    CHECK(file != NULL && fscanf(file, "%ld", &old) == 1);
    fclose(file);
    CHECK_EQ(madvise(lazy, (size_t)kept, MADV_NOHUGEPAGE), 0);
    memset(lazy, 1, (size_t)kept);
    CHECK_EQ(madvise(lazy, (size_t)kept, MADV_FREE), 0);
    char *more = mmap(NULL, (size_t)step, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* A zone keeps at most half of itself: so most of it is in use. */
    long hog = line_of("/proc/vmstat", "nr_free_pages") * page - 64 * MIB;
    char *used =
        hog <= 0 ? NULL
                 : mmap(NULL, (size_t)hog, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    CHECK_EQ(madvise(more, (size_t)step, MADV_NOHUGEPAGE), 0);
    /* All but a part of what is about to be used. */
    snprintf(text, sizeof(text), "%ld",
             line_of("/proc/vmstat", "nr_free_pages") * page / 1024 - 8 * 1024);
    CHECK_EQ(put_text("/proc/sys/vm/min_free_kbytes", text), 0);
    memset(more, 2, (size_t)step);
    snprintf(text, sizeof(text), "%ld", old);
    CHECK_EQ(put_text("/proc/sys/vm/min_free_kbytes", text), 0);
    CHECK((line_of("/proc/vmstat", "pglazyfreed") - freed) * page >= 8 * MIB);
    CHECK(line_of("/proc/vmstat", "pgsteal_anon") - stolen >=
          line_of("/proc/vmstat", "pglazyfreed") - freed);
    CHECK(line_of("/proc/vmstat", "pgsteal_kswapd") + line_of("/proc/vmstat", "pgsteal_direct") >
          0);
    CHECK(stalled("some") > some);
    CHECK(stalled("full") <= stalled("some"));
    for (long at = 0; at < step; at += page)
        CHECK(more[at] == 2);
    munmap(lazy, (size_t)kept);
    munmap(more, (size_t)step);
    if (used != NULL)
        munmap(used, (size_t)hog);
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
    group_make("g");
    run_in("g", kinds, argv[1]);
    group_remove("g");
    protection(argv[1]);
    CHECK_EQ(umount(ROOT), 0);
    pressure();
    return check_done("reclaim");
}
