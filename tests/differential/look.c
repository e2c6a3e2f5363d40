/* SPDX-License-Identifier: MIT */
/*
 * Reports of memory, page by page and then joined again where neighbours agree, so that
 * how a kernel splits and merges its regions does not show.
 *
 *   probe     contents by user loads (a hash), or the fault
 *   resident  mincore          maps   /proc/self/maps         flags  VmFlags of smaps
 *   pagemap   which private pages are there: a file's may be mapped ahead of any access; whether
 *             a frame is shared depends on who looked at it in which way
 *   files     sizes, blocks and contents of both files
 *   status    how much is mapped, is the process's own, is locked: /proc/self/status
 *
 * Whether a fork takes the page of zeroes along is nobody's business: the looks that would see
 * it are for process 0.
 */
#include "differential.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { LOOK_PAGES = ARENA_PAGES + BREAK_PAGES, NOTE_BYTES = 48, TEXT_BYTES = 1 << 18 };

/* What is known of each page, and in which stretch of offsets it lies. */
struct note {
    char text[NOTE_BYTES];
    uint64_t offset;
};

static struct note notes[LOOK_PAGES];
static char text[TEXT_BYTES];

static uintptr_t
page_address(unsigned page)
{
    return page < ARENA_PAGES ? ARENA_BASE + page * PAGE_BYTES
                              : shared->break_start + (page - ARENA_PAGES) * PAGE_BYTES;
}

static bool
note_joins(unsigned page)
{
    const struct note *a = &notes[page - 1], *b = &notes[page];

    return page != ARENA_PAGES && strcmp(a->text, b->text) == 0 &&
           (a->offset == b->offset || a->offset + PAGE_BYTES == b->offset);
}

static void
notes_say(void)
{
    for (unsigned page = 0, next; page < LOOK_PAGES; page = next) {
        for (next = page + 1; next < LOOK_PAGES && note_joins(next);)
            next++;
        if (notes[page].text[0] == '\0')
            continue;
        say(" %c%u", page < ARENA_PAGES ? 'p' : 'b',
            page < ARENA_PAGES ? page : page - ARENA_PAGES);
        if (next > page + 1)
            say("-%u", next - 1 - (page < ARENA_PAGES ? 0 : ARENA_PAGES));
        say(":%s", notes[page].text);
        if (notes[page].offset != 0)
            say("@%lx", (unsigned long)(notes[page].offset / PAGE_BYTES));
    }
}

static void
look_probe(void)
{
    for (unsigned page = 0; page < LOOK_PAGES; page++) {
        uintptr_t address = page_address(page);
        struct fault fault = {0};
        uint64_t hash;

        notes[page] = (struct note){0};
        if (touch_page(address, &hash, &fault))
            snprintf(notes[page].text, NOTE_BYTES, "%lx", (unsigned long)(uint32_t)(hash >> 16));
        else if (fault.signal != SIGSEGV || fault.code != SEGV_MAPERR)
            snprintf(notes[page].text, NOTE_BYTES, "!%d/%d%s", fault.signal, fault.code,
                     fault.address == address ? "" : "?");
    }
    notes_say();
}

static void
look_resident(void)
{
    if (swapping() != SWAP_NONE)
        return;
    for (unsigned page = 0; page < LOOK_PAGES; page++) {
        uint8_t byte = 0;
        long result = call(SYS_mincore, page_address(page), PAGE_BYTES, machine_scratch());

        notes[page] = (struct note){0};
        scratch_get(&byte, 0, 1);
        if (result == 0)
            snprintf(notes[page].text, NOTE_BYTES, "%u", byte & 1u);
        else if (result != -ENOMEM)
            snprintf(notes[page].text, NOTE_BYTES, "%s", strerrorname_np((int)-result));
    }
    notes_say();
}

long
path_open(const char *path, int flags)
{
    scratch_put(0, path, strlen(path) + 1);
    return call(SYS_openat, (uint64_t)AT_FDCWD, machine_scratch(), (uint64_t)flags, 0);
}

char *
text_read(const char *path)
{
    long fd = path_open(path, O_RDONLY), n;
    size_t at = 0;

    if (fd < 0) {
        say_result(fd);
        return NULL;
    }
    while (at < TEXT_BYTES - 1) {
        size_t room = TEXT_BYTES - 1 - at < SCRATCH_BYTES ? TEXT_BYTES - 1 - at : SCRATCH_BYTES;

        n = call(SYS_read, (uint64_t)fd, machine_scratch(), room);
        if (n <= 0)
            break;
        scratch_get(text + at, 0, (size_t)n);
        at += (size_t)n;
    }
    text[at] = '\0';
    call(SYS_close, (uint64_t)fd);
    return text;
}

/* Which file, by the letter in its name. */
static const char *
file_label(const char *name)
{
    static const char *const known[][2] = {{"/quire-A", "A"},       {"/quire-B", "B"},
                                           {"/memfd:quire-M", "M"}, {"/dev/zero", "shared"},
                                           {"[heap]", "-"},         {"/SYSV", "sysv"}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strstr(name, known[i][0]) != NULL)
            return known[i][1];
    }
    return *name == '\0' ? "-" : name;
}

struct region {
    uintptr_t start, end;
    char label[NOTE_BYTES];
    uint64_t offset;
};

static bool
region_parse(const char *line, struct region *out)
{
    unsigned long start, end, offset;
    char prot[5], name[128];
    int at;

    if (sscanf(line, "%lx-%lx %4s %lx %*s %*u%n", &start, &end, prot, &offset, &at) < 4)
        return false;
    line += at;
    line += strspn(line, " ");
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(line, "\n"), line);
    *out = (struct region){.start = start, .end = end, .offset = offset};
    snprintf(out->label, sizeof(out->label), "%s,%.30s", prot, file_label(name));
    return true;
}

static void
region_note(const struct region *region, const char *label, bool offsets)
{
    for (unsigned page = 0; page < LOOK_PAGES; page++) {
        uintptr_t address = page_address(page);

        if (address < region->start || address >= region->end)
            continue;
        snprintf(notes[page].text, NOTE_BYTES, "%s", label);
        if (offsets && region->offset + (address - region->start) != 0)
            notes[page].offset = region->offset + (address - region->start);
    }
}

static void
look_maps(void)
{
    struct region region;

    memset(notes, 0, sizeof(notes));
    if (text_read("/proc/self/maps") == NULL)
        return;
    for (char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (region_parse(line, &region))
            region_note(&region, region.label, strcmp(region.label + 5, "-") != 0);
    }
    notes_say();
}

/* VmFlags without those that follow how regions were merged, or no documented rule. */
static void
flags_label(const char *line, char *out)
{
    bool writes = false, shows = false;
    size_t at = 0;

    for (const char *word = line; word[0] > ' ' && word[1] > ' ' && at + 3 < NOTE_BYTES;
         word += 3) {
        writes |= memcmp(word, "mw", 2) == 0;
        shows |= memcmp(word, "sh", 2) == 0;
        if (memcmp(word, "sh", 2) != 0 && memcmp(word, "sd", 2) != 0 &&
            memcmp(word, "ac", 2) != 0 && memcmp(word, "lf", 2) != 0 &&
            memcmp(word, "sf", 2) != 0) {
            memcpy(out + at, word, 2);
            at += 2;
        }
        if (word[2] != ' ')
            break;
    }
    /* Which of the two a mapping has that may not be written depends on why. */
    snprintf(out + at, NOTE_BYTES - at, "%s", shows && writes ? "sh" : "");
}

static void
look_flags(void)
{
    struct region region = {0}, next;
    char label[NOTE_BYTES];

    memset(notes, 0, sizeof(notes));
    if (text_read("/proc/self/smaps") == NULL)
        return;
    for (char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (region_parse(line, &next)) {
            region = next;
        } else if (strncmp(line, "VmFlags: ", 9) == 0) {
            flags_label(line + 9, label);
            region_note(&region, label, false);
        }
    }
    notes_say();
}

/*
 * Swapped out is as good as there, where somebody swaps; where nobody does it is what stands for a page
 * that userfaultfd protects and that is not there.
 */
static const char *
pagemap_text(uint64_t bits)
{
    const bool present = (bits >> 63 & 1) != 0, swapped = (bits >> 62 & 1) != 0,
               file = (bits >> 61 & 1) != 0, watched = (bits >> 57 & 1) != 0;

    if (swapping() != SWAP_NONE)
        return watched ? "watched" : (present || swapped) && !file ? "there" : "";
    if (swapped)
        return watched ? "out,watched" : "out";
    if (present && !file)
        return watched ? "there,watched" : "there";
    return watched ? "watched" : "";
}

static void
look_pagemap(void)
{
    long fd = path_open("/proc/self/pagemap", O_RDONLY);

    for (unsigned page = 0; page < LOOK_PAGES; page++) {
        uint64_t bits = 0;
        uint64_t at = page_address(page) / PAGE_BYTES * sizeof(bits);
        long n = call(SYS_pread64, (uint64_t)fd, machine_scratch(), sizeof(bits), at);

        notes[page] = (struct note){0};
        scratch_get(&bits, 0, sizeof(bits));
        snprintf(notes[page].text, NOTE_BYTES, "%s",
                 n == sizeof(bits) ? pagemap_text(bits) : "short");
    }
    call(SYS_close, (uint64_t)fd);
    notes_say();
}

static void
file_say(int fd)
{
    static uint64_t page[PAGE_BYTES / sizeof(uint64_t)];
    struct statx stat;
    uint64_t sum = 0, at = 0;
    long n;

    file_stat(fd, &stat);
    say(" size 0x%lx blocks %ld", (unsigned long)stat.stx_size, (long)stat.stx_blocks);
    while ((n = call(SYS_pread64, (uint64_t)fd, machine_scratch(), sizeof(page), at)) > 0) {
        memset(page, 0, sizeof(page));
        scratch_get(page, 0, (size_t)n);
        for (size_t i = 0; i < PAGE_BYTES / sizeof(uint64_t); i++)
            sum = (sum << 7 | sum >> 57) ^ (page[i] * 0x9e3779b97f4a7c15u);
        at += (uint64_t)n;
    }
    say(" %lx", (unsigned long)(uint32_t)(sum >> 16));
}

static void
look_files(void)
{
    file_say(descriptor(1));
    file_say(descriptor(2));
    file_say(descriptor(7));
}

uint64_t
status_bytes(const char *name)
{
    char *line = text_read("/proc/self/status");

    line = line == NULL ? NULL : strstr(line, name);
    return line == NULL ? 0 : strtoull(line + strlen(name) + 1, NULL, 10) * 1024;
}

void
field_add(const char *line, const char *name, unsigned long *sum)
{
    size_t length = strlen(name);

    if (strncmp(line, name, length) == 0 && line[length] == ':')
        *sum += strtoul(line + length + 1, NULL, 10);
}

/*
 * Sums over the regions in the arena: sizes, and pages of the process's own, unless a region reaches
 * out.  What of a file is there follows what was mapped ahead.
 */
static void
look_smaps(void)
{
    const uintptr_t end = ARENA_BASE + ARENA_BYTES;
    unsigned long anonymous = 0;
    uintptr_t size = 0;
    struct region region;
    bool ours = false, out = false;

    if (text_read("/proc/self/smaps") == NULL)
        return;
    for (char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!region_parse(line, &region)) {
            if (ours)
                field_add(line, "Anonymous", &anonymous);
            continue;
        }
        ours = region.start - ARENA_BASE < ARENA_BYTES;
        out |= region.start <= end && region.end > end;
        if (ours)
            size += (region.end < end ? region.end : end) - region.start;
    }
    say(" size %lu", (unsigned long)size / 1024);
    if (swapping() == SWAP_NONE && !out)
        say(" anonymous %lu", anonymous);
}

/* Of what a program has before it begins nothing is known, unless that it is not locked. */
static void
look_status(void)
{
    say(" size %ld", (long)(status_bytes("VmSize") - shared->bytes[0]));
    say(" data %ld", (long)(status_bytes("VmData") - shared->bytes[1]));
    if (!shared->locked_all)
        say(" locked %ld", (long)status_bytes("VmLck"));
}

void
look(const struct op *op)
{
    switch (op->kind) {
    case OP_PROBE:
        look_probe();
        break;
    case OP_RESIDENT:
        look_resident();
        break;
    case OP_MAPS:
        look_maps();
        break;
    case OP_FLAGS:
        look_flags();
        break;
    case OP_PAGEMAP:
        look_pagemap();
        break;
    case OP_STATUS:
        look_status();
        break;
    case OP_SMAPS:
        look_smaps();
        break;
    default:
        look_files();
        break;
    }
}
