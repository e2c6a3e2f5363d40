/* SPDX-License-Identifier: MIT */
/*
 * What was told at boot, collected: every loader protocol and every firmware
 * table ends in these functions, so that what is not to be believed is refused
 * in one place.  Boot CPU only.
 */
#include <boot.h>
#include <kstring.h>
#include <printk.h>

struct boot_info boot_info;
struct boot_machine boot_machine;

static uint64_t memory_limit;

void
boot_info_reset(uint64_t physical_limit)
{
    memset(&boot_info, 0, sizeof boot_info);
    memset(&boot_machine, 0, sizeof boot_machine);
    memory_limit = physical_limit;
}

void
boot_add_region(uint64_t start, uint64_t bytes, uint32_t kind)
{
    struct boot_region *region;

    if (bytes == 0 || start >= memory_limit)
        return;
    if (bytes > memory_limit - start)
        bytes = memory_limit - start;
    if (boot_info.region_count == BOOT_REGIONS_MAX) {
        boot_info.regions_dropped++;
        return;
    }
    region = &boot_info.regions[boot_info.region_count++];
    *region = (struct boot_region){start, bytes, kind};
}

void
boot_set_cmdline(const char *text, size_t limit)
{
    size_t length = strnlen(text, limit < BOOT_CMDLINE_MAX ? limit : BOOT_CMDLINE_MAX - 1);

    if (length >= BOOT_CMDLINE_MAX)
        length = BOOT_CMDLINE_MAX - 1;
    memcpy(boot_info.cmdline, text, length);
    boot_info.cmdline[length] = '\0';
}

void
boot_set_initrd(uint64_t start, uint64_t bytes)
{
    if (bytes == 0 || boot_info.initrd.end.v != 0)
        return;
    boot_info.initrd = (struct qr_pa_range){qr_pa_of(start), qr_pa_of(start + bytes)};
}

/* The direct map will show usable memory only. */
void
boot_check_initrd(void)
{
    uint64_t start = boot_info.initrd.start.v;
    uint64_t end = boot_info.initrd.end.v;

    for (unsigned i = 0; i < boot_info.region_count && end > start; i++) {
        const struct boot_region *r = &boot_info.regions[i];

        if (r->kind == BOOT_REGION_USABLE && start >= r->start && end <= r->start + r->bytes)
            return;
    }
    if (end != 0)
        printk("boot: initrd %llx-%llx is not usable memory: ignored\n", (unsigned long long)start,
               (unsigned long long)end);
    boot_info.initrd = (struct qr_pa_range){{0}, {0}};
}

/* A number with K, M or G behind it; *@text is left behind that. */
static uint64_t
size_read(const char **text)
{
    unsigned base = (*text)[0] == '0' && (*text)[1] == 'x' ? 16 : 10;
    uint64_t value = 0;

    for (*text += base == 16 ? 2 : 0;; ++*text) {
        unsigned digit = (unsigned char)**text - '0';

        if (base == 16 && digit > 9)
            digit = ((unsigned char)**text | 0x20u) - 'a' + 10;
        if (digit >= base || value > UINT64_MAX / base - 1)
            break;
        value = value * base + digit;
    }
    unsigned shift = **text == 'K' ? 10 : **text == 'M' ? 20 : **text == 'G' ? 30 : 0;

    *text += shift != 0;
    return value > UINT64_MAX >> shift ? 0 : value << shift;
}

/* Does [@start, @start + @bytes) lie in one piece of usable memory, and not in the initrd? */
static bool
is_usable(uint64_t start, uint64_t bytes)
{
    if (bytes == 0 || start + bytes < start ||
        (start < boot_info.initrd.end.v && boot_info.initrd.start.v < start + bytes))
        return false;
    for (unsigned i = 0; i < boot_info.region_count; i++) {
        const struct boot_region *r = &boot_info.regions[i];

        if (r->kind == BOOT_REGION_USABLE && start >= r->start &&
            start + bytes <= r->start + r->bytes)
            return true;
    }
    return false;
}

/* One SIZE!START; *@text is left behind it. @return whether there was one */
static bool
persistent_read(const char **text)
{
    uint64_t bytes = size_read(text), start;

    if (**text != '!')
        return false;
    ++*text;
    start = size_read(text);
    if (is_usable(start, bytes))
        boot_add_region(start, bytes, BOOT_REGION_PERSISTENT);
    else
        printk("memmap: %llx-%llx is not usable memory: ignored\n", (unsigned long long)start,
               (unsigned long long)(start + bytes));
    return true;
}

void
boot_add_persistent(void)
{
    char words[128];
    const char *at = words;

    if (!boot_option("memmap", words, sizeof words))
        return;
    while (persistent_read(&at) && *at == ',')
        at++;
    if (*at != '\0')
        printk("memmap: \"%s\" is no SIZE!START\n", at);
}

bool
boot_add_cpu(uint64_t id, uint32_t domain)
{
    for (unsigned i = 0; i < boot_machine.cpu_count; i++) {
        if (boot_machine.cpu_ids[i] == id)
            return false;
    }
    if (boot_machine.cpu_count == CONFIG_MAX_CPUS) {
        boot_machine.cpus_dropped++;
        return false;
    }
    boot_machine.cpu_ids[boot_machine.cpu_count] = id;
    boot_machine.cpu_domains[boot_machine.cpu_count++] = domain;
    return true;
}

void
boot_add_memory(struct boot_memory memory)
{
    if (memory.bytes == 0 || memory.start + memory.bytes < memory.start ||
        boot_machine.memory_count == BOOT_MEMORY_MAX)
        return;
    boot_machine.memory[boot_machine.memory_count++] = memory;
}

void
boot_set_distance(uint64_t from, uint64_t to, uint64_t distance)
{
    uint64_t larger = from > to ? from : to;

    if (larger >= BOOT_NODES_MAX || distance > UINT8_MAX)
        return;
    boot_machine.distances[from * BOOT_NODES_MAX + to] = (uint8_t)distance;
    if (boot_machine.distance_count <= larger)
        boot_machine.distance_count = (unsigned)larger + 1;
}

struct qr_pa_range
boot_mappable(uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < boot_info.region_count && start < end;) {
        const struct boot_region *r = &boot_info.regions[i++];
        uint64_t from = r->start & ~(uint64_t)QR_PAGE_MASK;
        uint64_t to = (r->start + r->bytes + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK;

        if (r->kind != BOOT_REGION_NO_MAP || to <= start || from >= end)
            continue;
        if (from > start) {
            end = from;
        } else {
            start = to;
            i = 0; /* regions are unsorted; start only grows */
        }
    }
    return (struct qr_pa_range){qr_pa_of(start), qr_pa_of(start < end ? end : start)};
}
