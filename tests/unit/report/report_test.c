/* SPDX-License-Identifier: MIT */
/*
 * The texts, byte for byte where Linux's layout is fixed.  Expected lines were
 * written down from Linux 6.1 with the numbers of the test's own space put in.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <quire/report.h>

#include "harness.h"
#include "sim.h"

static char text[32768];

static struct qr_report
report_of(struct sim *sim)
{
    struct qr_report report = {
        .frames = sim_frames(sim),
        .heap = sim_heap(sim),
        .vm = sim_vm(sim),
    };

    return report;
}

#define WRITE(call)                                      \
    do {                                                 \
        struct qr_buffer_writer out;                     \
        qr_buffer_writer_init(&out, text, sizeof(text)); \
        struct qr_writer *writer = &out.writer;          \
        (void)writer;                                    \
        call;                                            \
        ASSERT_LT(out.length, sizeof(text));             \
    } while (0)

/* Four regions, of which some pages are touched. */
static struct sim *
boot_with_regions(void)
{
    struct sim *sim = sim_boot((struct sim_options){.frames = 1024});

    EXPECT_STATUS(sim_map(sim, 0, 3, SIM_W), QR_OK);
    EXPECT_STATUS(sim_map(sim, 4, 1, SIM_X), QR_OK);
    EXPECT_STATUS(sim_map_shared(sim, 8, 2, SIM_W), QR_OK);
    EXPECT_STATUS(sim_map(sim, 11, 1, SIM_N), QR_OK);
    sim_write(sim, 0, 1);
    sim_write(sim, 1, 2);
    sim_write(sim, 8, 3);
    return sim;
}

TEST(report, maps_is_linux_byte_for_byte)
{
    struct sim *sim = boot_with_regions();
    struct qr_report report = report_of(sim);

    WRITE(qr_report_maps(&report, sim_space(sim), &(qr_va){0}, &out));
    EXPECT_STR(text, "10000000-10003000 rw-p 00000000 00:00 0 \n"
                     "10004000-10005000 r-xp 00000000 00:00 0 \n"
                     "10008000-1000a000 rw-s 00000000 00:00 0                                  "
                     "/dev/zero (deleted)\n"
                     "1000b000-1000c000 ---p 00000000 00:00 0 \n");
    sim_shutdown(sim);
}

TEST(report, regions_piece_by_piece_are_the_whole)
{
    static char pieces[sizeof(text)], small[1024];
    struct sim *sim = boot_with_regions();
    struct qr_report report = report_of(sim);
    struct qr_buffer_writer piece;
    qr_va from = {0};
    unsigned count = 0;

    for (bool more = true; more; count++) {
        qr_buffer_writer_init(&piece, small, sizeof(small)); /* for one, not for two */
        more = qr_report_smaps(&report, sim_space(sim), &from, &piece);
        EXPECT_EQ(piece.length, strlen(small));
        strcat(pieces, small);
    }
    EXPECT_EQ(count, 4);
    WRITE(EXPECT_FALSE(qr_report_smaps(&report, sim_space(sim), &(qr_va){0}, &out)));
    EXPECT_STR(pieces, text);
    WRITE(EXPECT_FALSE(qr_report_smaps(&report, sim_space(sim), &from, &out)));
    EXPECT_STR(text, "");

    /* What is too long for the buffer is left for a larger one. */
    from = qr_va_of(0);
    qr_buffer_writer_init(&piece, small, 41);
    EXPECT_TRUE(qr_report_maps(&report, sim_space(sim), &from, &piece));
    EXPECT_STR(small, "");
    EXPECT_EQ(from.v, 0);
    qr_buffer_writer_init(&piece, small, 42);
    EXPECT_TRUE(qr_report_maps(&report, sim_space(sim), &from, &piece));
    EXPECT_STR(small, "10000000-10003000 rw-p 00000000 00:00 0 \n");

    /* What goes between two pieces is not in the second; what grows over its start is there whole. */
    ASSERT_STATUS(qr_space_unmap(sim_space(sim), sim_page(4), QR_PAGE_SIZE), QR_OK);
    EXPECT_STATUS(sim_map(sim, 3, 2, SIM_W), QR_OK);
    qr_buffer_writer_init(&piece, small, 50);
    EXPECT_TRUE(qr_report_maps(&report, sim_space(sim), &from, &piece));
    EXPECT_STR(small, "10000000-10005000 rw-p 00000000 00:00 0 \n");
    sim_shutdown(sim);
}

static void
describe(void *file, struct qr_report_file *out_file, struct qr_writer *name)
{
    *out_file = (struct qr_report_file){.device_major = 8, .device_minor = 1, .inode = 4711};
    qr_writer_printf(name, "/bin/%s", (const char *)file);
}

static void
no_reference(void *file)
{
    (void)file;
}

TEST(report, maps_names_files_with_device_inode_and_offset)
{
    struct sim *sim = sim_boot((struct sim_options){.frames = 1024});
    struct qr_report report = report_of(sim);
    static const struct qr_file_ops ops = {no_reference, no_reference};
    struct qr_object *object = NULL;
    struct qr_space *space = sim_space(sim);
    char name[] = "sh";
    qr_va va;

    qr_vm_set_file_ops(space->vm, &ops);
    report.describe_file = describe;
    ASSERT_STATUS(qr_object_create(sim_objects(sim), &qr_pager_memory, NULL, 1 << 20, &object),
                  QR_OK);
    const struct qr_map_request request = {
        .hint = sim_page(0),
        .bytes = 8192,
        .prot = QR_PROT_READ | QR_PROT_EXEC,
        .flags = QR_MAP_FIXED,
        .object = object,
        .object_offset = 0x3000,
        .file = name,
    };

    ASSERT_STATUS(qr_space_map(space, &request, &va), QR_OK);
    WRITE(qr_report_maps(&report, space, &(qr_va){0}, &out));
    EXPECT_STR(text, "10000000-10002000 r-xp 00003000 08:01 4711                               "
                     "/bin/sh\n");
    ASSERT_STATUS(qr_space_unmap(space, va, 8192), QR_OK);
    qr_object_put(object);
    sim_shutdown(sim);
}

/* The kB value of the first line that starts with @name after @from; -1: none. */
static long
kb_after(const char *from, const char *name)
{
    const char *line = strstr(from, name);
    long value = -1;

    if (line != NULL)
        (void)sscanf(line + strlen(name), ": %ld kB", &value);
    return value;
}

TEST(report, smaps_counts_what_was_touched)
{
    struct sim *sim = boot_with_regions();
    struct qr_report report = report_of(sim);

    WRITE(qr_report_smaps(&report, sim_space(sim), &(qr_va){0}, &out));
    const char *first = strstr(text, "10000000-");
    const char *shared = strstr(text, "10008000-");

    ASSERT_NOT_NULL(first);
    ASSERT_NOT_NULL(shared);
    EXPECT_EQ(kb_after(first, "Size"), 12);
    EXPECT_EQ(kb_after(first, "\nRss"), 8);
    EXPECT_EQ(kb_after(first, "\nPss"), 8);
    EXPECT_EQ(kb_after(first, "Private_Dirty"), 8);
    EXPECT_EQ(kb_after(first, "Anonymous"), 8);
    EXPECT_EQ(kb_after(shared, "\nRss"), 4);
    EXPECT_EQ(kb_after(shared, "Anonymous"), 0);
    EXPECT_NOT_NULL(strstr(first, "VmFlags: rd wr mr mw me "));

    /* A second space that shares the pages halves the proportional share. */
    struct qr_space *child = sim_fork(sim);

    WRITE(qr_report_smaps(&report, sim_space(sim), &(qr_va){0}, &out));
    EXPECT_EQ(kb_after(text, "\nPss"), 4);
    EXPECT_EQ(kb_after(text, "Shared_Dirty"), 8);
    WRITE(qr_report_smaps_rollup(&report, sim_space(sim), writer));
    EXPECT_EQ(kb_after(text, "\nRss"), 12);
    EXPECT_EQ(kb_after(text, "\nPss"), 8); /* the shared page is not copied by fork */
    EXPECT_NOT_NULL(strstr(text, "[rollup]\n"));
    sim_space_destroy(sim, child);
    sim_shutdown(sim);
}

TEST(report, what_is_forgotten_is_referenced_again_when_it_is_used)
{
    struct sim *sim = boot_with_regions();
    struct qr_report report = report_of(sim);

    WRITE(qr_report_smaps(&report, sim_space(sim), &(qr_va){0}, &out));
    EXPECT_EQ(kb_after(strstr(text, "10000000-"), "Referenced"), 8);
    EXPECT_EQ(kb_after(strstr(text, "10008000-"), "Referenced"), 4);
    qr_space_forget_references(sim_space(sim), QR_REFERENCES_ANON);
    WRITE(qr_report_smaps(&report, sim_space(sim), &(qr_va){0}, &out));
    EXPECT_EQ(kb_after(strstr(text, "10000000-"), "Referenced"), 0);
    EXPECT_EQ(kb_after(strstr(text, "10000000-"), "\nRss"), 8);
    EXPECT_EQ(kb_after(strstr(text, "10008000-"), "Referenced"), 4);
    qr_space_forget_references(sim_space(sim), QR_REFERENCES_FILE);
    sim_write(sim, 1, 7);
    WRITE(qr_report_smaps(&report, sim_space(sim), &(qr_va){0}, &out));
    EXPECT_EQ(kb_after(strstr(text, "10000000-"), "Referenced"), 4);
    EXPECT_EQ(kb_after(strstr(text, "10008000-"), "Referenced"), 0);

    size_t resident = qr_space_resident_pages(sim_space(sim));
    EXPECT_STATUS(qr_space_advise(sim_space(sim), sim_page(0), QR_PAGE_SIZE, QR_ADVICE_DONT_NEED),
                  QR_OK);
    EXPECT_EQ(qr_space_peak_pages(sim_space(sim)), resident);
    qr_space_reset_peak(sim_space(sim));
    EXPECT_EQ(qr_space_peak_pages(sim_space(sim)), resident - 1);
    sim_shutdown(sim);
}

TEST(report, statm_and_status_agree_with_the_space)
{
    struct sim *sim = boot_with_regions();
    unsigned size, resident, shared, code, lib, data, dirty;

    sim_space(sim)->code_pages = 1;
    WRITE(qr_report_statm(sim_space(sim), writer));
    ASSERT_EQ(sscanf(text, "%u %u %u %u %u %u %u\n", &size, &resident, &shared, &code, &lib, &data,
                     &dirty),
              7);
    EXPECT_EQ(size, 7u);
    EXPECT_EQ(resident, 3u);
    EXPECT_EQ(shared, 1u);
    EXPECT_EQ(code, 1u);
    WRITE(qr_report_status(sim_space(sim), writer));
    EXPECT_NOT_NULL(strstr(text, "VmSize:\t      28 kB\n"));
    EXPECT_NOT_NULL(strstr(text, "VmRSS:\t      12 kB\n"));
    EXPECT_NOT_NULL(strstr(text, "RssAnon:\t       8 kB\n"));
    EXPECT_NOT_NULL(strstr(text, "RssShmem:\t       4 kB\n"));
    sim_shutdown(sim);
}

#define WRITTEN ((uint64_t)1 << 55)

/* Whether pagemap says that page @page of @space was written. */
static bool
is_written(struct qr_space *space, size_t page)
{
    uint64_t word;

    qr_report_pagemap(space, (size_t)(sim_page(page).v >> QR_PAGE_SHIFT), 1, &word);
    return (word & WRITTEN) != 0;
}

/*
 * page     0    1    2
 *        [ W    W    W ]        pages 0 and 1 were written already
 */
TEST(report, pagemap_tells_what_was_written_since_it_was_asked)
{
    struct sim *sim = boot_with_regions();
    struct qr_space *space = sim_space(sim);

    EXPECT_TRUE(is_written(space, 0) && is_written(space, 2));
    qr_space_track_writes(space);
    EXPECT_FALSE(is_written(space, 0) || is_written(space, 1) || is_written(space, 2));
    EXPECT_FALSE(is_written(space, 8));
    EXPECT_EQ(sim_read(sim, 0), 1);
    EXPECT_FALSE(is_written(space, 0));
    sim_write(sim, 1, 2);
    sim_write(sim, 8, 2);
    EXPECT_TRUE(is_written(space, 1) && is_written(space, 8));
    EXPECT_FALSE(is_written(space, 0) || is_written(space, 2));
    sim_shutdown(sim);
}

TEST(report, no_call_hides_a_write_from_pagemap)
{
    struct sim *sim = boot_with_regions();
    struct qr_space *space = sim_space(sim);

    qr_space_track_writes(space);
    /* Rights that are given back are no way around the fault; a shared page read first neither. */
    EXPECT_STATUS(sim_protect(sim, 0, 2, SIM_R), QR_OK);
    EXPECT_STATUS(sim_protect(sim, 0, 2, SIM_W), QR_OK);
    EXPECT_EQ(sim_read(sim, 9), 0);
    EXPECT_FALSE(is_written(space, 0) || is_written(space, 9));
    sim_write(sim, 0, 3);
    sim_write(sim, 9, 3);
    EXPECT_TRUE(is_written(space, 0) && is_written(space, 9));
    /* A child inherits what is known of the pages. */
    struct qr_space *child = sim_fork(sim);

    sim_write(sim, 1, 5);
    EXPECT_TRUE(is_written(space, 1) && is_written(child, 0));
    EXPECT_FALSE(is_written(child, 1));
    sim_space_destroy(sim, child);
    /* Another mapping in an old place counts as written; so does all that it joins. */
    qr_space_track_writes(space);
    EXPECT_STATUS(sim_unmap(sim, 1, 2), QR_OK);
    EXPECT_FALSE(is_written(space, 0));
    EXPECT_STATUS(sim_map(sim, 1, 1, SIM_W), QR_OK);
    EXPECT_TRUE(is_written(space, 0) && is_written(space, 1));
    sim_shutdown(sim);
}

TEST(report, pagemap_names_the_frames)
{
    struct sim *sim = boot_with_regions();
    uint64_t words[12];
    struct sim_mapping mapping = sim_walk(sim, sim_space(sim)->tables.root_pa, sim_page(1));

    qr_report_pagemap(sim_space(sim), SIM_BASE / 4096, 12, words);
    EXPECT_EQ(words[1] & (((uint64_t)1 << 55) - 1), mapping.pa.v >> 12);
    EXPECT_EQ(words[1] >> 63, 1u);
    EXPECT_EQ(words[1] >> 61 & 1, 0u);
    EXPECT_EQ(words[1] >> 56 & 1, 1u);
    EXPECT_EQ(words[8] >> 61 & 1, 1u);
    EXPECT_EQ(words[2], WRITTEN); /* absent, in a region that nobody has asked about yet */
    EXPECT_EQ(words[3], 0u);
    /* Past the end of user addresses there is nothing, however many are asked for. */
    qr_report_pagemap(sim_space(sim), SIZE_MAX >> 12, 12, words);
    for (unsigned i = 0; i < 12; i++)
        EXPECT_EQ(words[i], 0u);
    sim_shutdown(sim);
}

/* Frame by frame: what pagemap leads to is mapped once, anonymous or of an object. */
TEST(report, frames_tell_who_maps_them_and_what_they_are)
{
    enum { ANON = 1 << 12, MMAP = 1 << 11, BUDDY = 1 << 10, LRU = 1 << 5, NOPAGE = 1 << 20 };
    struct sim *sim = boot_with_regions();
    struct qr_report report = report_of(sim);
    uint64_t end = qr_report_frame_end(&report), count, flags, page, free = 0;

    qr_report_pagemap(sim_space(sim), SIM_BASE / QR_PAGE_SIZE + 1, 1, &page);
    page &= ((uint64_t)1 << 55) - 1;
    ASSERT_LT(page, end);
    qr_report_frame_counts(&report, page, 1, &count);
    qr_report_frame_flags(&report, page, 1, &flags);
    EXPECT_EQ(count, 1u);
    EXPECT_EQ(flags & (ANON | MMAP | LRU | BUDDY), (uint64_t)(ANON | MMAP | LRU));
    qr_report_pagemap(sim_space(sim), SIM_BASE / QR_PAGE_SIZE + 8, 1, &page);
    page &= ((uint64_t)1 << 55) - 1;
    qr_report_frame_flags(&report, page, 1, &flags);
    EXPECT_EQ(flags & (ANON | MMAP | LRU | BUDDY), (uint64_t)(MMAP | LRU));

    for (uint64_t frame = 0; frame < end; frame++) {
        qr_report_frame_counts(&report, frame, 1, &count);
        qr_report_frame_flags(&report, frame, 1, &flags);
        EXPECT_TRUE((flags & (NOPAGE | BUDDY)) == 0 || count == 0);
        free += flags == BUDDY;
    }
    struct qr_frames_stats stats;
    qr_frames_stats(sim_frames(sim), &stats);
    EXPECT_EQ(free, stats.free);
    qr_report_frame_flags(&report, (uint64_t)1 << 30, 1, &flags);
    EXPECT_EQ(flags, (uint64_t)NOPAGE);
    sim_shutdown(sim);
}

TEST(report, meminfo_adds_up)
{
    struct sim *sim = boot_with_regions();
    struct qr_report report = report_of(sim);

    WRITE(qr_report_meminfo(&report, writer));
    EXPECT_EQ(strncmp(text, "MemTotal:       ", 16), 0);
    EXPECT_EQ(kb_after(text, "AnonPages"), 8);
    EXPECT_EQ(kb_after(text, "Shmem"), 4);
    EXPECT_EQ(kb_after(text, "Cached"), 4);
    EXPECT_GT(kb_after(text, "PageTables"), 0);
    EXPECT_GT(kb_after(text, "MemTotal"), kb_after(text, "MemFree"));
    EXPECT_GE(kb_after(text, "MemTotal"), kb_after(text, "MemAvailable"));
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        char name[32], unit[4];
        long value;

        bool huge = strncmp(line, "HugePages_", 10) == 0; /* a number of pages */

        ASSERT_EQ(sscanf(line, huge ? "%31[^:]: %ld" : "%31[^:]: %ld %3s", name, &value, unit),
                  huge ? 2 : 3);
        if (!huge)
            EXPECT_STR(unit, "kB");
        EXPECT_GE(value, 0);
    }
    sim_shutdown(sim);
}

TEST(report, buddyinfo_has_eleven_orders_that_add_up)
{
    struct sim *sim = sim_boot((struct sim_options){.frames = 4096});
    struct qr_report report = report_of(sim);
    struct qr_frames_stats stats;
    size_t sum = 0;

    qr_frames_drain(sim_frames(sim));
    WRITE(qr_report_buddyinfo(&report, writer));
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char *at = strstr(line, "zone");

        ASSERT_EQ(strncmp(line, "Node 0, zone ", 13), 0);
        ASSERT_NOT_NULL(at);
        at += 4 + 9;
        for (unsigned order = 0; order < 11; order++)
            sum += strtoul(at, &at, 10) << order;
        EXPECT_STR(at, " ");
    }
    qr_frames_stats(sim_frames(sim), &stats);
    EXPECT_EQ(sum, stats.free);
    sim_shutdown(sim);
}

TEST(report, slabinfo_is_version_two_one)
{
    struct sim *sim = sim_boot((struct sim_options){.frames = 1024});
    struct qr_report report = report_of(sim);
    unsigned caches = 0;

    WRITE(qr_report_slabinfo(&report, writer));
    ASSERT_EQ(strncmp(text, "slabinfo - version: 2.1\n# name ", 31), 0);
    for (char *line = strchr(strchr(text, '\n') + 1, '\n') + 1; *line != '\0';
         line = strchr(line, '\n') + 1) {
        char name[32];
        unsigned long active, total, size, per_slab, pages;

        ASSERT_EQ(sscanf(line, "%31s %lu %lu %lu %lu %lu : tunables", name, &active, &total, &size,
                         &per_slab, &pages),
                  6);
        EXPECT_LE(active, total);
        EXPECT_LE(per_slab * size, pages * 4096);
        caches++;
    }
    EXPECT_GT(caches, 12u);
    sim_shutdown(sim);
}

TEST(report, a_table_walk_tells_leaf_hole_and_kernel_address_apart)
{
    struct sim *sim = boot_with_regions();

    WRITE(qr_report_table_walk(sim_space(sim), sim_page(0), writer));
    EXPECT_NOT_NULL(strstr(text, "leaf at level 0"));
    EXPECT_NOT_NULL(strstr(text, "frame: anonymous, 1 references, 1 mappings"));
    WRITE(qr_report_table_walk(sim_space(sim), sim_page(20), writer));
    EXPECT_NOT_NULL(strstr(text, "nothing at level"));
    WRITE(qr_report_table_walk(sim_space(sim), qr_va_of(UINTPTR_MAX), writer));
    EXPECT_NOT_NULL(strstr(text, "not a user address"));
    WRITE(qr_report_tables(&sim_space(sim)->tables, writer));
    EXPECT_NOT_NULL(strstr(text, "0000000010000000-"));
    sim_shutdown(sim);
}

TEST(report, the_other_texts_are_written)
{
    struct sim *sim = boot_with_regions();
    struct qr_report report = report_of(sim);

    WRITE(qr_report_vmstat(&report, writer));
    EXPECT_NOT_NULL(strstr(text, "\npgfault "));
    WRITE(qr_report_zoneinfo(&report, writer));
    EXPECT_NOT_NULL(strstr(text, "\n  per-node stats\n      nr_inactive_anon 0\n"));
    EXPECT_NOT_NULL(strstr(text, "\n      nr_anon_pages 2\n      nr_mapped    "));
    EXPECT_NOT_NULL(strstr(text, "\n      pgpromote_candidate 0\n  pages free     "));
    EXPECT_NOT_NULL(strstr(text, "\n        protection: ("));
    EXPECT_NOT_NULL(strstr(text, "\n  pagesets\n    cpu: 0\n              count: "));
    WRITE(qr_report_pagetypeinfo(&report, writer));
    EXPECT_NOT_NULL(strstr(text, "Page block order: 9\n"));
    EXPECT_NOT_NULL(strstr(text, "zone   Normal, type    Unmovable "));
    EXPECT_NOT_NULL(strstr(text, "zone   Normal, type  Reclaimable      0      0 "));
    EXPECT_NOT_NULL(strstr(text, "Number of blocks type     Unmovable      Movable  Reclaimable   "
                                 "HighAtomic      Isolate \n"));
    WRITE(qr_report_numastat(&report, 0, writer));
    EXPECT_NOT_NULL(strstr(text, "\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node "));
    WRITE(qr_report_extfrag_index(&report, writer));
    EXPECT_NOT_NULL(strstr(text, "zone   Normal -1.000 "));
    WRITE(qr_report_unusable_index(&report, writer));
    EXPECT_NOT_NULL(strstr(text, "zone   Normal 0.000 "));
    WRITE(qr_report_iomem(&report, writer));
    EXPECT_NOT_NULL(strstr(text, " : "));
    WRITE(qr_report_node_meminfo(&report, 0, writer));
    EXPECT_NOT_NULL(strstr(text, "Node 0 MemTotal:  "));
    WRITE(qr_report_overview(&report, writer));
    EXPECT_NOT_NULL(strstr(text, "free blocks by order"));
    sim_shutdown(sim);
}

/* Two nodes: what each holds of locked memory, whoever reads. */
TEST(report, locked_pages_are_counted_on_their_node)
{
    static const struct sim_bank banks[] = {
        {.start = 16 << 20, .bytes = 4 << 20, .node = 0},
        {.start = 20 << 20, .bytes = 4 << 20, .node = 1},
    };
    static const unsigned cpu_nodes[] = {0, 1};
    struct sim *sim = sim_boot(
        (struct sim_options){.banks = banks, .bank_count = 2, .cpus = 2, .cpu_nodes = cpu_nodes});
    struct qr_report report = report_of(sim);
    char expected[64];

    EXPECT_STATUS(sim_map(sim, 0, 8, SIM_W), QR_OK);
    sim_write(sim, 0, 1);
    sim_enter(sim, 1);
    for (size_t page = 1; page < 4; page++)
        sim_write(sim, page, page);
    sim_enter(sim, 0);
    EXPECT_STATUS(qr_space_lock_pages(sim_space(sim), sim_page(0), 4 * QR_PAGE_SIZE, QR_LOCK_NOW),
                  QR_OK);
    for (unsigned node = 0; node < 2; node++) {
        WRITE(qr_report_node_meminfo(&report, node, writer));
        snprintf(expected, sizeof(expected), "Node %u %-15s %8zu kB\n", node,
                 "Mlocked:", (node == 0 ? (size_t)1 : 3) * QR_PAGE_SIZE >> 10);
        EXPECT_NOT_NULL(strstr(text, expected));
        snprintf(expected, sizeof(expected), "Node %u %-15s %8zu kB\n", node,
                 "AnonPages:", (node == 0 ? (size_t)1 : 3) * QR_PAGE_SIZE >> 10);
        EXPECT_NOT_NULL(strstr(text, expected));
    }
    sim_shutdown(sim);
}
