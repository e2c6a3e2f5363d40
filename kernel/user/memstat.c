/* SPDX-License-Identifier: MIT */
/*
 * memstat: where the memory is, on one screen, from /proc alone.  The same binary
 * runs on Linux.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The value of `name` in a file of "name value" or "name: value kB" lines; -1: not there. */
static long
value_of(const char *path, const char *name)
{
    char line[256];
    size_t length = strlen(name);
    long value = -1;
    FILE *file = fopen(path, "r");

    if (file == NULL)
        return -1;
    while (value < 0 && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, length) == 0 && (line[length] == ':' || line[length] == ' '))
            value = strtol(line + length + 1, NULL, 10);
    }
    fclose(file);
    return value;
}

static void
bar(const char *name, long kb, long total)
{
    char cells[41];
    long filled = total > 0 ? (kb * 40 + total / 2) / total : 0;

    if (kb < 0)
        return;
    memset(cells, '.', 40);
    memset(cells, '#', (size_t)(filled > 40 ? 40 : filled));
    cells[40] = '\0';
    printf("  %-14s %9ld kB  %5.1f %%  %s\n", name, kb,
           total > 0 ? 100.0 * (double)kb / (double)total : 0.0, cells);
}

static void
memory(void)
{
    static const char *const names[] = {"MemFree", "AnonPages",  "Cached",      "Shmem",
                                        "Slab",    "PageTables", "KernelStack", "VmallocUsed"};
    long total = value_of("/proc/meminfo", "MemTotal");

    printf("memory: %ld kB in all, %ld kB available\n", total,
           value_of("/proc/meminfo", "MemAvailable"));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        bar(names[i], value_of("/proc/meminfo", names[i]), total);
}

static void
events(void)
{
    static const char *const names[] = {
        "pgfault",         "pgmajfault",         "pgfree",     "quire_zero_fill",    "quire_cow",
        "quire_cow_reuse", "quire_fault_around", "quire_fork", "nr_tlb_remote_flush"};

    printf("events since boot:\n");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        long value = value_of("/proc/vmstat", names[i]);

        if (value >= 0)
            printf("  %-22s %12ld\n", names[i], value);
    }
}

static void
copy(const char *title, const char *path)
{
    char line[256];
    FILE *file = fopen(path, "r");

    if (file == NULL)
        return;
    printf("%s:\n", title);
    while (fgets(line, sizeof(line), file) != NULL)
        printf("  %s", line);
    fclose(file);
}

/* Caches that hold the most memory. */
static void
caches(void)
{
    char line[256];
    FILE *file = fopen("/proc/slabinfo", "r");

    if (file == NULL)
        return;
    printf("slab caches in use:\n");
    while (fgets(line, sizeof(line), file) != NULL) {
        char name[64];
        unsigned long active, total, bytes;

        if (sscanf(line, "%63s %lu %lu %lu", name, &active, &total, &bytes) == 4 && active > 0)
            printf("  %-20s %8lu of %8lu objects of %6lu bytes\n", name, active, total, bytes);
    }
    fclose(file);
}

int
main(void)
{
    memory();
    copy("free blocks by order", "/proc/buddyinfo");
    caches();
    events();
    return 0;
}
