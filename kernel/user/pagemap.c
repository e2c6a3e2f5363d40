/* SPDX-License-Identifier: MIT */
/*
 * pagemap [PID|self]: what the page tables of a process map, region by region,
 * from /proc/PID/maps and /proc/PID/pagemap.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE      4096ul
#define PRESENT   ((uint64_t)1 << 63)
#define SWAPPED   ((uint64_t)1 << 62)
#define FILE_PAGE ((uint64_t)1 << 61)
#define EXCLUSIVE ((uint64_t)1 << 56)
#define FRAME     (((uint64_t)1 << 55) - 1)

struct totals {
    unsigned long pages, present, swapped, file, exclusive;
};

/* A run of pages whose frames follow each other. */
struct run {
    unsigned long start, pages;
    uint64_t frame, flags;
};

static void
print_run(const struct run *run)
{
    if (run->pages != 0)
        printf("    %012lx +%-6lu frame %-8llx %s%s\n", run->start, run->pages,
               (unsigned long long)run->frame,
               run->flags & FILE_PAGE ? "file or shared" : "anonymous",
               run->flags & EXCLUSIVE ? ", mapped once" : ", mapped several times");
}

static void
add_page(struct run *run, struct totals *totals, unsigned long va, uint64_t word)
{
    uint64_t flags = word & (FILE_PAGE | EXCLUSIVE);

    totals->pages++;
    totals->swapped += (word & SWAPPED) != 0;
    if (!(word & PRESENT)) {
        print_run(run);
        run->pages = 0;
        return;
    }
    totals->present++;
    totals->file += (word & FILE_PAGE) != 0;
    totals->exclusive += (word & EXCLUSIVE) != 0;
    if (run->pages != 0 && run->flags == flags && run->frame + run->pages == (word & FRAME)) {
        run->pages++;
        return;
    }
    print_run(run);
    *run = (struct run){va, 1, word & FRAME, flags};
}

static int
show_region(int pagemap, unsigned long start, unsigned long end, struct totals *totals)
{
    uint64_t words[512];
    struct run run = {0, 0, 0, 0};

    while (start < end) {
        size_t count = (end - start) / PAGE < 512 ? (end - start) / PAGE : 512;
        ssize_t got = pread(pagemap, words, count * 8, (off_t)(start / PAGE * 8));

        if (got <= 0)
            return -1;
        for (size_t i = 0; i < (size_t)got / 8; i++)
            add_page(&run, totals, start + i * PAGE, words[i]);
        start += (unsigned long)got / 8 * PAGE;
    }
    print_run(&run);
    return 0;
}

int
main(int argc, char **argv)
{
    const char *pid = argc > 1 ? argv[1] : "self";
    struct totals totals = {0, 0, 0, 0, 0};
    char path[64];
    char line[512];
    int status = 0;

    snprintf(path, sizeof(path), "/proc/%s/maps", pid);
    FILE *maps = fopen(path, "r");

    snprintf(path, sizeof(path), "/proc/%s/pagemap", pid);
    int pagemap = open(path, O_RDONLY);

    if (maps == NULL || pagemap < 0) {
        perror(path);
        return 1;
    }
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long start, end;

        if (sscanf(line, "%lx-%lx", &start, &end) != 2 || (long)start < 0)
            continue;
        printf("%s", line);
        if (show_region(pagemap, start, end, &totals) != 0)
            status = 1;
    }
    printf("%lu pages: %lu present (%lu file or shared, %lu mapped once), %lu swapped\n",
           totals.pages, totals.present, totals.file, totals.exclusive, totals.swapped);
    return status;
}
