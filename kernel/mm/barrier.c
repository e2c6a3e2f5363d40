/* SPDX-License-Identifier: MIT */
/*
 * membarrier: every thread of a process, or of the machine, passes a full barrier.
 *
 * A thread that does not run passes one when it is switched in.  One that does is interrupted:
 * the sender counts the CPUs it asks, and each answers by counting itself out after its barrier.
 * Every other CPU is asked, whoever runs there: then it does not matter who is switched in where
 * meanwhile, neither for memory nor for what a CPU has fetched of its instructions.
 *
 * One request at a time, under a sleeping lock.  The sender waits with interrupts on and holds no
 * spin lock, so the CPUs that it waits for are never waiting for it.
 *
 * Commands for one process must have been registered for by it first, as in Linux; the bits
 * are the commands' own.
 */
#include <quire/assert.h>

#include "mm.h"
#include "proc.h"
#include "syscall.h"

enum {
    QUERY = 0,
    GLOBAL = 1 << 0,
    GLOBAL_EXPEDITED = 1 << 1,
    REGISTER_GLOBAL_EXPEDITED = 1 << 2,
    PRIVATE_EXPEDITED = 1 << 3,
    REGISTER_PRIVATE_EXPEDITED = 1 << 4,
    PRIVATE_EXPEDITED_SYNC_CORE = 1 << 5,
    REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 1 << 6,
    PRIVATE_EXPEDITED_RSEQ = 1 << 7,
    REGISTER_PRIVATE_EXPEDITED_RSEQ = 1 << 8,
    GET_REGISTRATIONS = 1 << 9,
    ALL_COMMANDS = (1 << 10) - 1,
};

#define FLAG_CPU 1u /* with PRIVATE_EXPEDITED_RSEQ: one CPU only */

static struct {
    struct qr_mutex lock;
    int command;                  /* lock */
    const struct qr_space *space; /* lock: whose rseq sections are to start again */
    atomic_uint waiting;          /* CPUs that have not answered yet */
} request;

/* Have the running thread's restartable section, if it is in one, start again. */
static void
restart_section(void)
{
    struct thread *thread = thread_current();

    if (thread->process != NULL && thread->space == request.space && thread->rseq != 0)
        atomic_fetch_or(&thread->arch.work, WORK_RSEQ);
}

void
cpu_barrier_interrupt(void)
{
    atomic_thread_fence(memory_order_seq_cst);
    /* Once we are counted out the request may be another's; a late interrupt finds none. */
    if (atomic_load(&request.waiting) == 0)
        return;
    if (request.command == PRIVATE_EXPEDITED_RSEQ)
        restart_section();
    if (request.command == PRIVATE_EXPEDITED_SYNC_CORE)
        arch_core_sync();
    atomic_fetch_sub(&request.waiting, 1);
}

/* @only: a CPU's number, or -1 for all but ours. */
static void
interrupt_cpus(int only)
{
    struct qr_cpu_set cpus = {{0}};
    unsigned own, count = 0;
    uintptr_t flags = irq_save();

    own = cpu_this()->index;
    for (unsigned cpu = 0; cpu < cpu_count(); cpu++) {
        if (cpu == own || (only >= 0 && cpu != (unsigned)only))
            continue;
        qr_cpu_set_add(&cpus, cpu);
        count++;
    }
    atomic_store(&request.waiting, count);
    if (count > 0)
        arch_ipi_send_set(&cpus, IPI_BARRIER);
    irq_restore(flags);
    while (atomic_load(&request.waiting) > 0)
        cpu_relax();
}

static int64_t
barrier(int command, int only)
{
    qr_mutex_lock(&request.lock);
    request.command = command;
    request.space = thread_current()->space;
    atomic_thread_fence(memory_order_seq_cst);
    interrupt_cpus(only);
    atomic_thread_fence(memory_order_seq_cst);
    if (command == PRIVATE_EXPEDITED_SYNC_CORE)
        arch_core_sync();
    qr_mutex_unlock(&request.lock);
    return 0;
}

/* A command that needs a registration, which is the next bit. */
static int64_t
private_barrier(int command, int only)
{
    unsigned registered = atomic_load(&process_current()->mm->barriers);

    if (!(registered & (unsigned)command << 1))
        return -EPERM;
    return barrier(command, only);
}

static int64_t
rseq_barrier(uint32_t flags, int32_t cpu)
{
    if (flags & ~FLAG_CPU)
        return -EINVAL;
    if (!(flags & FLAG_CPU))
        return private_barrier(PRIVATE_EXPEDITED_RSEQ, -1);
    if (cpu < 0 || (unsigned)cpu >= cpu_count())
        return 0; /* nothing runs there */
    return private_barrier(PRIVATE_EXPEDITED_RSEQ, cpu);
}

/* Linux counts every private command as one for the plain one, too, which it does not allow. */
static int64_t
registrations(void)
{
    unsigned commands = atomic_load(&process_current()->mm->barriers);

    return commands & (REGISTER_PRIVATE_EXPEDITED_SYNC_CORE | REGISTER_PRIVATE_EXPEDITED_RSEQ)
               ? commands | REGISTER_PRIVATE_EXPEDITED
               : commands;
}

int64_t
sys_membarrier(const struct syscall_args *args)
{
    int command = (int)args->arg[0];
    uint32_t flags = (uint32_t)args->arg[1];

    if (command == PRIVATE_EXPEDITED_RSEQ)
        return rseq_barrier(flags, (int32_t)args->arg[2]);
    if (flags != 0)
        return -EINVAL;
    switch (command) {
    case QUERY:
        return ALL_COMMANDS;
    case GLOBAL:
    case GLOBAL_EXPEDITED:
        return barrier(command, -1);
    case PRIVATE_EXPEDITED:
    case PRIVATE_EXPEDITED_SYNC_CORE:
        return private_barrier(command, -1);
    case REGISTER_GLOBAL_EXPEDITED:
    case REGISTER_PRIVATE_EXPEDITED:
    case REGISTER_PRIVATE_EXPEDITED_SYNC_CORE:
    case REGISTER_PRIVATE_EXPEDITED_RSEQ:
        atomic_fetch_or(&process_current()->mm->barriers, (unsigned)command);
        return 0;
    case GET_REGISTRATIONS:
        return registrations();
    default:
        return -EINVAL;
    }
}
