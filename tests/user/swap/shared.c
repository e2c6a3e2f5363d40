/* SPDX-License-Identifier: MIT */
/*
 * Swap of shared memory as programs see it.  Runs as root, on Linux too:
 *
 *   shared DISK DIRECTORY PAGES   DISK has mkswap's header and nobody uses it; DIRECTORY is on a tmpfs; PAGES: of the
 *                                 working set, of which about half should fit into memory
 *   shared fill PAGES             only write and read so many of a memfd, in whatever group this is
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "pages.h"

static const char *directory;

/* ---- Three kinds of shared memory -------------------------------------------------------- */

enum kind { SEGMENT, MEMFD, TMPFS, KINDS };
static const char *const names[] = {"segment", "memfd", "tmpfs"};

struct shared {
    enum kind kind;
    size_t pages;
    char *memory;
    int fd, id;
};

static struct shared
shared_make(enum kind kind, size_t pages)
{
    struct shared made = {.kind = kind, .pages = pages, .fd = -1, .id = -1};
    char path[200];

    if (kind == SEGMENT) {
        made.id = shmget(IPC_PRIVATE, pages * page, IPC_CREAT | 0600);
        made.memory = shmat(made.id, NULL, 0);
        CHECK(made.id >= 0 && made.memory != (void *)-1);
        return made;
    }
    snprintf(path, sizeof(path), "%s/file", directory);
    made.fd = kind == MEMFD ? memfd_create("swap", 0) : open(path, O_RDWR | O_CREAT, 0600);
    CHECK_EQ(ftruncate(made.fd, (off_t)(pages * page)), 0);
    made.memory = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd, 0);
    CHECK(made.memory != MAP_FAILED);
    return made;
}

static void
shared_end(struct shared *shared)
{
    char path[200];

    if (shared->kind == SEGMENT) {
        CHECK_EQ(shmctl(shared->id, IPC_RMID, NULL), 0);
        CHECK_EQ(shmdt(shared->memory), 0);
        return;
    }
    munmap(shared->memory, shared->pages * page);
    close(shared->fd);
    snprintf(path, sizeof(path), "%s/file", directory);
    if (shared->kind == TMPFS)
        CHECK_EQ(unlink(path), 0);
}

/* ---- Pages that were sent away by hand ----------------------------------------------------- */

enum { FEW = 64 };

static long
swapped_segments(void)
{
    struct shm_info info;

    CHECK(shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info) >= 0);
    return (long)info.shm_swp;
}

static size_t
resident(const char *memory, size_t pages)
{
    unsigned char in[FEW];
    size_t count = 0;

    CHECK_EQ(mincore((void *)memory, pages * page, in), 0);
    for (size_t i = 0; i < pages; i++)
        count += in[i] & 1;
    return count;
}

/* What counts pages does not notice where they are. */
static void
test_sizes(const struct shared *shared)
{
    struct stat stat;
    struct statfs statfs;

    if (shared->fd < 0)
        return;
    CHECK_EQ(fstat(shared->fd, &stat), 0);
    CHECK_EQ(stat.st_blocks, FEW * page / 512);
    CHECK_EQ(lseek(shared->fd, 0, SEEK_HOLE), FEW * page);
    CHECK_EQ(lseek(shared->fd, 5, SEEK_DATA), 5);
    if (shared->kind != TMPFS)
        return;
    CHECK_EQ(ftruncate(shared->fd, FEW * page), 0);
    CHECK_EQ(fstatfs(shared->fd, &statfs), 0);
    CHECK(statfs.f_blocks - statfs.f_bfree >= FEW);
}

/* Calls on a file bring its pages back, or let them go. */
static void
test_calls(struct shared *shared)
{
    static char buffer[1 << 16];
    char *memory = shared->memory;
    int to = memfd_create("copy", 0);
    off_t at = (off_t)(20 * page);

    CHECK_EQ(pread(shared->fd, buffer, page, (off_t)(10 * page)), page);
    CHECK_EQ(memcmp(buffer, memory + 10 * page, page), 0);
    memset(buffer, 7, sizeof(buffer));
    CHECK_EQ(pwrite(shared->fd, buffer, 8, (off_t)(11 * page)), 8);
    CHECK(memory[11 * page + 7] == 7 && memory[11 * page + 8] != 7);
    CHECK_EQ(sendfile(to, shared->fd, &at, 2 * page), 2 * page);
    CHECK_EQ(pread(to, buffer, page, (off_t)page), page);
    CHECK_EQ(memcmp(buffer, memory + 21 * page, page), 0);
    close(to);
    CHECK_EQ(fallocate(shared->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(30 * page),
                       (off_t)(2 * page)),
             0);
    CHECK_EQ(memory[30 * page], 0);
    CHECK_EQ(madvise(memory, FEW * page, MADV_PAGEOUT), 0);
    CHECK_EQ(ftruncate(shared->fd, (off_t)(40 * page + 8)), 0);
    CHECK_EQ(ftruncate(shared->fd, (off_t)(FEW * page)), 0);
    CHECK(*(uint64_t *)(memory + 40 * page) == value(40, 0, 1) &&
          *(uint64_t *)(memory + 40 * page + 8) == 0 && memory[50 * page] == 0);
}

static void
test_page_out(enum kind kind)
{
    struct shared shared = shared_make(kind, FEW);
    char *memory = shared.memory;
    long out = line_of("/proc/vmstat", "pswpout"), segments = swapped_segments();
    long kilobytes = (long)(FEW * page / 1024);

    for (size_t i = 0; i < FEW; i++)
        fill(memory, i, 1);
    long shmem = line_of("/proc/meminfo", "Shmem");
    long swap = line_of("/proc/self/smaps_rollup", "Swap");
    long share = line_of("/proc/self/smaps_rollup", "SwapPss");

    CHECK_EQ(madvise(memory, FEW * page, MADV_PAGEOUT), 0);
    CHECK_EQ(resident(memory, FEW), 0);
    CHECK(line_of("/proc/vmstat", "pswpout") >= out + FEW);
    CHECK(line_of("/proc/meminfo", "Shmem") <= shmem - kilobytes / 2);
    CHECK_EQ(line_of("/proc/self/smaps_rollup", "Swap"), swap + kilobytes);
    CHECK_EQ(line_of("/proc/self/smaps_rollup", "SwapPss"), share);
    CHECK_EQ(swapped_segments(), segments + (kind == SEGMENT ? FEW : 0));
    CHECK_EQ(pagemap_of(memory) << 9,
             0); /* as if nobody had touched it; the program counts as written */
    test_sizes(&shared);
    CHECK_EQ(madvise(memory, 8 * page, MADV_WILLNEED), 0);
    CHECK_EQ(mlock(memory + 16 * page, 8 * page), 0);
    CHECK_EQ(resident(memory + 16 * page, 8), 8);
    CHECK_EQ(munlock(memory + 16 * page, 8 * page), 0);
    CHECK_EQ(wrong(memory, FEW, 1), 0);
    if (kind == SEGMENT) {
        CHECK_EQ(shmctl(shared.id, SHM_LOCK, NULL), 0);
        CHECK_EQ(madvise(memory, FEW * page, MADV_PAGEOUT), 0);
        CHECK_EQ(resident(memory, FEW), FEW);
        CHECK_EQ(shmctl(shared.id, SHM_UNLOCK, NULL), 0);
    }
    CHECK_EQ(madvise(memory, FEW * page, MADV_PAGEOUT), 0);
    if (shared.fd >= 0)
        test_calls(&shared);
    CHECK_EQ(madvise(memory, FEW * page, MADV_PAGEOUT), 0);
    shared_end(&shared);
}

/* ---- More than there is memory ------------------------------------------------------------ */

static size_t
all_wrong(const struct shared *all, unsigned odd)
{
    size_t bad = 0;

    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t i = 0; i < all[kind].pages; i++)
            bad += !holds(all[kind].memory, i, i % 2 != 0 ? odd : 1);
    }
    return bad;
}

/* One process writes the odd pages, another one all others; each finds both. */
static void
test_working_set(size_t pages)
{
    struct shared all[KINDS];
    int status;

    for (int kind = 0; kind < KINDS; kind++)
        all[kind] = shared_make(kind, pages / KINDS);
    pid_t child = fork();

    if (child == 0) {
        for (int kind = 0; kind < KINDS; kind++) {
            for (size_t i = 1; i < all[kind].pages; i += 2)
                fill(all[kind].memory, i, 1);
        }
        _exit(0);
    }
    for (int kind = KINDS; kind-- > 0;) {
        for (size_t i = 0; i < all[kind].pages; i += 2)
            fill(all[kind].memory, i, 1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(line_of("/proc/vmstat", "pswpout") > (long)pages / 4);
    CHECK_EQ(all_wrong(all, 1), 0);
    child = fork();
    if (child == 0) {
        for (int kind = 0; kind < KINDS; kind++) {
            for (size_t i = 1; i < all[kind].pages; i += 2)
                fill(all[kind].memory, i, 2);
        }
        _exit(all_wrong(all, 2) != 0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(all_wrong(all, 2), 0);
    for (int kind = 0; kind < KINDS; kind++)
        shared_end(&all[kind]);
}

static void
test_off(const char *disk)
{
    struct shared all[KINDS];

    for (int kind = 0; kind < KINDS; kind++) {
        all[kind] = shared_make(kind, FEW);
        for (size_t i = 0; i < FEW; i++)
            fill(all[kind].memory, i, 1);
        CHECK_EQ(madvise(all[kind].memory, FEW * page, MADV_PAGEOUT), 0);
    }
    CHECK_EQ(swapoff(disk), 0);
    CHECK_EQ(line_of("/proc/meminfo", "SwapTotal"), 0);
    CHECK_EQ(swapped_segments(), 0);
    CHECK_EQ(all_wrong(all, 1), 0);
    for (int kind = 0; kind < KINDS; kind++)
        shared_end(&all[kind]);
}

/* ---- In a group ----------------------------------------------------------------------------- */

static int
fill_in_group(size_t pages)
{
    struct shared shared = shared_make(MEMFD, pages);

    for (size_t i = 0; i < pages; i++)
        fill(shared.memory, i, 1);
    long charged = 0;
    FILE *file = fopen("/tmp/g/a/memory.swap.current", "r");

    if (file == NULL || fscanf(file, "%ld", &charged) != 1 || charged <= 0)
        return 2;
    fclose(file);
    return wrong(shared.memory, pages, 1) != 0;
}

int
main(int count, char **arguments)
{
    page = (size_t)check_page();
    if (count > 2 && strcmp(arguments[1], "fill") == 0)
        return fill_in_group((size_t)atol(arguments[2]));
    if (count < 4)
        return 2;
    directory = arguments[2];
    CHECK_EQ(swapon(arguments[1], 0), 0);
    for (int kind = 0; kind < KINDS; kind++) {
        int before = check_failures;

        test_page_out(kind);
        if (check_failures > before)
            printf("... of a %s\n", names[kind]);
    }
    test_working_set((size_t)atol(arguments[3]));
    test_off(arguments[1]);
    printf("shared: %d checks, %d failed\n", check_count, check_failures);
    return check_failures != 0;
}
