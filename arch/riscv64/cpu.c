/* SPDX-License-Identifier: MIT */
/*
 * TLB flushes and the switch of the root: RISC-V.
 *
 * SFENCE.VMA orders stores to tables before later walks of this hart, and drops
 * what the walks before it cached: for one address and identifier leaves only; for
 * an identifier, or everything, tables too.  Global entries go only where the
 * identifier is not given (x0).  With Svinval a run of addresses is dropped
 * between two fences instead of behind one each.
 *
 * Frames that held code come back with other contents, and a hart's instruction
 * cache may still hold the old.  A hart fetches from a frame only through a
 * translation, so FENCE.I beside every flush, and beside every switch to a space
 * whose translations were not kept, makes the frame's next contents seen: nothing
 * else in the kernel has to think of it.
 *
 * Nothing reaches another hart from here: the tlb layer interrupts those.  The
 * firmware's remote fences were measured to cost more (docs/boot-riscv64.md), and they
 * cannot be kept from harts that will flush anyway when they come back to the space.
 */
#include <quire/arch.h>
#include <quire/assert.h>

#include "quire_riscv64.h"

#define SATP_MODE_SHIFT 60
#define SATP_ASID_SHIFT 44
#define SATP_ASID_MAX   0xffffu

uint8_t qr_riscv_satp_mode;
uint8_t qr_riscv_svinval;

static inline void
fence_vma_all(void)
{
    __asm__ volatile("sfence.vma; fence.i" : : : "memory");
}

static inline void
fence_vma_asid(unsigned asid)
{
    __asm__ volatile("sfence.vma x0, %0; fence.i" : : "r"((uintptr_t)asid) : "memory");
}

static inline void
fence_vma_page(uintptr_t va, unsigned asid, bool global)
{
    if (global)
        __asm__ volatile("sfence.vma %0, x0" : : "r"(va) : "memory");
    else
        __asm__ volatile("sfence.vma %0, %1" : : "r"(va), "r"((uintptr_t)asid) : "memory");
}

/* SINVAL.VMA; the assembler need not know Svinval. */
static inline void
invalidate_page(uintptr_t va, unsigned asid, bool global)
{
    if (global)
        __asm__ volatile(".insn r 0x73, 0, 0x0b, x0, %0, x0" : : "r"(va) : "memory");
    else
        __asm__ volatile(".insn r 0x73, 0, 0x0b, x0, %0, %1"
                         :
                         : "r"(va), "r"((uintptr_t)asid)
                         : "memory");
}

static inline void
svinval_begin(void)
{
    __asm__ volatile(".insn r 0x73, 0, 0x0c, x0, x0, x0" : : : "memory"); /* SFENCE.W.INVAL */
}

static inline void
svinval_end(void)
{
    __asm__ volatile(".insn r 0x73, 0, 0x0c, x0, x0, x1" : : : "memory"); /* SFENCE.INVAL.IR */
}

bool
qr_arch_flush_broadcasts(void)
{
    return false;
}

static void
flush_runs(const struct qr_flush *flush)
{
    if (qr_riscv_svinval)
        svinval_begin();
    for (unsigned i = 0; i < flush->run_count; i++) {
        const struct qr_flush_run *run = &flush->runs[i];
        uintptr_t step = (uintptr_t)1 << run->shift;

        for (uintptr_t va = run->start.v; va - run->start.v <= run->last.v - run->start.v;
             va += step) {
            if (qr_riscv_svinval)
                invalidate_page(va, flush->asid, flush->global);
            else
                fence_vma_page(va, flush->asid, flush->global);
            if (run->last.v - va < step)
                break; /* the run may end where addresses do */
        }
    }
    if (qr_riscv_svinval)
        svinval_end();
    __asm__ volatile("fence.i" : : : "memory");
}

void
qr_arch_flush_pages(const struct qr_flush *flush)
{
    if (!flush->tables)
        flush_runs(flush);
    else if (flush->global)
        fence_vma_all();
    else
        fence_vma_asid(flush->asid);
}

void
qr_arch_flush_asid(unsigned asid, enum qr_flush_reach reach)
{
    (void)reach;
    fence_vma_asid(asid);
}

void
qr_arch_flush_all(enum qr_flush_reach reach)
{
    (void)reach;
    fence_vma_all();
}

void
qr_arch_root_switch(qr_pa root, unsigned asid, bool keep)
{
    uint64_t satp = (uint64_t)qr_riscv_satp_mode << SATP_MODE_SHIFT |
                    (uint64_t)asid << SATP_ASID_SHIFT | root.v >> QR_PAGE_SHIFT;

    qr_assert((root.v & QR_PAGE_MASK) == 0 && asid <= SATP_ASID_MAX);
    /* Writing satp orders nothing: stores to tables before walks from the new root. */
    __asm__ volatile("fence rw, rw; csrw satp, %0" : : "r"(satp) : "memory");
    if (!keep)
        fence_vma_asid(asid);
}

bool
qr_arch_publish(void)
{
    __asm__ volatile("sfence.vma" : : : "memory");
    return false;
}

/* This hart; the others fetch afresh when they flush or switch roots. */
bool
qr_arch_code_written(qr_pa pa, size_t bytes)
{
    (void)pa, (void)bytes;
    __asm__ volatile("fence rw, rw; fence.i" : : : "memory");
    return true;
}
