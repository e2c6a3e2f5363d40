/* SPDX-License-Identifier: MIT */
/*
 * Swap as programs see it.  Runs as root, on Linux too:
 *
 *   swap DISK [PAGES]   DISK (or a file) has mkswap's header and nobody uses it; PAGES: of the working set, of
 *                       which about half should fit into memory
 *   swap fill PAGES     only write and read so many, in whatever group this is
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "pages.h"

static const char *disk;

static char *
map(size_t pages)
{
    char *memory =
        mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

/* ---- The calls ----------------------------------------------------------------------- */

static void
test_errors(void)
{
    static char odd[4096];

    CHECK_ERRNO(swapon(disk, 0x80000), EINVAL);
    CHECK_ERRNO(swapon("/nothing", 0), ENOENT);
    CHECK_ERRNO(swapon("/dev/null", 0), EINVAL);
    CHECK_ERRNO(swapon((const char *)1, 0), EFAULT);
    CHECK_ERRNO(swapoff((const char *)1), EFAULT);
    CHECK_ERRNO(swapoff("/nothing"), ENOENT);
    CHECK_ERRNO(swapoff(disk), EINVAL);
    pid_t child = fork();

    if (child == 0) {
        if (setuid(1000) != 0)
            _exit(9);
        CHECK_ERRNO(swapon(disk, 0), EPERM);
        CHECK_ERRNO(swapoff(disk), EPERM);
        _exit(check_failures);
    }
    int status;

    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);

    /* A header that is none, that reaches too far, or whose bad pages make no sense. */
    int fd = open(disk, O_RDWR);
    uint32_t word;

    CHECK_EQ(pread(fd, odd, sizeof(odd), 0), sizeof(odd));
    static const struct {
        off_t at;
        uint32_t word;
    } damages[] = {{1024, 2}, {1028, 0}, {1028, 0xfffffff0}, {1032, 5000000}, {1032, 1}};

    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        CHECK_EQ(pread(fd, &word, 4, damages[i].at), 4);
        CHECK_EQ(pwrite(fd, &damages[i].word, 4, damages[i].at), 4);
        CHECK_ERRNO(swapon(disk, 0), EINVAL);
        CHECK_EQ(pwrite(fd, &word, 4, damages[i].at), 4);
    }
    close(fd);
}

static void
test_on(void)
{
    struct sysinfo info;
    char line[200] = "";
    struct stat status;
    FILE *file;

    CHECK_EQ(stat(disk, &status), 0);
    CHECK_EQ(swapon(disk, SWAP_FLAG_PREFER | 7), 0);
    CHECK_ERRNO(swapon(disk, 0), EBUSY);
    CHECK_EQ(sysinfo(&info), 0);
    CHECK(info.totalswap != 0 && info.freeswap == info.totalswap);
    CHECK_EQ(line_of("/proc/meminfo", "SwapTotal"), info.totalswap / 1024 * info.mem_unit);
    file = fopen("/proc/swaps", "r");
    CHECK(fgets(line, sizeof(line), file) != NULL && fgets(line, sizeof(line), file) != NULL);
    CHECK(strstr(line, disk) == line &&
          strstr(line, S_ISREG(status.st_mode) ? " file\t\t" : " partition\t") != NULL &&
          strstr(line, "\t7\n") != NULL);
    fclose(file);
}

/* ---- Pages that were sent away by hand --------------------------------------------------- */

enum { FEW = 64 };

static void
test_page_out(void)
{
    char *memory = map(FEW), *moved;
    unsigned char resident[FEW];
    long out = line_of("/proc/vmstat", "pswpout");

    for (size_t i = 0; i < FEW; i++)
        fill(memory, i, 1);
    CHECK_EQ(madvise(memory, FEW * page, MADV_PAGEOUT), 0);
    CHECK_EQ(mincore(memory, FEW * page, resident), 0);
    CHECK_EQ(resident[0] & 1, 0);
    CHECK_EQ(resident[FEW - 1] & 1, 0);
    CHECK(line_of("/proc/vmstat", "pswpout") >= out + FEW);
    CHECK(line_of("/proc/self/status", "VmSwap") >= (long)(FEW * page / 1024));
    long swap = line_of("/proc/self/smaps_rollup", "Swap");
    CHECK(swap >= (long)(FEW * page / 1024));
    CHECK_EQ(line_of("/proc/self/smaps_rollup", "SwapPss"), swap);
    pid_t child = fork();

    if (child == 0) {
        pause();
        _exit(0);
    }
    CHECK_EQ(line_of("/proc/self/smaps_rollup", "Swap"), swap);
    CHECK_EQ(line_of("/proc/self/smaps_rollup", "SwapPss"), swap / 2); /* each has its share */
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK_EQ(line_of("/proc/self/smaps_rollup", "SwapPss"), swap);
    CHECK_EQ(pagemap_of(memory) >> 62, 1); /* swapped, not present */
    CHECK((pagemap_of(memory) & 31) == (pagemap_of(memory + page) & 31));
    CHECK(pagemap_of(memory) != pagemap_of(memory + page));

    CHECK_EQ(madvise(memory, 8 * page, MADV_WILLNEED), 0);
    CHECK_EQ(madvise(memory + 8 * page, 8 * page, MADV_DONTNEED), 0);
    CHECK_EQ(memory[8 * page], 0);
    CHECK_EQ(mlock(memory + 16 * page, 8 * page), 0);
    CHECK_EQ(mincore(memory + 16 * page, 8 * page, resident), 0);
    CHECK_EQ(resident[0] & resident[7] & 1, 1);
    CHECK_EQ(munlock(memory + 16 * page, 8 * page), 0);
    moved = mremap(memory + 24 * page, 8 * page, 16 * page, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED);
    uint64_t first = value(24, 0, 1);

    CHECK(memcmp(moved, &first, sizeof(first)) == 0);
    CHECK_EQ(mprotect(memory + 32 * page, 8 * page, PROT_READ), 0);
    CHECK(holds(memory, 33, 1));
    for (size_t i = 0; i < FEW; i++) {
        if (i < 8 || i >= 32 || (i >= 16 && i < 24))
            CHECK(holds(memory, i, 1));
    }
    munmap(moved, 16 * page);
    munmap(memory, 24 * page);
    munmap(memory + 32 * page, (FEW - 32) * page);
}

/* ---- More than there is memory ------------------------------------------------------------ */

static void
test_working_set(size_t pages)
{
    char *memory = map(pages);
    struct sysinfo info;
    int status;

    CHECK(memory != NULL);
    for (size_t i = 0; i < pages; i++)
        fill(memory, i, 1);
    CHECK_EQ(sysinfo(&info), 0);
    CHECK(info.freeswap < info.totalswap);
    CHECK_EQ(wrong(memory, pages, 1), 0);
    for (size_t i = 0; i < pages; i += 3)
        fill(memory, i, 2);
    pid_t child = fork();

    if (child == 0) { /* a tree of three that each write something else */
        pid_t second = fork();
        unsigned round = second == 0 ? 4 : 3;

        for (size_t i = 0; i < pages; i += 7)
            fill(memory, i, round);
        for (size_t i = 0; i < pages; i++) {
            if (!holds(memory, i, i % 7 == 0 ? round : i % 3 == 0 ? 2 : 1))
                _exit(1);
        }
        if (second != 0 && (waitpid(second, &status, 0) != second || status != 0))
            _exit(2);
        _exit(0);
    }
    for (size_t i = 1; i < pages; i += 5)
        fill(memory, i, 5);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    size_t bad = 0;

    for (size_t i = 0; i < pages; i++)
        bad += !holds(memory, i, i % 5 == 1 ? 5 : i % 3 == 0 ? 2 : 1);
    CHECK_EQ(bad, 0);
    munmap(memory, pages * page);
}

static void
test_off(void)
{
    char *memory = map(FEW);
    struct sysinfo info;

    for (size_t i = 0; i < FEW; i++)
        fill(memory, i, 9);
    CHECK_EQ(madvise(memory, FEW * page, MADV_PAGEOUT), 0);
    CHECK_EQ(swapoff(disk), 0);
    CHECK_EQ(wrong(memory, FEW, 9), 0);
    CHECK_EQ(sysinfo(&info), 0);
    CHECK_EQ(info.totalswap, 0);
    CHECK_EQ(line_of("/proc/self/status", "VmSwap"), 0);
    CHECK_ERRNO(swapoff(disk), EINVAL);
    munmap(memory, FEW * page);
}

int
main(int count, char **arguments)
{
    page = (size_t)check_page();
    if (count > 2 && strcmp(arguments[1], "fill") == 0) {
        size_t pages = (size_t)atol(arguments[2]);
        char *memory = map(pages);

        for (size_t i = 0; i < pages; i++)
            fill(memory, i, 1);
        return wrong(memory, pages, 1) != 0;
    }
    disk = arguments[1];
    test_errors();
    test_on();
    test_page_out();
    if (count > 2)
        test_working_set((size_t)atol(arguments[2]));
    test_off();
    printf("swap: %d checks, %d failed\n", check_count, check_failures);
    return check_failures != 0;
}
