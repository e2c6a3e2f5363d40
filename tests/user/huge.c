/* SPDX-License-Identifier: MIT */
/*
 * Transparent huge pages as programs see them: contents whatever happens to a page's size, and what
 * smaps, pagemap and vmstat say about it.  Where the machine has none there is nothing to check.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW   (PROT_READ | PROT_WRITE)
#define DIR  "/sys/kernel/mm/transparent_hugepage/"
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static size_t huge, page; /* bytes */

/* ---- what the system says ---------------------------------------------------------------- */

static int
read_text(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, bytes - 1);

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static int
write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

    if (fd >= 0)
        close(fd);
    return n == (ssize_t)strlen(text);
}

/* The number behind @name of the region that holds @address, in bytes where it is in kB. */
static long
smaps(const void *address, const char *name)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512], unit[8];
    unsigned long start, end;
    int inside = 0;
    long value = -1;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL && value < 0) {
        size_t length = strlen(name);
        long number;

        if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
            inside = (uintptr_t)address >= start && (uintptr_t)address < end;
        } else if (inside && strncmp(line, name, length) == 0 && line[length] == ':') {
            int fields = sscanf(line + length + 1, "%ld %7s", &number, unit);

            value = fields == 2 ? number * 1024 : number;
        }
    }
    if (file != NULL)
        fclose(file);
    return value;
}

static long
vmstat(const char *name)
{
    return line_of("/proc/vmstat", name);
}

static uint64_t
pagemap(const char *at)
{
    uint64_t word = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);

    CHECK_EQ(pread(fd, &word, 8, (off_t)((uintptr_t)at / page * 8)), 8);
    close(fd);
    return word;
}

/* ---- regions ------------------------------------------------------------------------------- */

struct block {
    char *all; /* what to unmap */
    size_t bytes;
    char *at; /* aligned, @count huge pages */
};

/* A region of its own with @count aligned huge pages; page by page between two without rights. */
static struct block
block_map(size_t count, int advice)
{
    struct block block = {.bytes = (count + 1) * huge};

    block.all = mmap(NULL, block.bytes, PROT_NONE, ANON, -1, 0);
    CHECK(block.all != MAP_FAILED);
    block.at = (char *)(((uintptr_t)block.all + huge - 1) / huge * huge);
    CHECK_EQ(mprotect(block.at, count * huge, RW), 0);
    CHECK_EQ(madvise(block.at, count * huge, advice), 0);
    return block;
}

static void
block_unmap(struct block *block)
{
    CHECK_EQ(munmap(block->all, block->bytes), 0);
}

/* Each page's first word is its number plus @base. */
static void
fill(char *at, size_t bytes, size_t base)
{
    for (size_t i = 0; i < bytes / page; i++)
        *(size_t *)(at + i * page) = base + i;
}

static int
filled(const char *at, size_t bytes, size_t base)
{
    for (size_t i = 0; i < bytes / page; i++) {
        if (*(const volatile size_t *)(at + i * page) != base + i ||
            *(const volatile size_t *)(at + i * page + 64) != 0)
            return 0;
    }
    return 1;
}

static int
is_zero(const char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += sizeof(long)) {
        if (*(const volatile long *)(at + i) != 0)
            return 0;
    }
    return 1;
}

/* vmstat counts huge pages, meminfo KiB. On Linux they may come and go between two looks. */
static int
counts_agree(void)
{
    for (int tries = 0; tries < 100; tries++) {
        if ((unsigned long)vmstat("nr_anon_transparent_hugepages") * (huge >> 10) ==
            (unsigned long)line_of("/proc/meminfo", "AnonHugePages"))
            return 1;
    }
    return 0;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void
test_fault(void)
{
    struct block block = block_map(2, MADV_HUGEPAGE);
    long faults = vmstat("thp_fault_alloc");

    CHECK_EQ(smaps(block.at, "THPeligible"), 1);
    CHECK(is_zero(block.at, huge));
    CHECK_EQ(smaps(block.at, "Rss"), 0); /* the huge frame of zeroes is nobody's */
    CHECK_EQ(smaps(block.at, "AnonHugePages"), 0);
    block.at[5 * page + 1] = 1;
    CHECK_EQ(smaps(block.at, "AnonHugePages"), (long)huge);
    CHECK_EQ(smaps(block.at, "Rss"), (long)huge);
    CHECK_EQ(smaps(block.at, "Pss"), (long)huge);
    CHECK_EQ(smaps(block.at, "Private_Dirty"), (long)huge);
    CHECK(vmstat("thp_fault_alloc") > faults);
    CHECK(vmstat("nr_anon_transparent_hugepages") > 0);
    CHECK(counts_agree());
    CHECK_EQ(block.at[5 * page + 1], 1);
    block.at[5 * page + 1] = 0;
    CHECK(is_zero(block.at, 2 * huge));
    block_unmap(&block);
}

static void
test_advice(void)
{
    struct block block = block_map(2, MADV_NOHUGEPAGE);

    block.at[0] = 1;
    CHECK_EQ(smaps(block.at, "THPeligible"), 0);
    CHECK_EQ(smaps(block.at, "AnonHugePages"), 0);
    CHECK_EQ(smaps(block.at, "Rss"), (long)page);
    CHECK_ERRNO(madvise(block.at, huge, MADV_COLLAPSE), EINVAL);
    block_unmap(&block);

    CHECK_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
    block = block_map(2, MADV_HUGEPAGE);
    block.at[0] = 1;
    CHECK_EQ(smaps(block.at, "THPeligible"), 0);
    CHECK_EQ(smaps(block.at, "AnonHugePages"), 0);
    CHECK_EQ(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
    block.at[huge] = 1;
    CHECK_EQ(smaps(block.at, "AnonHugePages"), (long)huge);
    CHECK_ERRNO(prctl(PR_SET_THP_DISABLE, 1, 1, 0, 0), EINVAL);
    CHECK_ERRNO(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0), EINVAL);
    block_unmap(&block);
}

static void
test_pagemap(void)
{
    struct block block = block_map(1, MADV_HUGEPAGE);

    fill(block.at, huge, 1);
    CHECK_EQ(smaps(block.at, "AnonHugePages"), (long)huge);
    uint64_t first = pagemap(block.at);
    uint64_t frame = first & (((uint64_t)1 << 55) - 1);

    CHECK(first >> 63 == 1);
    for (size_t i = 0; i < huge / page; i++) {
        uint64_t word = pagemap(block.at + i * page);

        if (word >> 63 != 1 || (word & (((uint64_t)1 << 55) - 1)) != (frame == 0 ? 0 : frame + i)) {
            CHECK(!"frames of a huge page lie side by side");
            break;
        }
    }
    if (frame != 0) /* for root alone */
        CHECK_EQ(frame % (huge / page), 0);
    block_unmap(&block);
}

static void
test_pieces(void)
{
    struct block block = block_map(4, MADV_HUGEPAGE);
    long splits = vmstat("thp_split_pmd");

    fill(block.at, 4 * huge, 7);
    CHECK_EQ(smaps(block.at, "AnonHugePages"), (long)(4 * huge));
    CHECK_EQ(mprotect(block.at + 3 * page, page, PROT_READ), 0);
    CHECK(vmstat("thp_split_pmd") > splits);
    CHECK_EQ(smaps(block.at + 4 * page, "AnonHugePages"), (long)(3 * huge));
    CHECK_EQ(madvise(block.at + huge + page, huge - page, MADV_DONTNEED), 0);
    CHECK_EQ(munmap(block.at + 2 * huge, page), 0);
    CHECK(filled(block.at, huge + page, 7));
    CHECK(is_zero(block.at + huge + page, huge - page));
    CHECK(filled(block.at + 2 * huge + page, 2 * huge - page, 7 + (2 * huge + page) / page));
    CHECK_EQ(smaps(block.at + 3 * huge, "AnonHugePages"), (long)huge);
    CHECK_EQ(madvise(block.at + 3 * huge, huge, MADV_DONTNEED), 0);
    CHECK_EQ(smaps(block.at + 3 * huge, "AnonHugePages"), 0);
    block_unmap(&block);
}

static void
test_fork(void)
{
    struct block block = block_map(2, MADV_HUGEPAGE);
    int status;

    fill(block.at, 2 * huge, 1);
    pid_t child = fork();

    if (child == 0) {
        int good = filled(block.at, 2 * huge, 1) &&
                   smaps(block.at, "AnonHugePages") == (long)(2 * huge) &&
                   smaps(block.at, "Pss") == (long)huge;

        fill(block.at, page * 3, 1000);
        good = good && filled(block.at, page * 3, 1000) &&
               filled(block.at + 3 * page, 2 * huge - 3 * page, 4) &&
               smaps(block.at, "Rss") == (long)(2 * huge);
        pid_t grandchild = fork();

        if (grandchild == 0) {
            good = filled(block.at + 3 * page, 2 * huge - 3 * page, 4);
            fill(block.at + huge, huge, 5000);
            _exit(good && filled(block.at + huge, huge, 5000) ? 0 : 1);
        }
        good = waitpid(grandchild, &status, 0) == grandchild && status == 0 && good;
        good = filled(block.at + 3 * page, 2 * huge - 3 * page, 4) && good;
        _exit(good ? 0 : 1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(filled(block.at, 2 * huge, 1));
    fill(block.at, 2 * huge, 9);
    CHECK(filled(block.at, 2 * huge, 9));
    CHECK_EQ(smaps(block.at, "Private_Dirty"), (long)(2 * huge));
    block_unmap(&block);
}

static void
test_move(void)
{
    struct block from = block_map(2, MADV_HUGEPAGE);
    struct block to = block_map(3, MADV_HUGEPAGE);

    fill(from.at, 2 * huge, 1);
    char *at = mremap(from.at, huge, huge, MREMAP_MAYMOVE | MREMAP_FIXED, to.at + page);

    CHECK(at == to.at + page);
    CHECK(filled(at, huge, 1));
    at = mremap(from.at + huge, huge, huge, MREMAP_MAYMOVE | MREMAP_FIXED, to.at + 2 * huge);
    CHECK(at == to.at + 2 * huge);
    CHECK(filled(at, huge, 1 + huge / page));
    CHECK(smaps(at, "AnonHugePages") >= (long)huge); /* aligned alike: it moved whole */
    block_unmap(&to);
    block_unmap(&from);
}

static void
test_collapse(void)
{
    struct block block = block_map(2, MADV_NOHUGEPAGE);

    for (size_t i = 0; i < 2 * huge / page; i += 3)
        *(size_t *)(block.at + i * page) = i;
    CHECK_EQ(smaps(block.at, "AnonHugePages"), 0);
    CHECK_EQ(madvise(block.at, 2 * huge, MADV_HUGEPAGE), 0);
    CHECK_EQ(madvise(block.at, 2 * huge, MADV_COLLAPSE), 0);
    CHECK_EQ(smaps(block.at, "AnonHugePages"), (long)(2 * huge));
    CHECK_EQ(smaps(block.at, "Rss"), (long)(2 * huge));
    for (size_t i = 0; i < 2 * huge / page; i++) {
        if (*(size_t *)(block.at + i * page) != (i % 3 == 0 ? i : 0)) {
            CHECK(!"collapse keeps what was there");
            break;
        }
    }
    CHECK_EQ(madvise(block.at, 2 * huge, MADV_COLLAPSE), 0); /* they are huge already */
    CHECK_ERRNO(madvise(block.at + 1, huge, MADV_COLLAPSE), EINVAL);
    CHECK_EQ(munmap(block.at, huge), 0);
    CHECK_ERRNO(madvise(block.at, 2 * huge, MADV_COLLAPSE), ENOMEM);
    block_unmap(&block);
}

/* The thread in the background finds them, if we may tell it to hurry. */
static void
test_background(void)
{
    char before[32], pages[32];

    if (!read_text(DIR "khugepaged/scan_sleep_millisecs", before, sizeof(before)) ||
        !read_text(DIR "khugepaged/pages_to_scan", pages, sizeof(pages)) ||
        !write_text(DIR "khugepaged/scan_sleep_millisecs", "1")) {
        printf("khugepaged is not ours to steer\n");
        return;
    }
    CHECK(write_text(DIR "khugepaged/pages_to_scan", "100000"));
    CHECK(!write_text(DIR "khugepaged/max_ptes_none", "no number"));
    struct block block = block_map(1, MADV_NOHUGEPAGE);

    fill(block.at, huge / 2, 3);
    CHECK_EQ(madvise(block.at, huge, MADV_HUGEPAGE), 0);
    for (int tries = 0; tries < 3000 && smaps(block.at, "AnonHugePages") == 0; tries++)
        usleep(20000);
    CHECK_EQ(smaps(block.at, "AnonHugePages"), (long)huge);
    CHECK(filled(block.at, huge / 2, 3));
    CHECK(is_zero(block.at + huge / 2, huge / 2));
    CHECK(read_text(DIR "khugepaged/pages_collapsed", pages, sizeof(pages)) && atol(pages) > 0);
    block_unmap(&block);
    CHECK(write_text(DIR "khugepaged/scan_sleep_millisecs", before));
    CHECK(write_text(DIR "khugepaged/pages_to_scan", "4096"));
}

/* ---- shared memory ------------------------------------------------------------------------- */

/* @count huge pages of @fd (negative: shared anonymous memory), aligned alike. */
static struct block
shared_map(int fd, size_t count)
{
    struct block block = {.bytes = (count + 1) * huge};

    block.all = mmap(NULL, block.bytes, PROT_NONE, ANON, -1, 0);
    CHECK(block.all != MAP_FAILED);
    block.at = (char *)(((uintptr_t)block.all + huge - 1) / huge * huge);
    CHECK(mmap(block.at, count * huge, RW, MAP_FIXED | MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0),
               fd, 0) == block.at);
    return block;
}

/* A child sees what the parent wrote, through leaves of its own, and writes back. */
static void
check_shared_with_child(const struct block *block)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        int good = filled(block->at, huge, 1);

        good = good && smaps(block->at, "ShmemPmdMapped") >= (long)huge;
        fill(block->at, huge, 2);
        _exit(good ? 0 : 1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(filled(block->at, huge, 2));
}

static void
test_shared_anonymous(void)
{
    long before = vmstat("thp_file_alloc"), mapped = vmstat("thp_file_mapped");
    struct block block = shared_map(-1, 2);

    CHECK_EQ(madvise(block.at, huge, MADV_HUGEPAGE), 0);
    fill(block.at, 2 * huge, 1);
    CHECK_EQ(smaps(block.at, "ShmemPmdMapped"), (long)huge);
    CHECK_EQ(smaps(block.at, "AnonHugePages"), 0);
    CHECK_EQ(smaps(block.at, "THPeligible"), 1);
    CHECK_EQ(smaps(block.at + huge, "ShmemPmdMapped"), 0);
    CHECK(vmstat("thp_file_alloc") > before);
    CHECK(vmstat("thp_file_mapped") > mapped);
    CHECK(vmstat("nr_shmem_hugepages") >= 1);
    CHECK(line_of("/proc/meminfo", "ShmemHugePages") >= (long)(huge / 1024));
    CHECK(line_of("/proc/meminfo", "ShmemPmdMapped") >= (long)(huge / 1024));
    check_shared_with_child(&block);
    CHECK_EQ(mprotect(block.at + page, page, PROT_READ), 0);
    CHECK(filled(block.at, huge, 2));
    block_unmap(&block);
}

static void
test_shared_file(void)
{
    int fd = memfd_create("huge", 0);

    CHECK_EQ(ftruncate(fd, (off_t)(2 * huge)), 0);
    struct block block = shared_map(fd, 2);

    CHECK_EQ(madvise(block.at, 2 * huge, MADV_NOHUGEPAGE), 0);
    fill(block.at, huge + huge / 2, 7);
    CHECK_EQ(smaps(block.at, "ShmemPmdMapped"), 0);
    CHECK_EQ(madvise(block.at, 2 * huge, MADV_HUGEPAGE), 0);
    CHECK_EQ(madvise(block.at, 2 * huge, MADV_COLLAPSE), 0);
    CHECK_EQ(smaps(block.at, "ShmemPmdMapped"), (long)(2 * huge));
    CHECK(filled(block.at, huge + huge / 2, 7));
    CHECK(is_zero(block.at + huge + huge / 2, huge / 2));

    /* A hole in one, and an end in the other. */
    CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)page, (off_t)page),
             0);
    CHECK_EQ(ftruncate(fd, (off_t)(huge + 3 * page)), 0);
    CHECK(filled(block.at, page, 7));
    CHECK(is_zero(block.at + page, page));
    CHECK(filled(block.at + 2 * page, huge + page, 9));
    size_t word = 0;

    CHECK_EQ(pread(fd, &word, sizeof(word), (off_t)(huge + 2 * page)), (ssize_t)sizeof(word));
    CHECK_EQ(word, 7 + huge / page + 2);
    close(fd);
    block_unmap(&block);
}

/* A mount has a word of its own, and a place without a hint suits its files. */
static void
test_mount(void)
{
    char directory[] = "/tmp/huge-XXXXXX", path[64];

    if (mkdtemp(directory) == NULL || mount("none", directory, "tmpfs", 0, "huge=always") != 0)
        return; /* not ours to mount */
    CHECK_ERRNO(mount("none", directory, "tmpfs", 0, "huge=sometimes"), EINVAL);
    snprintf(path, sizeof(path), "%s/file", directory);
    int fd = open(path, O_RDWR | O_CREAT, 0600);

    CHECK_EQ(ftruncate(fd, (off_t)(2 * huge)), 0);
    char *at = mmap(NULL, 2 * huge, RW, MAP_SHARED, fd, 0);

    CHECK(at != MAP_FAILED && (uintptr_t)at % huge == 0);
    fill(at, 2 * huge, 5);
    CHECK_EQ(smaps(at, "ShmemPmdMapped"), (long)(2 * huge));
    CHECK_EQ(munmap(at, 2 * huge), 0);
    close(fd);
    CHECK_EQ(umount(directory), 0);
    rmdir(directory);
}

/* If we may say so: shmem_enabled, which is `never` at first. */
static void
test_shared(void)
{
    char text[128];

    CHECK(read_text(DIR "shmem_enabled", text, sizeof(text)));
    if (strstr(text, "[never]") == NULL || !write_text(DIR "shmem_enabled", "advise\n")) {
        printf("shmem_enabled is not ours to steer\n");
        return;
    }
    CHECK(read_text(DIR "shmem_enabled", text, sizeof(text)));
    CHECK(strcmp(text, "always within_size [advise] never deny force\n") == 0);
    CHECK(!write_text(DIR "shmem_enabled", "sometimes"));
    test_shared_anonymous();
    CHECK(write_text(DIR "shmem_enabled", "never"));
    test_shared_file();
    test_mount();
}

static void
test_words(void)
{
    char text[128];

    CHECK(read_text(DIR "enabled", text, sizeof(text)));
    CHECK(strcmp(text, "[always] madvise never\n") == 0 ||
          strcmp(text, "always [madvise] never\n") == 0);
    if (!write_text(DIR "enabled", "madvise\n"))
        return; /* not ours to steer */
    CHECK(read_text(DIR "enabled", text, sizeof(text)));
    CHECK(strcmp(text, "always [madvise] never\n") == 0);
    CHECK(!write_text(DIR "enabled", "sometimes"));
    struct block block = block_map(1, MADV_NORMAL);

    block.at[0] = 1;
    CHECK_EQ(smaps(block.at, "AnonHugePages"), 0);
    CHECK(write_text(DIR "enabled", "always"));
    CHECK_EQ(madvise(block.at, huge, MADV_DONTNEED), 0);
    block.at[0] = 1;
    CHECK_EQ(smaps(block.at, "THPeligible"), 1);
    block_unmap(&block);
}

int
main(void)
{
    char text[64];

    page = (size_t)sysconf(_SC_PAGESIZE);
    if (!read_text(DIR "hpage_pmd_size", text, sizeof(text)) ||
        !read_text(DIR "enabled", text + 32, 32) || strstr(text + 32, "[never]") != NULL) {
        printf("no transparent huge pages here\n");
        return check_done("huge");
    }
    huge = (size_t)atol(text);
    CHECK(huge > page);
    if ((size_t)line_of("/proc/meminfo", "MemAvailable") < 8 * (huge >> 10)) {
        printf("too little memory for some huge pages\n");
        return check_done("huge");
    }
    test_words();
    test_fault();
    test_advice();
    test_pagemap();
    test_pieces();
    test_fork();
    test_move();
    test_collapse();
    test_background();
    test_shared();
    return check_done("huge");
}
