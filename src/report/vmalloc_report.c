/* SPDX-License-Identifier: MIT */
/* /proc/vmallocinfo: one line a block, by address. */
#include "report_internal.h"

static void
write_block(struct qr_writer *writer, const struct qr_vmalloc_block *block)
{
    /* Linux shows the extent with its guard behind. */
    qr_writer_printf(writer, "0x%016lx-0x%016lx %7zu %s", (unsigned long)block->range.start.v,
                     (unsigned long)(block->range.end.v + QR_PAGE_SIZE),
                     qr_va_range_bytes(block->range) + QR_PAGE_SIZE, block->owner);
    if (block->pages != 0)
        qr_writer_printf(writer, " pages=%zu vmalloc\n", block->pages);
    else
        qr_writer_printf(writer, " phys=0x%016llx ioremap\n", (unsigned long long)block->device.v);
}

void
qr_report_vmallocinfo(const struct qr_report *report, struct qr_writer *writer)
{
    for (unsigned i = 0; i < QR_REPORT_VMALLOC_MAX; i++) {
        struct qr_vmalloc *area = report->vmalloc[i];
        struct qr_vmalloc_block block = {.range = {{0}, {0}}};

        while (area != NULL && qr_vmalloc_next(area, block.range.end, &block))
            write_block(writer, &block);
    }
}
