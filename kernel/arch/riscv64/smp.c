/* SPDX-License-Identifier: MIT */
/*
 * Starting the other CPUs, and interrupts between CPUs: both by the firmware (SBI).
 *
 * One CPU at a time: the boot CPU leaves the block and the stack of the next one
 * for boot.S to find, has the firmware start the hart, and waits until it reports.  One
 * that does not is the last, with a line in the log.  CPU indices stay dense,
 * whichever hart booted.
 *
 * An interrupt between CPUs has no number: what it is about stands in the receiver's
 * arch.ipi, one bit a kind, set before and taken after.
 */
#include "cpu.h"

#include <boot.h>
#include <memory.h>
#include <sbi.h>

#include <quire_riscv64.h>

extern const uint64_t image_range[2];

/** As boot.S reads it: what the next hart that comes in needs. */
struct ap_block {
    uint64_t satp;
    uint64_t stack_top;
    struct cpu *cpu;
};

extern struct ap_block ap_block;
struct ap_block ap_block;

static bool
cpu_start(unsigned index, uint64_t hart)
{
    struct cpu *cpu = &cpus[index];
    uintptr_t stack = stack_alloc();

    if (stack == 0)
        return false;
    cpu->index = index;
    cpu->quire.index = index;
    cpu->quire.node = memory_node_of_cpu(hart);
    cpu->arch.quire = &cpu->quire;
    cpu->arch.hart = hart;
    cpu->arch.boot_stack = cpu->arch.stack_low = stack;
    ap_block =
        (struct ap_block){satp_of(memory.kernel_tables.root_pa.v), stack + KERNEL_STACK_BYTES, cpu};
    atomic_thread_fence(memory_order_seq_cst);
    /* On failure the stack is not taken back: the hart may come up late. */
    return sbi_hart_start(hart, image_range[0]) && cpu_wait_online(index + 1, CPU_START_WAIT_NS);
}

void
arch_start_cpus(void)
{
    unsigned index = 1;

    cpus[0].quire.node = memory_node_of_cpu(cpus[0].arch.hart);
    for (unsigned i = 0; i < boot_machine.cpu_count; i++) {
        uint64_t hart = boot_machine.cpu_ids[i];

        if (hart == cpus[0].arch.hart)
            continue;
        if (cpu_start(index, hart)) {
            index++;
        } else {
            printk("smp: hart %lu does not start; continuing without the rest\n", hart);
            break;
        }
    }
    printk("smp: %u CPU%s\n", index, index == 1 ? "" : "s");
}

void
ap_entry(struct cpu *cpu)
{
    features_enable();
    clock_tick_start();
    memory_cpu_online();
    cpu_note_online();
    (void)cpu;
    cpu_main();
}

/* ---- Interrupts between CPUs ------------------------------------------------------- */

/** @return whether an interrupt is needed: what is pending already has one that will see this bit */
static bool
ipi_note(struct cpu *cpu, enum ipi_kind kind)
{
    return atomic_fetch_or(&cpu->arch.ipi, 1u << kind) == 0;
}

void
arch_ipi_send(unsigned cpu_index, enum ipi_kind kind)
{
    struct cpu *cpu = &cpus[cpu_index];

    if (ipi_note(cpu, kind))
        sbi_ipi_send(1, cpu->arch.hart);
}

/** One call of the firmware for all harts whose numbers fit one mask. */
void
arch_ipi_send_set(const struct qr_cpu_set *set, enum ipi_kind kind)
{
    uint64_t harts = 0;

    for (unsigned i = 0; i < cpu_count(); i++) {
        struct cpu *cpu = &cpus[i];

        if (!qr_cpu_set_has(set, i) || !ipi_note(cpu, kind))
            continue;
        if (cpu->arch.hart < 64)
            harts |= (uint64_t)1 << cpu->arch.hart;
        else
            sbi_ipi_send(1, cpu->arch.hart);
    }
    if (harts != 0)
        sbi_ipi_send(harts, 0);
}

void
ipi_interrupt(void)
{
    uint32_t kinds;

    csr_clear(sip, 1u << IRQ_SOFTWARE);
    kinds = atomic_exchange(&cpu_this()->arch.ipi, 0);
    if (kinds & 1u << IPI_STOP) {
        for (;;)
            __asm__ volatile("wfi");
    }
    if (kinds & 1u << IPI_TLB)
        mm_tlb_interrupt();
    if (kinds & 1u << IPI_BARRIER)
        cpu_barrier_interrupt();
    /* IPI_RESCHEDULE: the way out of the interrupt looks at need_resched. */
}
