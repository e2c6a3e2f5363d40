/* SPDX-License-Identifier: MIT */
/*
 * Segment, task-state and interrupt descriptors.
 *
 * Each CPU has its own GDT and TSS (the TSS names its stacks); all share one IDT.
 * Interrupts from user mode arrive on the thread's kernel stack (rsp[0]); the
 * exceptions that may hit while that stack is unusable have stacks of their own.
 */
#include "cpu.h"

struct descriptor_tables {
    uint64_t gdt[GDT_ENTRIES];
    struct x86_tss tss;
};

struct __attribute__((packed)) table_pointer {
    uint16_t limit;
    uint64_t base;
};

struct idt_gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};

static struct descriptor_tables descriptor_tables[CONFIG_MAX_CPUS] __attribute__((aligned(64)));
static struct idt_gate idt[256] __attribute__((aligned(16)));

#define GATE_INTERRUPT      0x8e
#define GATE_INTERRUPT_USER 0xee

static void
gdt_fill(uint64_t gdt[GDT_ENTRIES], const struct x86_tss *tss)
{
    uint64_t base = (uintptr_t)tss;

    gdt[0] = 0;
    gdt[1] = 0x00cf9a000000ffff; /* unused */
    gdt[KERNEL_CS / 8] = 0x00af9b000000ffff;
    gdt[KERNEL_DS / 8] = 0x00cf93000000ffff;
    gdt[USER_CS32 / 8] = 0x00cffb000000ffff;
    gdt[USER_DS / 8] = 0x00cff3000000ffff;
    gdt[USER_CS / 8] = 0x00affb000000ffff;
    gdt[7] = 0;
    gdt[TSS_SEL / 8] = 0x0000890000000000 | (sizeof *tss - 1) | (base & 0xffffff) << 16 |
                       (base >> 24 & 0xff) << 56;
    gdt[TSS_SEL / 8 + 1] = base >> 32;
}

static unsigned
vector_ist(unsigned vector)
{
    switch (vector) {
    case VECTOR_DOUBLE_FAULT:
        return IST_DOUBLE_FAULT;
    case VECTOR_NMI:
        return IST_NMI;
    case VECTOR_DEBUG:
        return IST_DEBUG;
    case VECTOR_MACHINE_CHECK:
        return IST_MACHINE_CHECK;
    default:
        return 0;
    }
}

static void
idt_fill(unsigned ist_enabled)
{
    for (unsigned v = 0; v < 256; v++) {
        uintptr_t stub = vector_stubs[v];
        bool user_may_raise = v == 3 || v == 4; /* int3, into */

        idt[v] = (struct idt_gate){
            .offset_low = (uint16_t)stub,
            .selector = KERNEL_CS,
            .ist = (uint8_t)(ist_enabled ? vector_ist(v) : 0),
            .type = user_may_raise ? GATE_INTERRUPT_USER : GATE_INTERRUPT,
            .offset_middle = (uint16_t)(stub >> 16),
            .offset_high = (uint32_t)(stub >> 32),
        };
    }
}

static void
load_gdt(const uint64_t *gdt)
{
    struct table_pointer pointer = {GDT_ENTRIES * 8 - 1, (uintptr_t)gdt};

    __asm__ volatile("lgdt %0\n\t"
                     "pushq %1\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\tmovl %2, %%ds\n\t"
                     "movl %2, %%es\n\t"
                     "movl %2, %%ss\n\t"
                     "movl %3, %%fs\n\t"
                     "movl %3, %%gs\n\t"
                     :
                     : "m"(pointer), "i"(KERNEL_CS), "r"(KERNEL_DS), "r"(0)
                     : "rax", "memory");
}

static void
syscall_registers_load(void)
{
    msr_write(MSR_EFER, msr_read(MSR_EFER) | EFER_SCE);
    /* SYSCALL: CS, SS = KERNEL_CS, +8.  SYSRET: SS, CS = USER_CS32 + 8, + 16. */
    msr_write(MSR_STAR, (uint64_t)USER_CS32 << 48 | (uint64_t)KERNEL_CS << 32);
    msr_write(MSR_LSTAR, (uintptr_t)syscall_entry);
    msr_write(MSR_CSTAR, (uintptr_t)syscall_entry32);
    msr_write(MSR_FMASK, RFLAGS_IF | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC);
}

void
descriptors_load(struct cpu *cpu)
{
    struct descriptor_tables *t = &descriptor_tables[cpu->index];
    struct table_pointer idt_pointer = {sizeof idt - 1, (uintptr_t)idt};

    t->tss.io_map = sizeof t->tss;
    cpu->arch.tss = &t->tss;
    cpu->arch.self = cpu;
    cpu->arch.quire = &cpu->quire;
    gdt_fill(t->gdt, &t->tss);
    load_gdt(t->gdt);
    msr_write(MSR_GS_BASE, (uintptr_t)cpu);
    msr_write(MSR_KERNEL_GS_BASE, 0);
    if (cpu->index == 0)
        idt_fill(0);
    __asm__ volatile("lidt %0; ltr %w1" : : "m"(idt_pointer), "r"(TSS_SEL));
    syscall_registers_load();
}

void
descriptors_set_fault_stack(struct cpu *cpu, uintptr_t stack)
{
    uintptr_t top = stack + KERNEL_STACK_BYTES;
    size_t bytes_each = KERNEL_STACK_BYTES / IST_COUNT;

    for (unsigned i = 0; i < IST_COUNT; i++)
        descriptor_tables[cpu->index].tss.ist[i] = top - i * bytes_each;
    if (cpu->index == 0)
        idt_fill(1);
}
