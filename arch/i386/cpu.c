/* SPDX-License-Identifier: MIT */
/*
 * TLB flushes and the switch of the root: 32-bit x86.
 *
 * There are no identifiers here (PCID needs 64-bit mode), so what is flushed is
 * always the current space.  With PAE a load of CR3 also reads the four top-level
 * entries anew.
 */
#include <quire/arch.h>
#include <quire/assert.h>
#include <quire/port.h>

#define CR4_PGE ((uintptr_t)1 << 7)

static inline uintptr_t
cr3_read(void)
{
    uintptr_t value;

    __asm__ volatile("movl %%cr3, %0" : "=r"(value));
    return value;
}

static inline void
cr3_write(uintptr_t value)
{
    __asm__ volatile("movl %0, %%cr3" : : "r"(value) : "memory");
}

bool
qr_arch_flush_broadcasts(void)
{
    return false;
}

/*
 * INVLPG drops the entry of any size that translates the address, and all walk caches.
 * The root's entries with PAE, which it does not drop, never change.
 */
void
qr_arch_flush_pages(const struct qr_flush *flush)
{
    for (unsigned i = 0; i < flush->run_count; i++) {
        const struct qr_flush_run *run = &flush->runs[i];
        uintptr_t last_step = (run->last.v - run->start.v) >> run->shift;

        for (uintptr_t step = 0; step <= last_step; step++)
            __asm__ volatile("invlpg (%0)" : : "r"(run->start.v + (step << run->shift)) : "memory");
    }
}

void
qr_arch_flush_asid(unsigned asid, enum qr_flush_reach reach)
{
    (void)asid;
    (void)reach; /* no x86 CPU flushes another's TLB */
    cr3_write(cr3_read());
}

/* A change of PGE drops everything; without global pages a load of CR3 does. */
void
qr_arch_flush_all(enum qr_flush_reach reach)
{
    uintptr_t state = qr_port_irq_save();
    uintptr_t cr4;

    (void)reach;
    __asm__ volatile("movl %%cr4, %0" : "=r"(cr4));
    if (cr4 & CR4_PGE) {
        __asm__ volatile("movl %0, %%cr4" : : "r"(cr4 ^ CR4_PGE) : "memory");
        __asm__ volatile("movl %0, %%cr4" : : "r"(cr4) : "memory");
    } else {
        cr3_write(cr3_read());
    }
    qr_port_irq_restore(state);
}

void
qr_arch_root_switch(qr_pa root, unsigned asid, bool keep)
{
    (void)asid;
    (void)keep;
    qr_assert((root.v & QR_PAGE_MASK) == 0 && root.v <= UINT32_MAX);
    cr3_write((uintptr_t)root.v);
}

bool
qr_arch_publish(void)
{
    return true; /* x86 does not remember that an entry was empty */
}

bool
qr_arch_code_written(qr_pa pa, size_t bytes)
{
    (void)pa, (void)bytes;
    return false;
}
