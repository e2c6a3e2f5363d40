/* SPDX-License-Identifier: MIT */
/*
 * Exceptions and interrupts, after entry.S: decode, and hand over.
 *
 * An exception of user code becomes a page fault for the memory layer or a
 * trap_user_fault() for the signals.  An exception of kernel code is a page
 * fault in a user copy (resolved, or sent to the copy's fix-up), or the end of
 * the machine.
 */
#include "cpu.h"

#include <interrupt.h>
#include <memory.h>
#include <symbols.h>

#include <quire_x86.h>

static const char *const exception_names[32] = {
    "divide error",
    "debug",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor overrun",
    "invalid TSS",
    "segment not present",
    "stack segment",
    "general protection",
    "page fault",
    "reserved",
    "x87 error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualization",
    "branch to where none may arrive", /* CET; there are no shadow stacks */
};

static QR_COLD void
report(const struct trap_frame *frame, const char *what, uintptr_t address)
{
    serial_panic();
    printk("kernel: %s, vector %u, error %x, address %zx, cpu %u\n", what, (unsigned)frame->vector,
           (unsigned)frame->code, address, cpu_this()->index);
    frame_dump(frame);
}

static QR_NORETURN QR_COLD void
die(const struct trap_frame *frame, const char *what, uintptr_t address)
{
    report(frame, what, address);
    memory_explain_fault(address);
    symbol_log("at", frame_ip(frame));
    backtrace_log(frame_bp(frame));
    panic("%s in kernel mode at %zx, address %zx", what, frame_ip(frame), address);
}

/* A double fault follows a page fault that had no stack left to report itself on. */
void
trap_double_fault(struct trap_frame *frame, uintptr_t sp)
{
    uintptr_t address = cr2_read();

    if (address - (sp - QR_PAGE_SIZE) >= 2 * QR_PAGE_SIZE)
        die(frame, exception_names[VECTOR_DOUBLE_FAULT], address);
    report(frame, exception_names[VECTOR_DOUBLE_FAULT], address);
    panic("kernel stack overflow on cpu %u", cpu_this()->index);
}

/* ---- Page faults ------------------------------------------------------------ */

static enum trap_kind
trap_kind_of(enum page_fault_result result)
{
    switch (result) {
    case PAGE_FAULT_DENIED:
        return TRAP_DENIED;
    case PAGE_FAULT_KEY:
        return TRAP_PKEY;
    case PAGE_FAULT_BUS:
        return TRAP_BUS;
    case PAGE_FAULT_POISON:
        return TRAP_POISON;
    case PAGE_FAULT_NO_MEMORY:
        return TRAP_NO_MEMORY;
    default:
        return TRAP_UNMAPPED;
    }
}

static void
page_fault_user(struct trap_frame *frame, uintptr_t va, unsigned access)
{
    enum page_fault_result result = PAGE_FAULT_UNMAPPED;

    irq_enable();
    if (va < USER_LIMIT)
        result = mm_page_fault(frame, va, access);
    if (result != PAGE_FAULT_DONE)
        trap_user_fault(frame, trap_kind_of(result), va);
}

static const char *
fault_text(uint64_t code)
{
    if (code & QR_X86_FAULT_FETCH)
        return "execution of memory that is not executable";
    if (!(code & QR_X86_FAULT_PRESENT))
        return code & QR_X86_FAULT_WRITE ? "write to unmapped memory" : "read of unmapped memory";
    return code & QR_X86_FAULT_WRITE ? "write to read-only memory" : "read of user memory";
}

static void
page_fault_kernel(struct trap_frame *frame, uintptr_t va, unsigned access)
{
    uintptr_t fixup = qr_x86_fixup(frame_ip(frame));

    if (va >= USER_LIMIT || fixup == 0)
        die(frame, fault_text(frame->code), va);
    if (*frame_flags(frame) & RFLAGS_IF) {
        irq_enable();
        if (mm_page_fault(frame, va, access) == PAGE_FAULT_DONE) {
            irq_disable();
            return;
        }
        irq_disable();
    }
    frame_set_ip(frame, fixup);
}

static void
page_fault(struct trap_frame *frame)
{
    uintptr_t va = cr2_read();
    unsigned access = qr_x86_fault_access(frame->code);

    if (frame->code & QR_X86_FAULT_RESERVED)
        die(frame, "reserved bit in a page table", va);
    if (frame_from_user(frame))
        page_fault_user(frame, va, access);
    else
        page_fault_kernel(frame, va, access);
}

/* ---- Other exceptions --------------------------------------------------------- */

static enum trap_kind
trap_kind_of_vector(uint64_t vector)
{
    switch (vector) {
    case 0:
        return TRAP_DIVIDE;
    case 1:
        return TRAP_STEP;
    case 3:
        return TRAP_BREAKPOINT;
    case 4:
    case 5:
        return TRAP_OVERFLOW;
    case 6:
        return TRAP_ILLEGAL;
    case 12:
        return TRAP_STACK;
    case 16:
    case 19:
        return TRAP_FLOAT;
    case VECTOR_ALIGNMENT:
        return TRAP_ALIGNMENT;
    default:
        return TRAP_PROTECTION;
    }
}

/**
 * A user who single-steps into SYSCALL may have the trap arrive on the kernel's
 * first instruction.  It is dropped: the next user instruction traps again.
 */
static bool
is_step_into_kernel(struct trap_frame *frame)
{
    if (frame->vector != VECTOR_DEBUG || frame_from_user(frame) || !(dr6_read() & DR6_STEP))
        return false;
    dr6_write(DR6_CLEAR);
    *frame_flags(frame) &= ~RFLAGS_TF;
    return true;
}

static void
exception(struct trap_frame *frame)
{
    const char *name = exception_names[frame->vector];

    if (frame->vector == VECTOR_NMI || is_step_into_kernel(frame))
        return;
    if (frame->vector == VECTOR_DOUBLE_FAULT)
        trap_double_fault(frame, frame_sp(frame));
    if (frame->vector == VECTOR_MACHINE_CHECK)
        die(frame, name, cr2_read());
    if (frame_from_user(frame)) {
        irq_enable();
        trap_user_fault(frame, trap_kind_of_vector(frame->vector),
                        frame->vector == VECTOR_ALIGNMENT ? 0 : frame_ip(frame));
        return;
    }
    if (frame->vector >= VECTOR_TSS && frame->vector <= VECTOR_PROTECTION) {
        uintptr_t fixup = qr_x86_fixup(frame_ip(frame));

        if (fixup != 0) {
            frame_set_ip(frame, fixup);
            return;
        }
    }
    die(frame, name ? name : "exception", frame_ip(frame));
}

/* ---- Interrupts ----------------------------------------------------------------- */

static void
interrupt(struct trap_frame *frame)
{
    switch (frame->vector) {
    case VECTOR_TIMER:
        lapic_eoi();
        cpu_count_tick();
        memory_tick();
        sched_tick();
        break;
    case VECTOR_IPI_RESCHED:
        lapic_eoi();
        break;
    case VECTOR_IPI_TLB:
        lapic_eoi();
        mm_tlb_interrupt();
        break;
    case VECTOR_IPI_BARRIER:
        lapic_eoi();
        cpu_barrier_interrupt();
        break;
    case VECTOR_IPI_STOP:
        for (;;)
            __asm__ volatile("cli; hlt");
    case VECTOR_IRQ_BASE + 4:
        serial_interrupt();
        lapic_eoi();
        break;
    case VECTOR_SPURIOUS:
        break;
    default:
        interrupt_dispatch((unsigned)frame->vector);
        lapic_eoi();
        break;
    }
}

void
trap_dispatch(struct trap_frame *frame)
{
    if (frame->vector == VECTOR_PAGE_FAULT)
        page_fault(frame);
    else if (frame->vector < 32)
        exception(frame);
    else
        interrupt(frame);
}
