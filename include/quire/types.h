/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TYPES_H
#define QUIRE_TYPES_H

/**
 * @file
 * Addresses, frame numbers and ranges as types of their own, so that the
 * compiler refuses to mix them, and the checked arithmetic on them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/compiler.h>
#include <quire/config.h>

QR_BEGIN_DECLS

#define QR_PAGE_SHIFT ((unsigned)CONFIG_PAGE_SHIFT)
#define QR_PAGE_SIZE  ((size_t)1 << QR_PAGE_SHIFT)
#define QR_PAGE_MASK  (QR_PAGE_SIZE - 1)

/** A virtual address, of user or kernel. */
typedef struct {
    uintptr_t v;
} qr_va;

/** A physical address; 64 bits wide on 32-bit CPUs too (PAE). */
typedef struct {
    uint64_t v;
} qr_pa;

/** A physical frame number: the physical address divided by QR_PAGE_SIZE. */
typedef struct {
    size_t v;
} qr_pfn;

/** Virtual addresses [start, end); empty where start == end. */
struct qr_va_range {
    qr_va start;
    qr_va end;
};

/** Physical addresses [start, end); empty where start == end. */
struct qr_pa_range {
    qr_pa start;
    qr_pa end;
};

static inline qr_va
qr_va_of(uintptr_t raw)
{
    qr_va va = {raw};
    return va;
}

static inline qr_pa
qr_pa_of(uint64_t raw)
{
    qr_pa pa = {raw};
    return pa;
}

static inline qr_pfn
qr_pfn_of(size_t raw)
{
    qr_pfn pfn = {raw};
    return pfn;
}

/** The frame that holds @p pa. */
static inline qr_pfn
qr_pa_to_pfn(qr_pa pa)
{
    return qr_pfn_of((size_t)(pa.v >> QR_PAGE_SHIFT));
}

/** The first byte of frame @p pfn. */
static inline qr_pa
qr_pfn_to_pa(qr_pfn pfn)
{
    return qr_pa_of((uint64_t)pfn.v << QR_PAGE_SHIFT);
}

static inline uintptr_t
qr_va_page_down(uintptr_t raw)
{
    return raw & ~(uintptr_t)QR_PAGE_MASK;
}

/** Rounds up to a page; the caller knows that this does not wrap. */
static inline uintptr_t
qr_va_page_up(uintptr_t raw)
{
    return (raw + QR_PAGE_MASK) & ~(uintptr_t)QR_PAGE_MASK;
}

static inline size_t
qr_va_range_bytes(struct qr_va_range range)
{
    return range.end.v - range.start.v;
}

static inline size_t
qr_va_range_pages(struct qr_va_range range)
{
    return qr_va_range_bytes(range) >> QR_PAGE_SHIFT;
}

static inline bool
qr_va_range_contains(struct qr_va_range range, qr_va va)
{
    return va.v >= range.start.v && va.v < range.end.v;
}

/**
 * The page range that covers @p bytes from @p start: the one checked way from
 * (address, length) to a range.
 *
 * @return false where start is misaligned, the length is zero or wraps when
 *         rounded up, or the end passes @p limit; @p out_range is then untouched
 */
static inline QR_MUST_USE bool
qr_va_range_make(uintptr_t start, size_t bytes, uintptr_t limit, struct qr_va_range *out_range)
{
    uintptr_t rounded = qr_va_page_up(bytes);
    uintptr_t end;

    if ((start & QR_PAGE_MASK) != 0 || bytes == 0 || rounded < bytes)
        return false;
    if (__builtin_add_overflow(start, rounded, &end) || end > limit)
        return false;
    out_range->start = qr_va_of(start);
    out_range->end = qr_va_of(end);
    return true;
}

/** What a mapping allows.  WRITE without READ is kept as asked; hardware may grant more. */
enum qr_prot {
    QR_PROT_NONE = 0,
    QR_PROT_READ = 1 << 0,
    QR_PROT_WRITE = 1 << 1,
    QR_PROT_EXEC = 1 << 2,
    QR_PROT_USER = 1 << 3,    /**< reachable from user mode */
    QR_PROT_GLOBAL = 1 << 4,  /**< survives a switch of spaces; kernel half only */
    QR_PROT_GUARDED = 1 << 5, /**< indirect branches must meet a landing pad (BTI) */
    QR_PROT_TAGGED = 1 << 6,  /**< memory with tags (MTE) */
};

/** What an access wants.  The values of READ, WRITE, EXEC and USER equal those of enum qr_prot. */
enum qr_access {
    QR_ACCESS_READ = 1 << 0,
    QR_ACCESS_WRITE = 1 << 1,
    QR_ACCESS_EXEC = 1 << 2,
    QR_ACCESS_USER = 1 << 3, /**< made by user code, not by a kernel copy on its behalf */
    QR_ACCESS_KEY = 1 << 4,  /**< a protection key denied it */
};

/** How a mapping is cached; a format translates to PAT, MAIR or Svpbmt. */
enum qr_cacheability {
    QR_CACHE_WRITE_BACK = 0,
    QR_CACHE_WRITE_THROUGH,
    QR_CACHE_WRITE_COMBINING,
    QR_CACHE_UNCACHED, /**< device registers: no caching, no reordering, no speculation */
    QR_CACHE_COUNT,
};

QR_END_DECLS

#endif
