/* SPDX-License-Identifier: MIT */
/*
 * Swapping to a file.  Runs as root, on Linux too:
 *
 *   file DIRECTORY      on a file system on a disk, which is mounted there, and of which nothing else is in use
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../check.h"

enum { PAGES = 600, FEW = 500 };

static size_t page;

/* Pages of what @value says, or of holes where it is 0; @value 2: with a header in front. */
static void
make(const char *name, size_t pages, int value)
{
    int fd = open(name, O_CREAT | O_TRUNC | O_RDWR, 0700);
    char *bytes = calloc(1, page);
    uint32_t header[] = {1, (uint32_t)pages - 1, 0};

    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, (off_t)(pages * page)), 0);
    for (size_t i = 0; value != 0 && i < pages; i++)
        CHECK_EQ(pwrite(fd, bytes, page, (off_t)(i * page)), page);
    if (value == 2 || value == 0) {
        CHECK_EQ(pwrite(fd, header, sizeof(header), 1024), sizeof(header));
        CHECK_EQ(pwrite(fd, "SWAPSPACE2", 10, (off_t)page - 10), 10);
    }
    close(fd);
    free(bytes);
}

/* Two files that grow in turn: neither lies in one piece. */
static void
make_pieces(const char *name, const char *other)
{
    int one = open(name, O_CREAT | O_TRUNC | O_RDWR, 0700);
    int two = open(other, O_CREAT | O_TRUNC | O_RDWR, 0600);
    char *bytes = malloc(page);

    memset(bytes, 'x', page);
    for (size_t i = 0; i < PAGES; i++) {
        size_t pieces = i % 5 == 0 ? page / 512 : 1;

        for (size_t piece = 0; piece < pieces; piece++)
            CHECK_EQ(write(one, bytes, page / pieces), page / pieces);
        CHECK_EQ(write(two, bytes, page), page);
        if (i % 8 == 0)
            fsync(one);
    }
    uint32_t header[] = {1, PAGES - 1, 0};

    CHECK_EQ(pwrite(one, header, sizeof(header), 1024), sizeof(header));
    CHECK_EQ(pwrite(one, "SWAPSPACE2", 10, (off_t)page - 10), 10);
    close(one);
    close(two);
    free(bytes);
}

static bool
is_all_x(const char *name)
{
    int fd = open(name, O_RDONLY);
    char *bytes = malloc(page);
    bool good = true;

    for (size_t i = 0; good && i < PAGES; i++) {
        good = read(fd, bytes, page) == (ssize_t)page;
        for (size_t at = 0; good && at < page; at++)
            good = bytes[at] == 'x';
    }
    close(fd);
    free(bytes);
    return good;
}

/* ---- What cannot be swapped to --------------------------------------------------------------- */

static void
test_refused(void)
{
    char path[64];

    make("none", 40, 1);
    CHECK_ERRNO(swapon("none", 0), EINVAL); /* no header */
    make("holes", 40, 0);
    CHECK_ERRNO(swapon("holes", 0), EINVAL);
    CHECK_ERRNO(swapon(".", 0), EISDIR);
    make("/dev/shm/swap", 40, 2);
    CHECK_ERRNO(swapon("/dev/shm/swap", 0), EINVAL);
    unlink("/dev/shm/swap");
    make("short", 40, 2);
    CHECK_EQ(truncate("short", (off_t)(39 * page)), 0);
    CHECK_ERRNO(swapon("short", 0), EINVAL);
    CHECK_EQ(truncate("short", 0), 0);
    CHECK_ERRNO(swapon("short", 0), EINVAL);
    make("gone", 40, 2);
    int fd = open("gone", O_RDONLY);

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    CHECK_EQ(unlink("gone"), 0);
    CHECK_ERRNO(swapon(path, 0), ENOENT);
    close(fd);
    CHECK_ERRNO(swapoff("none"), EINVAL);
    /* What was refused is a file like any other. */
    CHECK_EQ(truncate("none", 1), 0);
    CHECK_EQ(rename("none", "holes"), 0);
    CHECK_EQ(unlink("holes"), 0);
    CHECK_EQ(unlink("short"), 0);
}

/* ---- What cannot be done to it meanwhile ------------------------------------------------------- */

static void
test_busy(const char *directory)
{
    off_t size = (off_t)(PAGES * page), from = 0, to = 0;
    char path[300], buffer[16] = "";
    int fd = open("swap", O_RDWR), other;
    struct iovec vector = {buffer, sizeof(buffer)};

    make("plain", 2, 1);
    other = open("plain", O_RDWR);
    CHECK(fd >= 0 && other >= 0);
    CHECK_ERRNO(swapon("swap", 0), EBUSY);
    CHECK_ERRNO(write(fd, buffer, 1), ETXTBSY);
    CHECK_ERRNO(write(fd, buffer, 0), ETXTBSY);
    CHECK_ERRNO(pwrite(fd, buffer, 1, size), ETXTBSY);
    CHECK_ERRNO(writev(fd, &vector, 1), ETXTBSY);
    CHECK_ERRNO(sendfile(fd, other, NULL, 16), ETXTBSY);
    CHECK_ERRNO(syscall(SYS_copy_file_range, other, &from, fd, &to, 16, 0), ETXTBSY);
    CHECK_ERRNO(syscall(SYS_copy_file_range, fd, &from, other, &to, 16, 0), ETXTBSY);
    CHECK_ERRNO(fallocate(fd, 0, 0, 16), ETXTBSY);
    CHECK_ERRNO(fallocate(fd, 1, size, 16), ETXTBSY);
    CHECK_ERRNO(ftruncate(fd, 0), ETXTBSY);
    CHECK_ERRNO(ftruncate(fd, size), ETXTBSY);
    CHECK_ERRNO(truncate("swap", size - 1), ETXTBSY);
    CHECK_ERRNO(open("swap", O_WRONLY | O_TRUNC), ETXTBSY);
    CHECK_EQ(ftruncate(fd, size + 1), 0);
    CHECK_ERRNO(ftruncate(fd, size), ETXTBSY);
    CHECK_EQ(pread(fd, buffer, 10, (off_t)page - 10), 10);
    CHECK(memcmp(buffer, "SWAPSPACE2", 10) == 0);
    CHECK_ERRNO(unlink("swap"), EPERM);
    CHECK_ERRNO(rename("swap", "else"), EPERM);
    CHECK_ERRNO(rename("plain", "swap"), EPERM);
    CHECK_ERRNO(renameat2(AT_FDCWD, "plain", AT_FDCWD, "swap", RENAME_EXCHANGE), EPERM);
    CHECK_EQ(link("swap", "second"), 0);
    CHECK_ERRNO(unlink("second"), EPERM);
    CHECK(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED &&
          errno == ETXTBSY);
    char *window = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

    CHECK(window != MAP_FAILED && memcmp(window + page - 10, "SWAPSPACE2", 10) == 0);
    munmap(window, page);
    window = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(window != MAP_FAILED);
    munmap(window, page);
    CHECK_ERRNO(execl("swap", "swap", NULL), ETXTBSY);
    CHECK_EQ(chmod("swap", 0600), 0);
    close(fd);
    close(other);
    unlink("plain");
    snprintf(path, sizeof(path), "%s", directory);
    CHECK_EQ(chdir("/"), 0);
    CHECK_ERRNO(umount(path), EBUSY);
    CHECK(mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL) == -1 && errno == EBUSY);
    CHECK_EQ(chdir(directory), 0);
}

static void
test_listed(const char *directory)
{
    FILE *file = fopen("/proc/swaps", "r");
    char line[300] = "", path[300];

    snprintf(path, sizeof(path), "%s/swap ", directory);
    CHECK(fgets(line, sizeof(line), file) != NULL && fgets(line, sizeof(line), file) != NULL);
    CHECK(strncmp(line, path, strlen(path)) == 0);
    CHECK(strncmp(line + 40, "file\t\t", 6) == 0 && strstr(line, "\t9\n") != NULL);
    CHECK(fgets(line, sizeof(line), file) == NULL);
    fclose(file);
}

/* ---- What it is for ---------------------------------------------------------------------------- */

static void
test_pages(void)
{
    size_t words = page / sizeof(uint64_t), bad = 0;
    long out = line_of("/proc/vmstat", "pswpout");
    uint64_t *memory =
        mmap(NULL, FEW * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (int round = 1; round <= 3; round++) {
        for (size_t i = 0; i < FEW * words; i++)
            memory[i] = i * 0x9e3779b97f4a7c15ull + (uint64_t)round;
        CHECK_EQ(madvise(memory, FEW * page, MADV_PAGEOUT), 0);
        CHECK(line_of("/proc/self/status", "VmSwap") >= (long)(FEW * page / 1024) * 9 / 10);
        for (size_t i = FEW * words; i-- > 0;) /* backwards, so that little is read ahead */
            bad += memory[i] != i * 0x9e3779b97f4a7c15ull + (uint64_t)round;
    }
    CHECK_EQ(bad, 0);
    CHECK(line_of("/proc/vmstat", "pswpout") >= out + 3 * FEW * 9 / 10);
    CHECK_EQ(madvise(memory, FEW * page, MADV_PAGEOUT), 0);
    CHECK_EQ(swapoff("second"), 0); /* any of its names */
    for (size_t i = 0; i < FEW * words; i++)
        bad += memory[i] != i * 0x9e3779b97f4a7c15ull + 3;
    CHECK_EQ(bad, 0);
    munmap(memory, FEW * page);
}

int
main(int count, char **arguments)
{
    page = (size_t)check_page();
    if (count != 2 || chdir(arguments[1]) != 0)
        return 2;
    test_refused();
    make_pieces("swap", "neighbour");
    CHECK_EQ(swapon("swap", SWAP_FLAG_PREFER | 9), 0);
    test_listed(arguments[1]);
    test_busy(arguments[1]);
    test_pages();
    CHECK(is_all_x("neighbour"));
    CHECK_ERRNO(swapoff("swap"), EINVAL);
    CHECK_EQ(unlink("second"), 0);
    CHECK_EQ(truncate("swap", 0), 0);
    CHECK_EQ(unlink("swap"), 0);
    return check_done("swap file");
}
