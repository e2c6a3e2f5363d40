/* SPDX-License-Identifier: MIT */
/*
 * Starting the other CPUs, and interrupts between CPUs.
 *
 * One CPU at a time: the boot CPU leaves the next one's tables, stack and block
 * for boot.S to find, asks the firmware to start it, and waits until it reports.
 * One that does not is the last, with a line in the log.  CPU indices stay dense.
 */
#include "cpu.h"

#include <boot.h>
#include <memory.h>

#include "../../boot/aarch64/paging.h"

/** As boot.S reads it, before the MMU is on. */
static struct ap_block {
    uint64_t root;
    uint64_t stack_top;
    struct cpu *cpu;
} ap_block QR_CACHE_ALIGNED;

_Static_assert(offsetof(struct ap_block, root) == AP_ROOT, "boot.S");
_Static_assert(offsetof(struct ap_block, stack_top) == AP_STACK, "boot.S");
_Static_assert(offsetof(struct ap_block, cpu) == AP_CPU, "boot.S");

extern char secondary_entry[];

uint64_t
mpidr_affinity(void)
{
    return REGISTER_READ(mpidr_el1) & 0xff00ffffffu;
}

static bool
cpu_prepare(struct cpu *cpu, unsigned index, uint64_t mpidr)
{
    uintptr_t emergency = cpu->arch.emergency_top;

    if (emergency == 0) {
        uintptr_t stack = stack_alloc();

        if (stack == 0)
            return false;
        emergency = stack + KERNEL_STACK_BYTES;
    }
    cpu->index = index;
    cpu->quire.index = index;
    cpu->quire.node = memory_node_of_cpu(mpidr);
    cpu->arch.quire = &cpu->quire;
    cpu->arch.mpidr = mpidr;
    cpu->arch.emergency_top = emergency;
    return true;
}

/** To memory itself: the reader's caches are off. */
static void
clean_to_memory(const void *start, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 16)
        __asm__ volatile("dc cvac, %0" : : "r"((uintptr_t)start + i) : "memory");
    __asm__ volatile("dsb sy" : : : "memory");
}

static bool
cpu_start(unsigned index, uint64_t mpidr)
{
    uintptr_t stack = stack_alloc();

    if (stack == 0 || !cpu_prepare(&cpus[index], index, mpidr))
        return false;
    ap_block = (struct ap_block){paging_root(), stack + KERNEL_STACK_BYTES, &cpus[index]};
    clean_to_memory(&ap_block, sizeof ap_block);
    return psci_cpu_on(mpidr, image_pa(secondary_entry), image_pa(&ap_block)) &&
           cpu_wait_online(index + 1, CPU_START_WAIT_NS);
}

void
arch_start_cpus(void)
{
    uint64_t self = mpidr_affinity();
    unsigned index = 1;

    if (!cpu_prepare(&cpus[0], 0, self))
        panic("no memory for the boot CPU's emergency stack");
    for (unsigned i = 0; i < boot_machine.cpu_count; i++) {
        uint64_t mpidr = boot_machine.cpu_ids[i];

        if (mpidr == self || index == CONFIG_MAX_CPUS)
            continue;
        if (cpu_start(index, mpidr)) {
            index++;
        } else {
            printk("smp: the CPU with affinity %lx does not start; continuing without the rest\n",
                   mpidr);
            break;
        }
    }
    printk("smp: %u CPU%s\n", index, index == 1 ? "" : "s");
}

void
ap_entry(struct cpu *cpu)
{
    (void)cpu;
    features_enable();
    gic_cpu_init();
    arm_timer_cpu_start();
    memory_cpu_online();
    cpu_note_online();
    cpu_main();
}

void
arch_ipi_send(unsigned cpu_index, enum ipi_kind kind)
{
    gic_send(&cpus[cpu_index], kind);
}
