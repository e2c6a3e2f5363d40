/* SPDX-License-Identifier: MIT */
/*
 * A pointer that only moves up through the usable memory of the loader's map.
 *
 * The map is not to be trusted: entries overlap, wrap, or lie beyond the address
 * width.  A page counts as memory only where an entry says usable and no other entry
 * contradicts.  memory.c describes what was taken as a reserved range.
 */
#include <arch.h>
#include <boot.h>
#include <boot_pages.h>
#include <kstring.h>
#include <printk.h>

static uint64_t first;
static uint64_t pointer;
static uint64_t end;

/** Whether a page is memory that nobody needs; else *@p next is where to look further. */
static bool
page_is_free(uint64_t pa, uint64_t *next)
{
    bool usable = false;

    *next = pa + QR_PAGE_SIZE;
    for (unsigned i = 0; i < boot_info.region_count; i++) {
        const struct boot_region *r = &boot_info.regions[i];
        uint64_t region_end = r->start + r->bytes;

        if (r->kind == BOOT_REGION_USABLE) {
            usable |= pa >= r->start && pa + QR_PAGE_SIZE <= region_end;
        } else if (pa < region_end && pa + QR_PAGE_SIZE > r->start) {
            *next = (region_end + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK;
            return false;
        }
    }
    if (pa < boot_info.initrd.end.v && pa + QR_PAGE_SIZE > boot_info.initrd.start.v) {
        *next = (boot_info.initrd.end.v + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK;
        return false;
    }
    return usable;
}

void
boot_pages_init(uint64_t start, uint64_t limit)
{
    uint64_t next;

    pointer = (start + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK;
    end = limit;
    while (pointer < end && !page_is_free(pointer, &next))
        pointer = next;
    first = pointer;
}

static void
clear(uint64_t pa, uint64_t pa_end)
{
    for (; pa < pa_end; pa += QR_PAGE_SIZE) {
        void *window = qr_port_window_open(qr_pa_of(pa));

        memset(window, 0, QR_PAGE_SIZE);
        qr_port_window_close(window);
    }
}

uint64_t
boot_pages_alloc(uint64_t pages)
{
    uint64_t start = pointer;
    uint64_t next = start;

    while (next < end) {
        uint64_t pa = next;

        if (!page_is_free(pa, &next)) {
            start = next;
        } else if (next - start == pages * QR_PAGE_SIZE) {
            pointer = next;
            clear(start, next);
            return start;
        }
    }
    panic("the memory map has no %lu free pages side by side from %lx on", (unsigned long)pages,
          (unsigned long)first);
}

struct qr_pa_range
boot_pages_taken(void)
{
    return (struct qr_pa_range){qr_pa_of(first), qr_pa_of(pointer)};
}
