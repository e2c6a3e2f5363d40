/* SPDX-License-Identifier: MIT */
/*
 * TLB flushes and the switch of the root: x86-64.
 *
 * With PCID an entry is tagged by the low 12 bits of CR3; INVLPG acts on the
 * current tag and on global entries, so another tag needs INVPCID, or, on the few
 * CPUs that have PCID without INVPCID, a visit: load CR3 with that tag, which
 * drops its entries, and come back.  Without PCID there is one tag, 0, and what
 * is flushed is always the current one.
 *
 * Any of them may be called with interrupts on: the visit turns them off.
 */
#include <quire/arch.h>
#include <quire/assert.h>
#include <quire/port.h>

#include "quire_x86_64.h"

#define CR3_KEEP ((uint64_t)1 << 63)
#define CR3_TAG  ((uint64_t)0xfff)
#define CR4_PGE  ((uint64_t)1 << 7)

uint8_t qr_x86_pcid;
uint8_t qr_x86_invpcid;

enum invpcid_kind { INVPCID_ADDRESS, INVPCID_TAG, INVPCID_ALL_GLOBAL, INVPCID_ALL };

static inline uint64_t
cr3_read(void)
{
    uint64_t value;

    __asm__ volatile("movq %%cr3, %0" : "=r"(value));
    return value;
}

static inline void
cr3_write(uint64_t value)
{
    __asm__ volatile("movq %0, %%cr3" : : "r"(value) : "memory");
}

static inline void
invlpg(qr_va va)
{
    __asm__ volatile("invlpg (%0)" : : "r"(va.v) : "memory");
}

static inline void
invpcid(enum invpcid_kind kind, unsigned asid, qr_va va)
{
    struct {
        uint64_t tag, address;
    } descriptor = {asid, va.v};

    __asm__ volatile("invpcid %0, %1" : : "m"(descriptor), "r"((uint64_t)kind) : "memory");
}

static bool
asid_is_current(unsigned asid)
{
    return !qr_x86_pcid || (cr3_read() & CR3_TAG) == asid;
}

/** Drop every non-global entry of a tag that is not the current one. */
static void
visit_asid(unsigned asid)
{
    uintptr_t state = qr_port_irq_save();
    uint64_t here = cr3_read();

    cr3_write((here & ~CR3_TAG) | asid);
    cr3_write(here | CR3_KEEP);
    qr_port_irq_restore(state);
}

bool
qr_arch_flush_broadcasts(void)
{
    return false;
}

/*
 * INVLPG drops the entry of any size that translates the address, and all walk caches of
 * the current tag; INVPCID those that would be used for the address.  Either is more than
 * enough where tables went.
 */
void
qr_arch_flush_pages(const struct qr_flush *flush)
{
    bool here = flush->global || asid_is_current(flush->asid);

    if (!here && !qr_x86_invpcid) {
        visit_asid(flush->asid);
        return;
    }
    for (unsigned i = 0; i < flush->run_count; i++) {
        const struct qr_flush_run *run = &flush->runs[i];
        uintptr_t last_step = (run->last.v - run->start.v) >> run->shift;

        for (uintptr_t step = 0; step <= last_step; step++) {
            qr_va va = qr_va_of(run->start.v + (step << run->shift));

            if (here)
                invlpg(va);
            else
                invpcid(INVPCID_ADDRESS, flush->asid, va);
        }
    }
}

void
qr_arch_flush_asid(unsigned asid, enum qr_flush_reach reach)
{
    (void)reach; /* no x86 CPU flushes another's TLB */
    if (asid_is_current(asid)) {
        uint64_t cr3 = cr3_read();

        cr3_write(cr3 & ~CR3_KEEP);
    } else if (qr_x86_invpcid) {
        invpcid(INVPCID_TAG, asid, qr_va_of(0));
    } else {
        visit_asid(asid);
    }
}

void
qr_arch_flush_all(enum qr_flush_reach reach)
{
    uintptr_t state = qr_port_irq_save();
    uint64_t cr4;

    (void)reach;
    if (qr_x86_invpcid) {
        invpcid(INVPCID_ALL_GLOBAL, 0, qr_va_of(0));
    } else {
        /* A change of PGE drops everything, of every tag. */
        __asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
        __asm__ volatile("movq %0, %%cr4" : : "r"(cr4 ^ CR4_PGE) : "memory");
        __asm__ volatile("movq %0, %%cr4" : : "r"(cr4) : "memory");
    }
    qr_port_irq_restore(state);
}

void
qr_arch_root_switch(qr_pa root, unsigned asid, bool keep)
{
    uint64_t cr3 = root.v;

    qr_assert((root.v & QR_PAGE_MASK) == 0 && asid <= CR3_TAG);
    if (qr_x86_pcid)
        cr3 |= asid | (keep ? CR3_KEEP : 0);
    cr3_write(cr3);
}

bool
qr_arch_publish(void)
{
    return true; /* stores are seen in order, and what is not present is not remembered */
}

bool
qr_arch_code_written(qr_pa pa, size_t bytes)
{
    (void)pa, (void)bytes;
    return false;
}
