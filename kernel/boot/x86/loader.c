/* SPDX-License-Identifier: MIT */
/*
 * What the boot loader left, copied into boot_info.
 *
 * PVH and Multiboot2 hand over pointers to physical memory; all of it is read
 * through the boot window (the first 4 GiB) with every length checked, and
 * nothing of it is needed afterwards.  A loader that lies gets a smaller
 * machine, not a crash.
 */
#include "loader.h"

#include "boot_magic.h"
#include <boot.h>
#include <kstring.h>
#include <printk.h>

/* A loader may put its structures anywhere. */
#define UNALIGNED __attribute__((packed))

/* ---- PVH -------------------------------------------------------------------------- */

struct UNALIGNED pvh_start_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, cmdline, rsdp, memory_map; /* physical */
    uint32_t memory_map_count, reserved;
};

struct UNALIGNED pvh_module {
    uint64_t start, bytes, cmdline, reserved;
};

struct UNALIGNED pvh_region {
    uint64_t start, bytes;
    uint32_t kind, reserved;
};

#define PVH_MAGIC       0x336ec578u
#define PVH_ENTRIES_MAX 4096u

static bool
parse_pvh(uint64_t information)
{
    const struct pvh_start_info *info = boot_window(information, sizeof *info);
    const struct pvh_region *map;
    const struct pvh_module *module;
    const char *cmdline;

    if (info == NULL || info->magic != PVH_MAGIC)
        return false;
    boot_info.protocol = "PVH";
    boot_info.rsdp = info->rsdp;
    if (info->version >= 1 && info->memory_map_count <= PVH_ENTRIES_MAX) {
        map = boot_window(info->memory_map, info->memory_map_count * sizeof *map);
        for (uint32_t i = 0; map && i < info->memory_map_count; i++)
            boot_add_region(map[i].start, map[i].bytes, map[i].kind);
    }
    module = boot_window(info->modules, sizeof *module);
    if (module && info->module_count > 0)
        boot_set_initrd(module->start, module->bytes);
    cmdline = boot_window(info->cmdline, BOOT_CMDLINE_MAX);
    if (cmdline)
        boot_set_cmdline(cmdline, BOOT_CMDLINE_MAX);
    return true;
}

/* ---- Multiboot2 --------------------------------------------------------------------- */

struct UNALIGNED multiboot_header {
    uint32_t bytes, reserved;
};

struct UNALIGNED multiboot_tag {
    uint32_t type, bytes;
};

struct UNALIGNED multiboot_module {
    struct multiboot_tag tag;
    uint32_t start, end;
};

struct UNALIGNED multiboot_map {
    struct multiboot_tag tag;
    uint32_t entry_bytes, entry_version;
};

enum {
    TAG_END = 0,
    TAG_CMDLINE = 1,
    TAG_MODULE = 3,
    TAG_MEMORY_MAP = 6,
    TAG_RSDP1 = 14,
    TAG_RSDP2 = 15
};

#define MULTIBOOT_BYTES_MAX 0x100000u

static void
parse_multiboot_map(const struct multiboot_map *map)
{
    const char *at = (const char *)(map + 1);
    const char *end = (const char *)map + map->tag.bytes;

    if (map->entry_bytes < sizeof(struct pvh_region))
        return;
    for (; (size_t)(end - at) >= map->entry_bytes && at < end; at += map->entry_bytes) {
        const struct pvh_region *region = (const struct pvh_region *)at;

        boot_add_region(region->start, region->bytes, region->kind);
    }
}

static void
parse_multiboot_tag(const struct multiboot_tag *tag, uint64_t pa)
{
    const struct multiboot_module *module = (const struct multiboot_module *)tag;

    switch (tag->type) {
    case TAG_CMDLINE:
        boot_set_cmdline((const char *)(tag + 1), tag->bytes - sizeof *tag);
        break;
    case TAG_MODULE:
        if (tag->bytes >= sizeof *module && module->end > module->start)
            boot_set_initrd(module->start, module->end - module->start);
        break;
    case TAG_MEMORY_MAP:
        if (tag->bytes >= sizeof(struct multiboot_map))
            parse_multiboot_map((const struct multiboot_map *)tag);
        break;
    case TAG_RSDP1:
    case TAG_RSDP2:
        boot_info.rsdp = pa + sizeof *tag;
        break;
    default:
        break;
    }
}

static bool
parse_multiboot2(uint64_t information)
{
    const struct multiboot_header *header = boot_window(information, sizeof *header);
    uint64_t at = information + 8;
    uint64_t end;

    if (header == NULL || header->bytes > MULTIBOOT_BYTES_MAX ||
        boot_window(information, header->bytes) == NULL)
        return false;
    boot_info.protocol = "Multiboot2";
    end = information + header->bytes;
    while (end - at >= sizeof(struct multiboot_tag) && at < end) {
        const struct multiboot_tag *tag = boot_window(at, sizeof *tag);

        if (tag == NULL || tag->type == TAG_END || tag->bytes < sizeof *tag ||
            tag->bytes > end - at)
            break;
        parse_multiboot_tag(tag, at);
        at += ((uint64_t)tag->bytes + 7) & ~(uint64_t)7;
    }
    return true;
}

/* ---- Entry ------------------------------------------------------------------------ */

bool
loader_parse(uint32_t magic, uint64_t information, uint64_t physical_limit)
{
    bool understood = false;

    boot_info_reset(physical_limit);
    if (magic == BOOT_MAGIC_PVH)
        understood = parse_pvh(information);
    else if (magic == BOOT_MAGIC_MULTIBOOT2)
        understood = parse_multiboot2(information);
    boot_check_initrd();
    return understood && boot_info.region_count > 0;
}
