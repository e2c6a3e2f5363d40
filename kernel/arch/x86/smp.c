/* SPDX-License-Identifier: MIT */
/*
 * Starting the other CPUs, and interrupts between CPUs.
 *
 * One CPU at a time: the boot CPU leaves the block and the stack of the next one
 * for boot.S to find, sends INIT and STARTUP, and waits until it reports.  One
 * that does not is the last, with a line in the log.  CPU indices stay dense.
 */
#include "cpu.h"

#include <boot.h>
#include <kstring.h>
#include <memory.h>

#define START_RETRY_NS 1000000u

extern const uint64_t cpus_bytes;
const uint64_t cpus_bytes = sizeof cpus;

/* Physical addresses in the boot section, from boot.S. */
extern const uint64_t boot_pa_trampoline, boot_trampoline_bytes, boot_pa_ap_block;

/** As boot.S reads it. */
struct ap_block {
    uintptr_t cr3;
    uintptr_t stack_top;
    struct cpu *cpu;
};

static bool
cpu_prepare(struct cpu *cpu, unsigned index, uint32_t apic_id)
{
    uintptr_t fault_stack = stack_alloc();

    if (fault_stack == 0)
        return false;
    cpu->index = index;
    cpu->quire.index = index;
    cpu->quire.node = memory_node_of_cpu(apic_id);
    cpu->arch.apic_id = apic_id;
    descriptors_set_fault_stack(cpu, fault_stack);
    return true;
}

static bool
cpu_start(unsigned index, uint32_t apic_id)
{
    struct cpu *cpu = &cpus[index];
    struct ap_block *block = direct_map(boot_pa_ap_block);
    uintptr_t stack = stack_alloc();

    if (stack == 0 || !cpu_prepare(cpu, index, apic_id))
        return false;
    *block = (struct ap_block){cr3_read() & ~(uintptr_t)0xfff, stack + KERNEL_STACK_BYTES, cpu};

    lapic_send(apic_id, LAPIC_INIT);
    clock_spin_ns(20000);
    lapic_send(apic_id, LAPIC_STARTUP | TRAMPOLINE_PA >> 12);
    if (cpu_wait_online(index + 1, START_RETRY_NS))
        return true;
    lapic_send(apic_id, LAPIC_STARTUP | TRAMPOLINE_PA >> 12);
    return cpu_wait_online(index + 1, CPU_START_WAIT_NS);
}

void
arch_start_cpus(void)
{
    uint32_t self = cpus[0].arch.apic_id;
    unsigned index = 1;

    if (!cpu_prepare(&cpus[0], 0, self))
        panic("no memory for the boot CPU's exception stacks");
    memcpy(direct_map(TRAMPOLINE_PA), direct_map(boot_pa_trampoline), boot_trampoline_bytes);
    for (unsigned i = 0; i < boot_machine.cpu_count; i++) {
        uint32_t apic_id = (uint32_t)boot_machine.cpu_ids[i];

        if (apic_id == self)
            continue;
        if (cpu_start(index, apic_id)) {
            index++;
        } else {
            printk("smp: the CPU with APIC id %u does not start; continuing without the rest\n",
                   apic_id);
            break;
        }
    }
    printk("smp: %u CPU%s\n", index, index == 1 ? "" : "s");
}

void
ap_entry(struct cpu *cpu)
{
    features_enable();
    descriptors_load(cpu);
    lapic_init();
    lapic_timer_start();
    memory_cpu_online();
    cpu_note_online();
    cpu_main();
}

void
arch_ipi_send(unsigned cpu_index, enum ipi_kind kind)
{
    static const uint32_t vectors[] = {
        [IPI_RESCHEDULE] = VECTOR_IPI_RESCHED,
        [IPI_TLB] = VECTOR_IPI_TLB,
        [IPI_STOP] = VECTOR_IPI_STOP,
        [IPI_BARRIER] = VECTOR_IPI_BARRIER,
    };

    lapic_send(cpus[cpu_index].arch.apic_id, LAPIC_FIXED | vectors[kind]);
}
