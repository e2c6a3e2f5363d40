/* SPDX-License-Identifier: MIT */
/*
 * TLB flushes and the switch of the root: AArch64.
 *
 * Every flush is the same sequence: stores to tables reach the walkers (DSB),
 * TLBI instructions, their completion on every CPU in reach (DSB), and nothing
 * prefetched before (ISB).  The inner-shareable forms reach the other CPUs, so no
 * interrupt is needed.
 *
 * An operand names the address in 4 KiB units (bits 43 to 0) and the identifier
 * (63 to 48).  The last-level forms leave walk caches alone.  With FEAT_TLBIRANGE
 * one instruction drops (NUM + 1) << (5 * SCALE + 1) pages, and its operand counts in pages.
 *
 * The identifier stands in TTBR0_EL1 with the root, and both change in one write.  The
 * kernel's own root is TTBR1_EL1's for good: to switch to it is to have no users' one, for in
 * TTBR0_EL1 it would show the kernel's memory a second time, low.
 */
#include <quire/arch.h>
#include <quire/assert.h>
#include <quire/port.h>

#include "quire_aarch64.h"

#define ASID_SHIFT      48
#define ROOT_MASK       (((uint64_t)1 << ASID_SHIFT) - 2) /* bit 0: CnP */
#define UNIT_SHIFT      12
#define UNIT_MASK       (((uint64_t)1 << 44) - 1)
#define RANGE_BASE_MASK (((uint64_t)1 << 37) - 1)
#define RANGE_GRANULE   ((uint64_t)(QR_PAGE_SHIFT / 2 - 5) << 46) /* 1: 4 KiB, 2: 16, 3: 64 */
#define RANGE_SCALES    4u
/* Fewer single instructions than this are not worth the arithmetic of a range. */
#define RANGE_MIN_UNITS 4u

uint8_t qr_aarch64_pan;
uint8_t qr_aarch64_tlbi_range;
uint64_t qr_aarch64_empty_root;

#define BARRIER(kind) __asm__ volatile("dsb " #kind : : : "memory")
#define TLBI(operation, operand) \
    __asm__ volatile("tlbi " #operation ", %0" : : "r"(operand) : "memory")
/* The range operations are newer than the assembler's default. */
#define TLBI_SYS(crm, op2, operand) \
    __asm__ volatile("sys #0, c8, " #crm ", #" #op2 ", %0" : : "r"(operand) : "memory")

static inline void
context_synchronize(void)
{
    __asm__ volatile("isb" : : : "memory");
}

bool
qr_arch_flush_broadcasts(void)
{
    return true;
}

/* ---- One instruction ---------------------------------------------------------------- */

/** Which of the eight forms; an index of bits. */
enum { FORM_TABLES = 1, FORM_ALL_ASIDS = 2, FORM_EVERYWHERE = 4 };

static unsigned
form_of(const struct qr_flush *flush)
{
    return (flush->tables ? FORM_TABLES : 0) | (flush->global ? FORM_ALL_ASIDS : 0) |
           (flush->reach == QR_FLUSH_EVERYWHERE ? FORM_EVERYWHERE : 0);
}

static void
flush_unit(unsigned form, uint64_t operand)
{
    switch (form) {
    case 0:
        TLBI(vale1, operand);
        break;
    case FORM_TABLES:
        TLBI(vae1, operand);
        break;
    case FORM_ALL_ASIDS:
        TLBI(vaale1, operand);
        break;
    case FORM_ALL_ASIDS | FORM_TABLES:
        TLBI(vaae1, operand);
        break;
    case FORM_EVERYWHERE:
        TLBI(vale1is, operand);
        break;
    case FORM_EVERYWHERE | FORM_TABLES:
        TLBI(vae1is, operand);
        break;
    case FORM_EVERYWHERE | FORM_ALL_ASIDS:
        TLBI(vaale1is, operand);
        break;
    default:
        TLBI(vaae1is, operand);
        break;
    }
}

static void
flush_range(unsigned form, uint64_t operand)
{
    switch (form) {
    case 0:
        TLBI_SYS(c6, 5, operand); /* rvale1 */
        break;
    case FORM_TABLES:
        TLBI_SYS(c6, 1, operand); /* rvae1 */
        break;
    case FORM_ALL_ASIDS:
        TLBI_SYS(c6, 7, operand); /* rvaale1 */
        break;
    case FORM_ALL_ASIDS | FORM_TABLES:
        TLBI_SYS(c6, 3, operand); /* rvaae1 */
        break;
    case FORM_EVERYWHERE:
        TLBI_SYS(c2, 5, operand); /* rvale1is */
        break;
    case FORM_EVERYWHERE | FORM_TABLES:
        TLBI_SYS(c2, 1, operand); /* rvae1is */
        break;
    case FORM_EVERYWHERE | FORM_ALL_ASIDS:
        TLBI_SYS(c2, 7, operand); /* rvaale1is */
        break;
    default:
        TLBI_SYS(c2, 3, operand); /* rvaae1is */
        break;
    }
}

/* ---- Runs ---------------------------------------------------------------------------- */

static void
run_by_steps(const struct qr_flush_run *run, unsigned form, uint64_t tag)
{
    uint64_t steps = ((run->last.v - run->start.v) >> run->shift) + 1;
    uint64_t unit = run->start.v >> UNIT_SHIFT;

    for (; steps > 0; steps--) {
        flush_unit(form, tag | (unit & UNIT_MASK));
        unit += (uint64_t)1 << (run->shift - UNIT_SHIFT);
    }
}

/**
 * By ranges of 2, 64, 2048, ... pages times 1 to 32, smallest scale first, so that what is
 * left is a multiple of the next; an odd page, and what no range can hold, goes by itself.
 */
static void
run_by_ranges(const struct qr_flush_run *run, unsigned form, uint64_t tag)
{
    uint64_t pages = ((run->last.v - run->start.v) >> QR_PAGE_SHIFT) + 1;
    uint64_t va = run->start.v;
    unsigned scale = 0;

    while (pages > 0) {
        if ((pages & 1) != 0 || scale == RANGE_SCALES) {
            flush_unit(form, tag | (va >> UNIT_SHIFT & UNIT_MASK));
            va += QR_PAGE_SIZE;
            pages--;
            continue;
        }
        uint64_t num = pages >> (5 * scale + 1) & 31;

        if (num > 0) {
            flush_range(form, tag | RANGE_GRANULE | (uint64_t)scale << 44 | (num - 1) << 39 |
                                  (va >> QR_PAGE_SHIFT & RANGE_BASE_MASK));
            va += num << (5 * scale + 1) << QR_PAGE_SHIFT;
            pages -= num << (5 * scale + 1);
        }
        scale++;
    }
}

void
qr_arch_flush_pages(const struct qr_flush *flush)
{
    unsigned form = form_of(flush);
    uint64_t tag = flush->global ? 0 : (uint64_t)flush->asid << ASID_SHIFT;

    BARRIER(ishst);
    for (unsigned i = 0; i < flush->run_count; i++) {
        const struct qr_flush_run *run = &flush->runs[i];
        uint64_t steps = ((run->last.v - run->start.v) >> run->shift) + 1;

        if (qr_aarch64_tlbi_range && steps >= RANGE_MIN_UNITS)
            run_by_ranges(run, form, tag);
        else
            run_by_steps(run, form, tag);
    }
    BARRIER(ish);
    context_synchronize();
}

void
qr_arch_flush_asid(unsigned asid, enum qr_flush_reach reach)
{
    uint64_t tag = (uint64_t)asid << ASID_SHIFT;

    BARRIER(ishst);
    if (reach == QR_FLUSH_EVERYWHERE)
        TLBI(aside1is, tag);
    else
        TLBI(aside1, tag);
    BARRIER(ish);
    context_synchronize();
}

void
qr_arch_flush_all(enum qr_flush_reach reach)
{
    BARRIER(ishst);
    if (reach == QR_FLUSH_EVERYWHERE)
        __asm__ volatile("tlbi vmalle1is" : : : "memory");
    else
        __asm__ volatile("tlbi vmalle1" : : : "memory");
    BARRIER(ish);
    context_synchronize();
}

void
qr_arch_root_switch(qr_pa root, unsigned asid, bool keep)
{
    uint64_t kernel;
    uint64_t ttbr;

    __asm__ volatile("mrs %0, ttbr1_el1" : "=r"(kernel));
    ttbr = root.v == (kernel & ROOT_MASK) ? qr_aarch64_empty_root : root.v;
    ttbr |= (uint64_t)asid << ASID_SHIFT;
    qr_assert((root.v & QR_PAGE_MASK) == 0 && root.v >> ASID_SHIFT == 0 && asid <= UINT16_MAX);
    BARRIER(ishst);
    if (!keep) {
        /* Away from both while it is flushed: neither space may fill, or use, the other's entries. */
        __asm__ volatile("msr ttbr0_el1, %0" : : "r"(qr_aarch64_empty_root) : "memory");
        context_synchronize();
        qr_arch_flush_asid(asid, QR_FLUSH_HERE);
    }
    __asm__ volatile("msr ttbr0_el1, %0" : : "r"(ttbr) : "memory");
    context_synchronize();
}

bool
qr_arch_publish(void)
{
    BARRIER(ishst);
    context_synchronize();
    return true;
}

/* ---- Code ------------------------------------------------------------------------------ */

#define CTR_IDC ((uint64_t)1 << 28) /* fetches see data caches without cleaning */
#define CTR_DIC ((uint64_t)1 << 29) /* instruction caches need no invalidation */

/** Data caches: to where fetches look; then the instruction caches of every CPU: all of them. */
bool
qr_arch_code_written(qr_pa pa, size_t bytes)
{
    uintptr_t start = (uintptr_t)qr_port_window_open(pa);
    uint64_t type;
    uintptr_t line;

    __asm__("mrs %0, ctr_el0" : "=r"(type));
    line = (uintptr_t)4 << (type >> 16 & 15);
    if (!(type & CTR_IDC)) {
        for (uintptr_t at = start & ~(line - 1); at < start + bytes; at += line)
            __asm__ volatile("dc cvau, %0" : : "r"(at) : "memory");
    }
    BARRIER(ish);
    if (!(type & CTR_DIC))
        __asm__ volatile("ic ialluis" : : : "memory");
    BARRIER(ish);
    context_synchronize();
    qr_port_window_close((void *)start);
    return true;
}
