/* SPDX-License-Identifier: MIT */
/*
 * The reference kernel's system calls inside a Linux process.
 *
 * The files of kernel/mm, fs, ipc and proc are compiled as they are, with the sanitizers; below
 * them is the library on the simulated machine (sim/), and what the CPU, the boot and the
 * scheduler do in the kernel is here, as far as calls of one program after another need it:
 *
 *   current     whoever hosted_set_current() named
 *   start       a new thread is not started: its first turn comes when it is made current
 *   switch      a thread that ended comes back to hosted_exit(); any other would wait, and
 *               nobody is there to wake it
 *
 * Functions that no call reaches are not defined at all: the link leaves them open.
 */
#include "hosted.h"

#include <setjmp.h>

#include "abi_errno.h"
#include "arch.h"
#include "boot.h"
#include "file.h"
#include "fs/fs.h"
#include "hugetlb.h"
#include "kstring.h"
#include "memory.h"
#include "platform.h"
#include "printk.h"
#include "proc.h"
#include "proc/proc_private.h"
#include "proc/sched_private.h"
#include "symbols.h"
#include "syscall.h"
#include "vfs.h"

struct memory memory;
struct boot_info boot_info;
struct boot_machine boot_machine;
struct cpu hosted_cpu;

static struct thread *init_thread;
static const struct qr_format *table_format;
static struct run_queue queue;
static jmp_buf thread_end;
static struct thread *ended;

/* ---- the CPU ------------------------------------------------------------------------- */

unsigned
cpu_count(void)
{
    return 1;
}

struct cpu *
cpu_of(unsigned index)
{
    (void)index;
    return &hosted_cpu;
}

bool
arch_thread_create(struct arch_thread *thread)
{
    (void)thread;
    return true;
}

void
arch_thread_destroy(struct arch_thread *thread)
{
    (void)thread;
}

void
arch_thread_init_user(struct arch_thread *thread, const struct trap_frame *frame)
{
    thread->frame = *frame;
    thread->rights = thread_current()->arch.rights;
}

void
arch_thread_init_kernel(struct arch_thread *thread, void (*entry)(void *), void *argument)
{
    (void)thread;
    (void)entry;
    (void)argument;
}

void
arch_thread_fork(struct arch_thread *child)
{
    (void)child;
}

uint64_t
clock_monotonic_ns(void)
{
    return qr_port_clock_ns();
}

uint64_t
clock_realtime_ns(void)
{
    return qr_port_clock_ns();
}

uint64_t
arch_random(void)
{
    uint64_t word;

    qr_port_random(&word, sizeof(word));
    return word;
}

void
log_write(const char *bytes, size_t count)
{
    (void)bytes;
    (void)count;
}

void
console_write(const char *bytes, size_t count)
{
    (void)bytes;
    (void)count;
}

size_t
strlcpy(char *to, const char *from, size_t size)
{
    size_t length = strlen(from), copied = length < size ? length : size - 1;

    memcpy(to, from, copied);
    to[copied] = '\0';
    return length;
}

_Noreturn void
panic(const char *format, ...)
{
    qr_port_panic(format);
}

/* ---- protection keys ---------------------------------------------------------------------- */

enum { KEYS = 16, RIGHTS_FIRST = 0x55555554 /* Linux's init_pkru: none but to key 0's memory */ };

static bool keys;

unsigned
arch_pkey_count(void)
{
    return keys ? KEYS : 0;
}

unsigned
arch_pkey_rights(unsigned key)
{
    return thread_current()->arch.rights >> (2 * key) & 3;
}

void
arch_pkey_set_rights(unsigned key, unsigned rights)
{
    uint32_t *all = &thread_current()->arch.rights;

    *all = (*all & ~(3u << (2 * key))) | rights << (2 * key);
}

uint32_t
hosted_rights(void)
{
    return thread_current()->arch.rights;
}

void
hosted_set_rights(unsigned key, unsigned rights)
{
    arch_pkey_set_rights(key, rights);
}

unsigned
hosted_key_at(uintptr_t address)
{
    return mm_key_at(process_current()->mm, address);
}

bool
hosted_key_denies(uintptr_t address, unsigned access)
{
    return mm_key_denies(process_current()->mm, address, access);
}

struct qr_va_range
platform_area(enum kernel_area area)
{
    (void)area;
    return (struct qr_va_range){qr_va_of(0), qr_va_of(0)};
}

struct qr_va_range
platform_direct_map(void)
{
    return (struct qr_va_range){qr_va_of(0), qr_va_of(0)};
}

const struct qr_format *
platform_format(void)
{
    return table_format;
}

unsigned
memory_distance(unsigned from, unsigned to)
{
    (void)from;
    (void)to;
    return 10;
}

/* No firmware said anything of nodes. */
bool
memory_domain_of_node(unsigned node, uint32_t *out_domain)
{
    (void)node;
    (void)out_domain;
    return false;
}

/* Nor of leaves in groups. */
bool
platform_groups(void)
{
    return false;
}

/* ---- the scheduler ---------------------------------------------------------------------- */

void
sched_init_cpu(struct cpu *cpu)
{
    queue.cpu = cpu;
    queue.idle = cpu->idle;
    cpu->scheduler = &queue;
    cpu->current = cpu->idle;
    timer_init_cpu(&queue);
}

struct run_queue *
sched_this_queue(void)
{
    return &queue;
}

void
sched_start(struct thread *thread)
{
    atomic_store(&thread->state, THREAD_RUNNABLE);
}

bool
sched_wake(struct thread *thread, uint32_t mask)
{
    (void)thread;
    (void)mask;
    return false;
}

void
sched_switch(void)
{
    if (atomic_load(&thread_current()->state) != THREAD_DEAD)
        qr_port_panic("a call waits, and nobody is there to wake it");
    ended = thread_current();
    irq_enable();
    longjmp(thread_end, 1);
}

void
sched_relax(void)
{
}

uint64_t
sched_run_ns(const struct thread *thread)
{
    (void)thread;
    return 0;
}

void
sched_load_averages(uint32_t out[3])
{
    memset(out, 0, 3 * sizeof(*out));
}

/* ---- the driver's side ---------------------------------------------------------------------- */

static void
make_directory(const char *path)
{
    int64_t error = name_create(AT_FDCWD, path, S_IFDIR | 0777u, 0);

    if (error != 0 && error != -EEXIST)
        qr_port_panic("no directory can be made");
}

/* Init is nobody's program: it has memory, so that others are forked from it. */
static void
init_prepare(void)
{
    struct process *process = process_init_process();

    init_thread = process->leader_thread;
    process->mm = mm_create();
    if (process->mm == NULL)
        qr_port_panic("no memory for init");
    init_thread->space = process->mm->space;
    process->actions->action[SIGCHLD - 1].handler = SIG_IGN;
    process->actions->action[SIGXFSZ - 1].handler = SIG_IGN;
    mm_apply_limits(process);
    qr_space_set_brk(init_thread->space, qr_va_of(0x1000000));
    hosted_set_current(init_thread);
    init_thread->arch.rights = keys ? RIGHTS_FIRST : 0;
}

void
hosted_start(const struct hosted_library *library)
{
    table_format = library->format;
    keys = library->keys;
    memory.frames = library->frames;
    memory.heap = library->heap;
    memory.tlb = library->tlb;
    memory.objects = library->objects;
    memory.vm = library->vm;
    memory.swap = library->swap;
    boot_machine.cpu_count = 1;
    memory.groups =
        qr_kmalloc_aligned(memory.heap, qr_groups_size(1), QR_CACHE_LINE, QR_ALLOC_ZERO);
    if (memory.groups == NULL ||
        qr_groups_init(memory.groups, memory.frames, memory.heap, 1) != QR_OK)
        qr_port_panic("no memory for groups");
    hugetlb_init();
    proc_init();
    fs_init(NULL, 0);
    process_start_init();
    init_prepare();
    make_directory("/dev/shm");
}

struct thread *
hosted_init_thread(void)
{
    return init_thread;
}

struct thread *
hosted_thread(int pid)
{
    struct process *process = process_find(pid);
    struct thread *thread;

    if (process == NULL)
        return NULL;
    thread = process->leader_thread;
    process_put(process);
    return thread;
}

struct qr_space *
hosted_space(struct thread *thread)
{
    return thread->space;
}

void
hosted_set_current(struct thread *thread)
{
    hosted_cpu.current = thread;
}

void
hosted_begin(void)
{
    struct thread *thread = thread_current();

    if ((atomic_load(&thread->arch.work) & WORK_SET_TID) != 0)
        thread_return_work(arch_user_frame(&thread->arch));
}

int64_t
hosted_call(unsigned long number, const uint64_t args[6])
{
    struct trap_frame *frame = arch_user_frame(&thread_current()->arch);

    *frame = (struct trap_frame){.number = number, .sp = 0x7ff000000000u};
    memcpy(frame->arg, args, sizeof(frame->arg));
    syscall_dispatch(frame);
    return (int64_t)frame->result;
}

void
hosted_exit(void)
{
    if (setjmp(thread_end) == 0)
        process_exit_group(0);
    hosted_set_current(init_thread);
    thread_put(ended);
}

unsigned
hosted_alive(void)
{
    return process_count() - 1 + mm_count() - 1;
}
