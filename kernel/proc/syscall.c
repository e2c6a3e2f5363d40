/* SPDX-License-Identifier: MIT */
/*
 * The way in for system calls and faults, and the way out to user mode.
 */
#include "syscall.h"

#include "arch_abi.h"
#include "cgroup.h"
#include "printk.h"
#include "proc_private.h"
#include "sched_private.h"

enum { UNKNOWN_WORDS = 8 };

/* One bit for each number that was reported already; all beyond the table share the last. */
static _Atomic uint64_t unknown_seen[UNKNOWN_WORDS];

void
syscall_log_unknown(unsigned long number)
{
    unsigned long slot = number < UNKNOWN_WORDS * 64 - 1 ? number : UNKNOWN_WORDS * 64 - 1;
    uint64_t bit = (uint64_t)1 << (slot % 64);

    if ((atomic_fetch_or(&unknown_seen[slot / 64], bit) & bit) == 0)
        printk("syscall: %lu is not implemented (%s)\n", number, thread_current()->name);
}

void
syscall_dispatch(struct trap_frame *frame)
{
    struct thread *thread = thread_current();
    int64_t result;

    thread->in_kernel = true;
    if (__builtin_expect(thread->trace.syscalls, 0)) {
        frame_begin_call(frame);
        trace_syscall_stop(thread, TRACE_CALL_ENTERED);
    }
    unsigned long number = frame_syscall_number(frame);
    if (number < syscall_table_count && syscall_table[number] != NULL) {
        struct syscall_args args = {{
            frame_syscall_arg(frame, 0),
            frame_syscall_arg(frame, 1),
            frame_syscall_arg(frame, 2),
            frame_syscall_arg(frame, 3),
            frame_syscall_arg(frame, 4),
            frame_syscall_arg(frame, 5),
        }};

        result = syscall_table[number](&args);
    } else if (number == ~0ul && thread->trace.tracer != NULL) {
        result = frame_result(frame); /* the tracer wants none, and gives the result */
    } else {
        syscall_log_unknown(number);
        result = -ENOSYS;
    }
    frame_set_result(frame, result);
    if (__builtin_expect(thread->trace.syscalls, 0))
        trace_syscall_stop(thread, TRACE_CALL_DONE);
    thread->in_kernel = false;
}

struct trap_frame *
syscall_frame(void)
{
    return arch_user_frame(&thread_current()->arch);
}

static void
clear_work(struct thread *thread, uint32_t bits)
{
    atomic_fetch_and(&thread->arch.work, ~bits);
}

void
thread_return_work(struct trap_frame *frame)
{
    struct thread *thread = thread_current();
    uint32_t work = atomic_load(&thread->arch.work);

    thread->in_kernel = true;
    if (thread->process == NULL) {
        clear_work(thread, work);
        return;
    }
    if (work & WORK_SET_TID) {
        clear_work(thread, WORK_SET_TID);
        (void)user_write_u32(thread->set_tid, (uint32_t)thread->tid);
    }
    if (work & WORK_THROTTLE) {
        clear_work(thread, WORK_THROTTLE);
        cgroup_throttle();
    }
    if (work & (WORK_SIGNAL | WORK_RESTORE_MASK))
        signal_deliver_pending(frame);
    if (work & WORK_RSEQ) {
        clear_work(thread, WORK_RSEQ);
        if (thread->rseq != 0)
            rseq_update(thread, frame);
    }
    thread->in_kernel = false;
}

/* ---- faults of user code ------------------------------------------------------------ */

struct fault_row {
    int number;
    int code;
    bool has_address;
};

/* By enum trap_kind. */
static const struct fault_row fault_rows[] = {
    [TRAP_UNMAPPED] = {SIGSEGV, SEGV_MAPERR, true},
    [TRAP_DENIED] = {SIGSEGV, SEGV_ACCERR, true},
    [TRAP_PKEY] = {SIGSEGV, SEGV_PKUERR, true},
    [TRAP_POISON] = {SIGBUS, BUS_MCEERR_AR, true},
    [TRAP_BUS] = {SIGBUS, BUS_ADRERR, true},
    [TRAP_NO_MEMORY] = {SIGKILL, SI_KERNEL, false},
    [TRAP_PROTECTION] = {SIGSEGV, SI_KERNEL, false},
    [TRAP_ALIGNMENT] = {SIGBUS, BUS_ADRALN, true},
    [TRAP_STACK] = {SIGBUS, SI_KERNEL, false},
    [TRAP_ILLEGAL] = {SIGILL, ILL_ILLOPN, true},
    [TRAP_OPCODE] = {SIGILL, ILL_ILLOPC, true},
    [TRAP_DIVIDE] = {SIGFPE, FPE_INTDIV, true},
    [TRAP_OVERFLOW] = {SIGSEGV, SI_KERNEL, false},
    [TRAP_FLOAT] = {SIGFPE, 0, true},
    [TRAP_BREAKPOINT] = {SIGTRAP, SI_KERNEL, false},
    [TRAP_BRKPT] = {SIGTRAP, 1, true},
    [TRAP_STEP] = {SIGTRAP, 2, true},
};

void
trap_user_fault(struct trap_frame *frame, enum trap_kind kind, uintptr_t va)
{
    const struct fault_row *row = &fault_rows[kind];
    struct thread *thread = thread_current();
    struct signal_info info = {.number = row->number, .code = row->code};

    if (kind == TRAP_NO_MEMORY) {
        printk("out of memory: process %d (%s) is killed\n", thread->process->id, thread->name);
        process_exit_group(SIGKILL);
    }
    if (kind == TRAP_FLOAT)
        info.code = frame_float_code(frame);
    if (kind == TRAP_ILLEGAL || kind == TRAP_OPCODE || kind == TRAP_DIVIDE || kind == TRAP_FLOAT)
        va = frame_ip(frame);
    if (row->has_address)
        info.fault.address = va;
    if (kind == TRAP_PKEY)
        info.fault.lower = mm_key_at(thread->process->mm, va);
    if (kind == TRAP_POISON)
        info.fault.address_lsb = QR_PAGE_SHIFT;
    thread->fault_address = va;
    signal_force(row->number, &info);
}
