/* SPDX-License-Identifier: MIT */
/*
 * The device tree as a boot loader's hand-over.
 *
 *      /memory@*           device_type "memory": usable, with a node
 *      reservation block   reserved
 *      /reserved-memory/...  reserved; with `no-map` not even mapped
 *      /chosen             bootargs, linux,initrd-start and -end
 *      /cpus/cpu@*         device_type "cpu": number and node
 *      distance-map        "numa-distance-map-v1"
 *
 * A reservation without `reg` asks the system to choose a place; nothing here
 * needs one, so it is passed over.  Regions may overlap: the library's sanitiser
 * gives the reservation precedence.
 */
#include <fdt_boot.h>
#include <kstring.h>
#include <printk.h>

static void
parse_memory(const struct fdt_walk *node)
{
    uint32_t domain = (uint32_t)fdt_number(node, "numa-node-id", 0);
    struct fdt_range range;

    for (unsigned i = 0; fdt_reg(node, i, &range); i++) {
        boot_add_region(range.start, range.bytes, BOOT_REGION_USABLE);
        boot_add_memory((struct boot_memory){
            .start = range.start,
            .bytes = range.bytes,
            .domain = domain,
            .hotplug = fdt_property(node, "hotpluggable", &(struct fdt_value){0}),
        });
    }
}

/*
 * "disabled" says of a CPU that it waits to be started, which `enable-method`
 * tells how to do; only "fail" says that it cannot be used.
 */
static bool
cpu_usable(const struct fdt_walk *node)
{
    const char *status = fdt_string(node, "status");

    if (fdt_enabled(node))
        return true;
    return status != NULL && strcmp(status, "disabled") == 0 &&
           fdt_string(node, "enable-method") != NULL;
}

static void
parse_cpu(const struct fdt_walk *node)
{
    struct fdt_range number;

    if (cpu_usable(node) && fdt_reg_raw(node, 0, &number))
        (void)boot_add_cpu(number.start, (uint32_t)fdt_number(node, "numa-node-id", 0));
}

static void
parse_nodes(const struct fdt *fdt)
{
    struct fdt_walk node;

    fdt_walk_begin(&node, fdt);
    while (fdt_walk_next(&node)) {
        if (fdt_string_is(&node, "device_type", "memory") && fdt_enabled(&node))
            parse_memory(&node);
        else if (fdt_string_is(&node, "device_type", "cpu"))
            parse_cpu(&node);
    }
}

static void
parse_reservations(const struct fdt *fdt)
{
    struct fdt_walk node;
    struct fdt_range range;

    for (unsigned i = 0; fdt_reservation(fdt, i, &range); i++)
        boot_add_region(range.start, range.bytes, BOOT_REGION_RESERVED);
    if (!fdt_find_path(fdt, "/reserved-memory", &node))
        return;
    while (fdt_walk_next_below(&node, 2)) {
        struct fdt_value value;
        bool no_map = fdt_property(&node, "no-map", &value);

        for (unsigned i = 0; fdt_enabled(&node) && fdt_reg(&node, i, &range); i++)
            boot_add_region(range.start, range.bytes,
                            no_map ? BOOT_REGION_NO_MAP : BOOT_REGION_RESERVED);
    }
}

static void
parse_chosen(const struct fdt *fdt)
{
    struct fdt_walk node;
    struct fdt_value value;
    uint64_t start;
    uint64_t end;

    if (!fdt_find_path(fdt, "/chosen", &node))
        return;
    if (fdt_property(&node, "bootargs", &value))
        boot_set_cmdline((const char *)value.data, value.bytes);
    start = fdt_number(&node, "linux,initrd-start", 0);
    end = fdt_number(&node, "linux,initrd-end", 0);
    if (end > start)
        boot_set_initrd(start, end - start);
}

/** Triples (from, to, distance); where only one direction is given it holds for both. */
static void
parse_distances(const struct fdt *fdt)
{
    struct fdt_walk node;
    struct fdt_value value;
    uint32_t from;
    uint32_t to;
    uint32_t distance;

    if (!fdt_find_compatible(fdt, "numa-distance-map-v1", &node) ||
        !fdt_property(&node, "distance-matrix", &value))
        return;
    for (unsigned i = 0; fdt_cell(&value, i, &from) && fdt_cell(&value, i + 1, &to) &&
                         fdt_cell(&value, i + 2, &distance);
         i += 3) {
        boot_set_distance(from, to, distance);
        if (to > from)
            boot_set_distance(to, from, distance);
    }
}

bool
fdt_boot_parse(const struct fdt *fdt, uint64_t blob_pa, uint64_t physical_limit)
{
    boot_info_reset(physical_limit);
    boot_info.protocol = "device tree";
    parse_nodes(fdt);
    parse_chosen(fdt);
    boot_check_initrd();
    parse_reservations(fdt);
    boot_add_region(blob_pa, fdt->bytes, BOOT_REGION_RESERVED);
    parse_distances(fdt);
    if (boot_machine.cpus_dropped)
        printk("boot: %u CPUs beyond CONFIG_MAX_CPUS are left out\n", boot_machine.cpus_dropped);
    return boot_machine.memory_count > 0 && boot_info.region_count > 0;
}
