/* SPDX-License-Identifier: MIT */
/*
 * Segment, task-state and interrupt descriptors.
 *
 * Each CPU has its own GDT and two TSSs; all share one IDT.  Interrupts from user
 * mode arrive on the thread's kernel stack (esp0).  A double fault goes through a
 * task gate: the CPU writes the registers of what it was doing into the first TSS
 * and takes those of the second, a stack among them, so that a kernel stack that
 * overflowed can still be reported.
 *
 * Segments are flat but for FS in the kernel, whose base is the CPU's block, and
 * the three that set_thread_area() gives to programs.
 */
#include "cpu.h"

#include <platform.h>

struct descriptor_tables {
    x86_descriptor gdt[GDT_ENTRIES];
    struct x86_tss tss;
    struct x86_tss double_fault;
};

struct __attribute__((packed)) table_pointer {
    uint16_t limit;
    uint32_t base;
};

struct idt_gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t reserved;
    uint8_t type;
    uint16_t offset_high;
};

static struct descriptor_tables descriptor_tables[CONFIG_MAX_CPUS] __attribute__((aligned(64)));
static struct idt_gate idt[256] __attribute__((aligned(16)));

#define GATE_INTERRUPT      0x8e
#define GATE_INTERRUPT_USER 0xee
#define GATE_TASK           0x85

#define SEGMENT_DATA 0x00cf93000000ffffu
#define SEGMENT_TSS  0x0000890000000000u

static x86_descriptor
with_base(x86_descriptor descriptor, uintptr_t base)
{
    return descriptor | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(base >> 24) << 56;
}

static x86_descriptor
tss_descriptor(const struct x86_tss *tss)
{
    return with_base(SEGMENT_TSS | (sizeof *tss - 1), (uintptr_t)tss);
}

static void
gdt_fill(struct descriptor_tables *t, const struct cpu *cpu)
{
    t->gdt[KERNEL_CS / 8] = 0x00cf9b000000ffffu;
    t->gdt[KERNEL_DS / 8] = SEGMENT_DATA;
    t->gdt[USER_CS / 8] = 0x00cffb000000ffffu;
    t->gdt[USER_DS / 8] = 0x00cff3000000ffffu;
    t->gdt[TSS_SEL / 8] = tss_descriptor(&t->tss);
    t->gdt[KERNEL_CPU / 8] = with_base(SEGMENT_DATA, (uintptr_t)cpu);
    t->gdt[DOUBLE_FAULT_SEL / 8] = tss_descriptor(&t->double_fault);
}

static bool
user_may_raise(unsigned vector)
{
    return vector == 3 || vector == 4 || vector == VECTOR_INT80; /* int3, into */
}

static void
idt_fill(bool double_fault_task)
{
    for (unsigned v = 0; v < 256; v++) {
        uintptr_t stub = vector_stubs[v];

        idt[v] = (struct idt_gate){
            .offset_low = (uint16_t)stub,
            .selector = KERNEL_CS,
            .type = user_may_raise(v) ? GATE_INTERRUPT_USER : GATE_INTERRUPT,
            .offset_high = (uint16_t)(stub >> 16),
        };
    }
    if (double_fault_task)
        idt[VECTOR_DOUBLE_FAULT] =
            (struct idt_gate){.selector = DOUBLE_FAULT_SEL, .type = GATE_TASK};
}

static void
load_gdt(const x86_descriptor *gdt)
{
    struct table_pointer pointer = {GDT_ENTRIES * 8 - 1, (uintptr_t)gdt};

    __asm__ volatile("lgdt %0\n\t"
                     "ljmp %1, $1f\n"
                     "1:\tmovl %2, %%ds\n\t"
                     "movl %2, %%es\n\t"
                     "movl %2, %%ss\n\t"
                     "movl %3, %%fs\n\t"
                     "movl %4, %%gs\n\t"
                     :
                     : "m"(pointer), "i"(KERNEL_CS), "r"(KERNEL_DS), "r"(KERNEL_CPU), "r"(0)
                     : "memory");
}

void
descriptors_load(struct cpu *cpu)
{
    struct descriptor_tables *t = &descriptor_tables[cpu->index];
    struct table_pointer idt_pointer = {sizeof idt - 1, (uintptr_t)idt};

    t->tss.io_map = sizeof t->tss;
    t->tss.ss0 = KERNEL_DS;
    cpu->arch.tss = &t->tss;
    cpu->arch.gdt = t->gdt;
    cpu->arch.self = cpu;
    cpu->arch.quire = &cpu->quire;
    gdt_fill(t, cpu);
    load_gdt(t->gdt);
    if (cpu->index == 0)
        idt_fill(false);
    __asm__ volatile("lidt %0; ltr %w1; lldt %w2" : : "m"(idt_pointer), "r"(TSS_SEL), "r"(0));
}

void
descriptors_set_fault_stack(struct cpu *cpu, uintptr_t stack)
{
    descriptor_tables[cpu->index].double_fault = (struct x86_tss){
        .cr3 = (uint32_t)platform_root().v,
        .eip = (uintptr_t)double_fault_entry,
        .eflags = 2,
        .esp = stack + KERNEL_STACK_BYTES,
        .cs = KERNEL_CS,
        .ss = KERNEL_DS,
        .ds = KERNEL_DS,
        .es = KERNEL_DS,
        .fs = KERNEL_CPU,
        .io_map = sizeof(struct x86_tss),
    };
    if (cpu->index == 0)
        idt_fill(true);
}

void
descriptors_set_tls(unsigned index, x86_descriptor descriptor)
{
    cpu_this()->arch.gdt[TLS_ENTRY_FIRST + index] = descriptor;
}

void
double_fault(void)
{
    const struct x86_tss *was = cpu_this()->arch.tss;
    struct trap_frame frame = {
        .ebx = was->ebx,
        .ecx = was->ecx,
        .edx = was->edx,
        .esi = was->esi,
        .edi = was->edi,
        .ebp = was->ebp,
        .eax = was->eax,
        .ds = was->ds,
        .es = was->es,
        .fs = was->fs,
        .gs = was->gs,
        .vector = VECTOR_DOUBLE_FAULT,
        .eip = was->eip,
        .cs = was->cs,
        .eflags = was->eflags,
        .esp = was->esp,
        .ss = was->ss,
    };

    trap_double_fault(&frame, was->esp);
}
