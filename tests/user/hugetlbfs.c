/* SPDX-License-Identifier: MIT */
/*
 * A mounted hugetlbfs: its options, its files, and what they take from the pool.  Where
 * mounting is not allowed or the pool cannot be filled, there is nothing to test.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define RW        (PROT_READ | PROT_WRITE)
#define POOL      6
#define DIRECTORY "/tmp/hugetlbfs-test"
#define FILE_NAME DIRECTORY "/a"

static size_t huge; /* bytes of a page */

static long
number_of(const char *path, const char *format)
{
    char line[256];
    FILE *file = fopen(path, "r");
    long value = -1;

    while (file != NULL && value < 0 && fgets(line, sizeof(line), file) != NULL)
        (void)!sscanf(line, format, &value);
    if (file != NULL)
        fclose(file);
    return value;
}

static int
pool_set(long value)
{
    FILE *file = fopen("/proc/sys/vm/nr_hugepages", "w");
    int done = file != NULL && fprintf(file, "%ld\n", value) > 0;

    if (file != NULL)
        done &= fclose(file) == 0;
    return done && number_of("/proc/sys/vm/nr_hugepages", "%ld") == value;
}

static void
expect_pool(int line, long free, long reserved)
{
    long is_free = number_of("/proc/meminfo", "HugePages_Free: %ld");
    long is_reserved = number_of("/proc/meminfo", "HugePages_Rsvd: %ld");

    check_count++;
    if (is_free != free || is_reserved != reserved) {
        check_failures++;
        printf("FAIL %s:%d: %ld pages free, %ld promised; expected %ld, %ld\n", __FILE__, line,
               is_free, is_reserved, free, reserved);
    }
}
#define EXPECT_POOL(...) expect_pool(__LINE__, __VA_ARGS__)

static int
mount_with(const char *options)
{
    return mount("none", DIRECTORY, "hugetlbfs", 0, options);
}

/* The line of /proc/mounts has @text. */
static int
mounted_says(const char *text)
{
    char line[512];
    FILE *file = fopen("/proc/mounts", "r");
    int found = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        found |= strstr(line, " " DIRECTORY " hugetlbfs ") != NULL && strstr(line, text) != NULL;
    if (file != NULL)
        fclose(file);
    return found;
}

/* ---- tests ---------------------------------------------------------------------------- */

static void
test_options(void)
{
    struct stat stat_;

    CHECK_ERRNO(mount_with("pagesize=3M"), EINVAL);
    CHECK_ERRNO(mount_with("pagesize=128K"), EINVAL);
    CHECK_ERRNO(mount_with("nonsense"), EINVAL);
    CHECK_ERRNO(mount_with("mode=9"), EINVAL);
    CHECK_ERRNO(mount_with("size=1G,min_size=2G"), EINVAL);
    CHECK_ERRNO(mount_with("min_size=64G"), ENOMEM);
    CHECK_EQ(mount_with("mode=1770,uid=5,gid=6"), 0);
    CHECK_EQ(stat(DIRECTORY, &stat_), 0);
    CHECK_EQ(stat_.st_mode & 07777, 01770);
    CHECK_EQ(stat_.st_uid, 5);
    CHECK_EQ(stat_.st_gid, 6);
    CHECK(mounted_says("mode=1770"));
    CHECK_EQ(umount(DIRECTORY), 0);
}

static void
test_file(void)
{
    struct statfs statfs_;
    struct stat stat_;
    char byte = 1;

    CHECK_EQ(mount_with(NULL), 0);
    CHECK_EQ(statfs(DIRECTORY, &statfs_), 0);
    CHECK_EQ((uint32_t)statfs_.f_type, 0x958458f6u);
    CHECK_EQ(statfs_.f_bsize, huge);
    CHECK_EQ(statfs_.f_blocks, 0);
    CHECK(mounted_says("pagesize="));

    int fd = open(FILE_NAME, O_CREAT | O_RDWR | O_EXCL, 0640);
    CHECK(fd >= 0);
    CHECK_ERRNO(write(fd, &byte, 1), EINVAL);
    CHECK_ERRNO(ftruncate(fd, 4096), EINVAL);
    char *at = mmap(NULL, 2 * huge, RW, MAP_SHARED, fd, 0); /* makes it that long */
    CHECK(at != MAP_FAILED);
    EXPECT_POOL(POOL, 2);
    CHECK_EQ(fstat(fd, &stat_), 0);
    CHECK_EQ(stat_.st_size, 2 * huge);
    CHECK_EQ(stat_.st_blksize, huge);
    CHECK_EQ(stat_.st_mode, S_IFREG | 0640);
    at[huge] = 7;
    CHECK_EQ(munmap(at, 2 * huge), 0);
    close(fd);
    EXPECT_POOL(POOL - 1, 1);

    /* Its name keeps it, for others too; MAP_HUGETLB says nothing new. */
    pid_t pid = fork();
    int status;
    if (pid == 0) {
        int again = open(FILE_NAME, O_RDWR);
        char *there = mmap(NULL, huge, RW, MAP_SHARED | MAP_HUGETLB, again, (off_t)huge);

        _exit(there != MAP_FAILED && there[0] == 7 && (there[1] = 8) ? 0 : 1);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    fd = open(FILE_NAME, O_RDWR);
    CHECK_EQ(pread(fd, &byte, 1, (off_t)huge + 1), 1);
    CHECK_EQ(byte, 8);
    CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)huge, (off_t)huge),
             0);
    EXPECT_POOL(POOL, 1);
    CHECK_EQ(fallocate(fd, 0, 0, (off_t)(3 * huge)), 0);
    EXPECT_POOL(POOL - 3, 0);
    CHECK_ERRNO(umount(DIRECTORY), EBUSY);
    CHECK_EQ(mkdir(DIRECTORY "/d", 0700), 0);
    CHECK_EQ(rename(FILE_NAME, DIRECTORY "/d/b"), 0);
    CHECK_EQ(unlink(DIRECTORY "/d/b"), 0);
    EXPECT_POOL(POOL - 3, 0); /* open */
    close(fd);
    EXPECT_POOL(POOL, 0);
    CHECK_EQ(rmdir(DIRECTORY "/d"), 0);
    CHECK_EQ(umount(DIRECTORY), 0);
}

static void
test_limits(void)
{
    struct statfs statfs_;
    char options[96];

    snprintf(options, sizeof(options), "size=%zuK,min_size=%zuK,nr_inodes=3", 3 * huge >> 10,
             2 * huge >> 10);
    CHECK_EQ(mount_with(options), 0);
    EXPECT_POOL(POOL, 2);
    CHECK_EQ(statfs(DIRECTORY, &statfs_), 0);
    CHECK_EQ(statfs_.f_blocks, 3);
    CHECK_EQ(statfs_.f_bfree, 3);
    CHECK_EQ(statfs_.f_files, 3);

    int fd = open(FILE_NAME, O_CREAT | O_RDWR, 0600);
    CHECK(fd >= 0);
    CHECK_ERRNO((long)mmap(NULL, 4 * huge, RW, MAP_SHARED, fd, 0), ENOMEM);
    EXPECT_POOL(POOL, 2);
    char *at = mmap(NULL, 3 * huge, RW, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    EXPECT_POOL(POOL, 3);
    CHECK_EQ(statfs(DIRECTORY, &statfs_), 0);
    CHECK_EQ(statfs_.f_bfree, 0);
    CHECK_EQ(statfs_.f_ffree, 1);
    at[0] = at[huge] = at[2 * huge] = 1;
    EXPECT_POOL(POOL - 3, 0);
    int second = open(DIRECTORY "/b", O_CREAT | O_RDWR, 0600);
    CHECK(second >= 0);
    CHECK_ERRNO(open(DIRECTORY "/c", O_CREAT | O_RDWR, 0600), ENOSPC);
    CHECK_ERRNO(fallocate(second, 0, 0, (off_t)huge), ENOSPC);
    CHECK_EQ(munmap(at, 3 * huge), 0);
    CHECK_EQ(ftruncate(fd, (off_t)huge), 0);
    EXPECT_POOL(POOL - 1, 1);
    CHECK_EQ(fallocate(second, 0, 0, (off_t)huge), 0);
    EXPECT_POOL(POOL - 2, 0);
    close(fd);
    close(second);
    CHECK_EQ(unlink(FILE_NAME), 0);
    CHECK_EQ(unlink(DIRECTORY "/b"), 0);
    EXPECT_POOL(POOL, 2);
    CHECK_EQ(umount(DIRECTORY), 0);
    EXPECT_POOL(POOL, 0);

    CHECK_EQ(mount_with("size=50%"), 0);
    CHECK_EQ(statfs(DIRECTORY, &statfs_), 0);
    CHECK_EQ(statfs_.f_blocks, POOL / 2);
    CHECK_EQ(umount(DIRECTORY), 0);
}

/* A file of each size that the machine has pools for, from a mount of that size. */
static void
test_sizes(void)
{
    DIR *dir = opendir("/sys/kernel/mm/hugepages");
    struct dirent *entry;
    unsigned long kb;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct statfs statfs_;
        char options[64];

        if (sscanf(entry->d_name, "hugepages-%lukB", &kb) != 1)
            continue;
        snprintf(options, sizeof(options), "pagesize=%luK", kb);
        CHECK_EQ(mount_with(options), 0);
        CHECK_EQ(statfs(DIRECTORY, &statfs_), 0);
        CHECK_EQ(statfs_.f_bsize, kb << 10);
        CHECK_EQ(umount(DIRECTORY), 0);
    }
    if (dir != NULL)
        closedir(dir);
}

int
main(void)
{
    long before = number_of("/proc/sys/vm/nr_hugepages", "%ld");

    huge = (size_t)number_of("/proc/meminfo", "Hugepagesize: %ld") << 10;
    (void)mkdir("/tmp", 01777);
    if (before < 0 || (long)huge <= 0 || !pool_set(POOL) || mkdir(DIRECTORY, 0700) != 0 ||
        mount_with(NULL) != 0) {
        printf("hugetlbfs: nothing can be mounted, or no pool of %d pages\n", POOL);
        (void)!pool_set(before);
        (void)rmdir(DIRECTORY);
        return 0;
    }
    CHECK_EQ(umount(DIRECTORY), 0);
    test_options();
    test_file();
    test_limits();
    test_sizes();
    CHECK_EQ(rmdir(DIRECTORY), 0);
    CHECK(pool_set(before));
    return check_done("hugetlbfs");
}
