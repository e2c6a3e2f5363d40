/* SPDX-License-Identifier: MIT */
#ifndef QR_REPORT_INTERNAL_H
#define QR_REPORT_INTERNAL_H

#include <quire/report.h>

static inline unsigned long
pages_to_kb(size_t pages)
{
    return (unsigned long)(pages << (QR_PAGE_SHIFT - 10));
}

static inline size_t
gauge(const struct qr_report *report, enum qr_counter which)
{
    return (size_t)qr_counter_read(qr_frames_counters(report->frames), which);
}

/* The per-node lines of zoneinfo. */
void qr_report_node_stats(const struct qr_report *report, struct qr_writer *writer);

#endif
