/* SPDX-License-Identifier: MIT */
/*
 * Memory modules of QEMU's q35 machine, through the register block that its ACPI code
 * uses (docs/specs/acpi_mem_hotplug.txt of QEMU), without that code.
 *
 *   port 0xa00   write: slot number; read: the module's address (low, high), length (low,
 *                high), proximity domain, then at 0xa14 its status
 *   status       bit 0 there, 1 has come, 2 is to go
 *   0xa14 write  bit 1 or 2: event seen; bit 3: eject
 *
 * A thread looks at the slots once in a while: modules that are there at start are found
 * in the same way as those that come later.  A module is shown in the direct map, then added; for
 * removal it is taken from the frame allocator, which moves what is in it, then from the
 * direct map, and ejected.  One that cannot be emptied stays, and the request is refused.
 *
 * The block is looked for only where the tables announce memory that can be plugged in.  What
 * it says is checked like any other device's word: the frame layer refuses what is misaligned,
 * out of range or there already.
 */
#include <boot.h>
#include <memory.h>
#include <platform.h>
#include <printk.h>
#include <sched.h>

#include "cpu.h"

#define PORT        0xa00u
#define PORT_STATUS (PORT + 0x14)
#define SLOTS       32u
#define PERIOD_NS   200000000u
#define LEAF_BYTES  ((uint64_t)2 << 20)

enum {
    MODULE_THERE = 1 << 0,
    MODULE_HAS_COME = 1 << 1,
    MODULE_IS_TO_GO = 1 << 2,
    MODULE_EJECT = 1 << 3,
};

struct module {
    struct qr_pa_range range;
    uint32_t domain;
    uint8_t status;
};

/* What is added now; the thread's alone. */
static struct qr_pa_range known[SLOTS];

static inline void
port_write32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint32_t
port_read32(uint16_t port)
{
    uint32_t value;

    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static struct module
module_read(uint32_t slot)
{
    struct module module;

    port_write32(PORT, slot);
    uint64_t start = port_read32(PORT) | (uint64_t)port_read32(PORT + 4) << 32;
    uint64_t bytes = port_read32(PORT + 8) | (uint64_t)port_read32(PORT + 12) << 32;

    module.domain = port_read32(PORT + 16);
    module.status = inb(PORT_STATUS);
    module.range.start = qr_pa_of(start);
    module.range.end = qr_pa_of(start + bytes < start ? start : start + bytes);
    return module;
}

static void
module_write(uint32_t slot, uint8_t value)
{
    port_write32(PORT, slot);
    outb(PORT_STATUS, value);
}

/* ---- The direct map ------------------------------------------------------------- */

static struct qr_va_range
leaf_range(uint64_t pa)
{
    uintptr_t va = (uintptr_t)direct_map(pa);

    return (struct qr_va_range){qr_va_of(va), qr_va_of(va + LEAF_BYTES)};
}

static void
direct_hide(struct qr_pa_range range)
{
    for (uint64_t pa = range.start.v; pa < range.end.v; pa += LEAF_BYTES) {
        struct qr_va_range leaf = leaf_range(pa);
        struct qr_tlb_batch batch;
        struct qr_cursor cursor;

        qr_tlb_batch_init(&batch, &memory.kernel_space);
        qr_cursor_open(&cursor, &memory.kernel_tables, leaf, &batch);
        if (qr_cursor_query(&cursor, leaf.start).kind == QR_ENTRY_LEAF)
            (void)qr_cursor_unmap(&cursor, leaf.start);
        qr_cursor_close(&cursor);
        qr_tlb_batch_finish(&batch);
    }
}

static bool
leaf_show(uint64_t pa)
{
    const struct qr_leaf leaf = {
        .pa = qr_pa_of(pa),
        .prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_GLOBAL,
        .flags = QR_LEAF_ACCESSED | QR_LEAF_DIRTY,
        .level = 1,
    };
    struct qr_va_range range = leaf_range(pa);
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &memory.kernel_space);
    qr_cursor_open(&cursor, &memory.kernel_tables, range, &batch);
    enum qr_status status = qr_cursor_query(&cursor, range.start).kind == QR_ENTRY_LEAF
                                ? QR_ERR_EXISTS
                                : qr_cursor_prepare(&cursor, range.start, 1);

    if (status == QR_OK)
        qr_cursor_map(&cursor, range.start, &leaf);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    return status == QR_OK;
}

static bool
direct_show(struct qr_pa_range range)
{
    for (uint64_t pa = range.start.v; pa < range.end.v; pa += LEAF_BYTES) {
        if (!leaf_show(pa)) {
            direct_hide((struct qr_pa_range){range.start, qr_pa_of(pa)});
            return false;
        }
    }
    return true;
}

/* ---- Coming and going ------------------------------------------------------------ */

/* The part that the frame layer takes: whole sections. */
static struct qr_pa_range
whole_sections(struct qr_pa_range range)
{
    uint64_t mask = qr_frames_add_granule(memory.frames) - 1;

    return (struct qr_pa_range){qr_pa_of((range.start.v + mask) & ~mask),
                                qr_pa_of(range.end.v & ~mask)};
}

static void
module_add(uint32_t slot, const struct module *module)
{
    struct qr_memory_range range = {
        .range = whole_sections(module->range),
        .kind = QR_MEMORY_USABLE,
        .node = memory_node_of_domain(module->domain),
        .description = "System RAM",
    };
    enum qr_status status = QR_ERR_RANGE;

    if (range.range.start.v < range.range.end.v && range.range.end.v <= platform_physical_limit() &&
        direct_show(range.range)) {
        status = qr_frames_add(memory.frames, &range);
        if (status != QR_OK)
            direct_hide(range.range);
    }
    if (status == QR_OK)
        known[slot] = range.range;
    printk("hotplug: slot %u: %lu MiB at %lx on node %u: %s\n", slot,
           (module->range.end.v - module->range.start.v) >> 20, module->range.start.v, range.node,
           status == QR_OK ? "added" : qr_status_name(status));
    module_write(slot, MODULE_HAS_COME);
}

static void
module_remove(uint32_t slot)
{
    enum qr_status status = QR_OK;

    if (known[slot].start.v < known[slot].end.v)
        status = qr_frames_remove(memory.frames, known[slot]);
    printk("hotplug: slot %u: %s\n", slot,
           status == QR_OK ? "removed" : "frames in use cannot move: it stays");
    if (status != QR_OK) {
        module_write(slot, MODULE_IS_TO_GO);
        return;
    }
    direct_hide(known[slot]);
    known[slot] = (struct qr_pa_range){qr_pa_of(0), qr_pa_of(0)};
    module_write(slot, MODULE_IS_TO_GO);
    module_write(slot, MODULE_EJECT);
}

static void
hotplug_main(void *argument)
{
    bool refused[SLOTS] = {false};

    (void)argument;
    for (;;) {
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            struct module module = module_read(slot);
            bool is_known = known[slot].start.v < known[slot].end.v;

            if (!(module.status & MODULE_THERE)) {
                refused[slot] = false;
            } else if (module.status & MODULE_IS_TO_GO) {
                module_remove(slot);
            } else if (!is_known && !refused[slot]) {
                module_add(slot, &module);
                refused[slot] = known[slot].start.v == known[slot].end.v;
            }
        }
        sched_sleep_until(qr_port_clock_ns() + PERIOD_NS);
    }
}

void
platform_start_hotplug(void)
{
    bool announced = false;

    for (unsigned i = 0; i < boot_machine.memory_count; i++)
        announced |= boot_machine.memory[i].hotplug;
    port_write32(PORT, 0);
    if (!announced || inb(PORT_STATUS) == 0xff)
        return;
    if (kernel_thread_start("khotplugd", hotplug_main, NULL) == NULL)
        printk("hotplug: no room for its thread\n");
}
