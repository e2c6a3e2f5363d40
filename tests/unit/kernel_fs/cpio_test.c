/* SPDX-License-Identifier: MIT */
/*
 * The initramfs reader against honest, cut, and hostile archives.
 *
 * Every archive is handed over in a block of exactly its size, so that the address sanitizer sees
 * any byte read past the end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "kernel/fs/cpio.h"

#define ARCHIVE_MAX 4096

static char archive[ARCHIVE_MAX];
static size_t archive_bytes;

static void
archive_reset(void)
{
    memset(archive, 0, sizeof archive);
    archive_bytes = 0;
}

static void
archive_align(void)
{
    archive_bytes = (archive_bytes + 3) & ~(size_t)3;
}

static void
archive_add_sized(const char *name, unsigned name_bytes, unsigned mode, const char *data,
                  unsigned data_bytes)
{
    archive_bytes += (size_t)sprintf(
        archive + archive_bytes, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", 7,
        mode, 1, 2, 1, 0x600d, data_bytes, 0, 3, 4, 5, name_bytes, 0);
    memcpy(archive + archive_bytes, name, name_bytes);
    archive_bytes += name_bytes;
    archive_align();
    memcpy(archive + archive_bytes, data, strlen(data));
    archive_bytes += strlen(data);
    archive_align();
}

static void
archive_add(const char *name, unsigned mode, const char *data)
{
    archive_add_sized(name, (unsigned)strlen(name) + 1, mode, data, (unsigned)strlen(data));
}

/* Read @bytes of the archive from a block of that very size. */
static enum cpio_result
read_all(size_t bytes, unsigned *out_entries)
{
    uint8_t *copy = malloc(bytes + (bytes == 0));
    struct cpio_reader reader;
    struct cpio_entry entry;
    enum cpio_result result;

    memcpy(copy, archive, bytes);
    cpio_init(&reader, copy, bytes);
    *out_entries = 0;
    do {
        result = cpio_next(&reader, &entry);
        if (result == CPIO_ENTRY) {
            const uint8_t *name = (const uint8_t *)entry.name;

            ++*out_entries;
            EXPECT_TRUE(name >= copy && name + entry.name_bytes < copy + bytes);
            EXPECT_EQ(strlen(entry.name), entry.name_bytes);
            EXPECT_TRUE(entry.data >= copy && entry.data + entry.data_bytes <= copy + bytes);
        }
        EXPECT_LE(reader.at, bytes);
    } while (result == CPIO_ENTRY || result == CPIO_MARK);
    free(copy);
    return result;
}

TEST(cpio, members_come_in_order_with_their_fields)
{
    struct cpio_reader reader;
    struct cpio_entry entry;

    archive_reset();
    archive_add("bin/sh", 0100755, "hello");
    archive_add("dev", 0040755, "");
    archive_add("TRAILER!!!", 0, "");
    cpio_init(&reader, archive, archive_bytes);
    ASSERT_EQ(cpio_next(&reader, &entry), CPIO_ENTRY);
    EXPECT_STR(entry.name, "bin/sh");
    EXPECT_EQ(entry.mode, 0100755u);
    EXPECT_EQ(entry.data_bytes, 5u);
    EXPECT_MEM(entry.data, "hello", 5);
    EXPECT_EQ(entry.inode, 7u);
    EXPECT_EQ(entry.uid, 1u);
    EXPECT_EQ(entry.gid, 2u);
    EXPECT_EQ(entry.mtime, 0x600du);
    EXPECT_EQ(entry.device_minor, 3u);
    EXPECT_EQ(entry.rdev_major, 4u);
    EXPECT_EQ(entry.rdev_minor, 5u);
    ASSERT_EQ(cpio_next(&reader, &entry), CPIO_ENTRY);
    EXPECT_STR(entry.name, "dev");
    EXPECT_EQ(cpio_next(&reader, &entry), CPIO_MARK);
    EXPECT_EQ(cpio_next(&reader, &entry), CPIO_END);
    EXPECT_EQ(cpio_next(&reader, &entry), CPIO_END);
}

TEST(cpio, archives_in_a_row_with_zeros_between)
{
    unsigned entries;

    archive_reset();
    archive_add("a", 0100644, "1");
    archive_add("TRAILER!!!", 0, "");
    archive_bytes = 1024;
    archive_add("b", 0100644, "2");
    archive_add("TRAILER!!!", 0, "");
    archive_bytes += 512;
    EXPECT_EQ(read_all(archive_bytes, &entries), CPIO_END);
    EXPECT_EQ(entries, 2u);
}

TEST(cpio, empty_and_absent_archives_end_at_once)
{
    struct cpio_reader reader;
    struct cpio_entry entry;
    unsigned entries;

    archive_reset();
    EXPECT_EQ(read_all(0, &entries), CPIO_END);
    EXPECT_EQ(read_all(512, &entries), CPIO_END);
    cpio_init(&reader, NULL, 512);
    EXPECT_EQ(cpio_next(&reader, &entry), CPIO_END);
}

/* Whatever the length at which it was cut: whole members before it, then damage or the end. */
TEST(cpio, every_cut_is_found)
{
    unsigned entries;

    archive_reset();
    archive_add("first", 0100644, "some bytes of data");
    size_t first_end = archive_bytes;
    archive_add("second", 0100644, "more");
    size_t second_end = archive_bytes;
    for (size_t cut = 1; cut <= second_end; cut++) {
        enum cpio_result result = read_all(cut, &entries);

        if (cut == first_end || cut == second_end) {
            EXPECT_EQ(result, CPIO_END);
        }
        EXPECT_LE(entries, 2u);
        if (cut < 110 + 6) {
            EXPECT_EQ(result, CPIO_DAMAGED);
            EXPECT_EQ(entries, 0u);
        }
    }
}

TEST(cpio, lengths_beyond_the_archive_are_damage)
{
    static const unsigned lengths[] = {19, 4096, 0x7fffffff, 0x80000000u, 0xfffffffcu, 0xffffffffu};
    unsigned entries;

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        archive_reset();
        archive_add_sized("name", 5, 0100644, "0123456789", lengths[i]);
        EXPECT_EQ(read_all(archive_bytes, &entries), CPIO_DAMAGED);
        EXPECT_EQ(entries, 0u);
    }
}

TEST(cpio, names_must_be_terminated_once_and_not_empty)
{
    unsigned entries;

    archive_reset();
    archive_add_sized("", 1, 0100644, "", 0);
    EXPECT_EQ(read_all(archive_bytes, &entries), CPIO_DAMAGED);
    archive_reset();
    archive_add_sized("abcd", 4, 0100644, "", 0);
    EXPECT_EQ(read_all(archive_bytes, &entries), CPIO_DAMAGED);
    archive_reset();
    archive_add_sized("a\0b", 4, 0100644, "", 0);
    EXPECT_EQ(read_all(archive_bytes, &entries), CPIO_DAMAGED);
    archive_reset();
    archive_add_sized("a", 0, 0100644, "", 0);
    EXPECT_EQ(read_all(archive_bytes, &entries), CPIO_DAMAGED);
}

TEST(cpio, magic_and_digits_are_checked)
{
    unsigned entries;

    for (size_t at = 0; at < 110; at++) {
        archive_reset();
        archive_add("name", 0100644, "data");
        archive[at] = 'g';
        EXPECT_EQ(read_all(archive_bytes, &entries), CPIO_DAMAGED);
    }
}

/* Random damage: any answer, but never outside the archive (checked in read_all and by ASan). */
TEST(cpio, random_damage_stays_inside)
{
    uint64_t state = test_seed();
    unsigned entries;

    for (unsigned round = 0; round < 20000; round++) {
        archive_reset();
        archive_add("first", 0100644, "some bytes of data");
        archive_add("second/name", 0120777, "target");
        archive_add("TRAILER!!!", 0, "");
        for (unsigned flips = (unsigned)(test_random(&state) % 6); flips > 0; flips--) {
            size_t at = test_random(&state) % archive_bytes;

            archive[at] = test_random(&state) & 1 ? (char)test_random(&state)
                                                  : "0123456789abcdefF"[test_random(&state) % 17];
        }
        read_all(test_random(&state) % (archive_bytes + 1), &entries);
        EXPECT_LE(entries, 4u);
    }
}
