/* SPDX-License-Identifier: MIT */
/*
 * What a process knows of its memory beside the library's space: its program
 * file, where arguments and environment lie; and the way from a page fault to
 * the library and back.
 *
 * A struct mm is shared by the threads of a process and by vfork children, and
 * held by whoever looks at a process from outside.  The last user destroys the
 * space.
 */
#include "mm.h"

#include <quire/arch.h>
#include <quire/assert.h>
#include <quire/fault.h>
#include <quire/space.h>
#include <quire/user.h>

#include "abi_errno.h"
#include "boot.h"
#include "cgroup.h"
#include "core.h"
#include "file.h"
#include "kstring.h"
#include "memory.h"
#include "oom.h"
#include "proc.h"
#include "signal.h"
#include "userfault_notice.h"

static atomic_uint mm_total;
static bool randomise; /* constant after start-up */

static void
region_file_get(void *context)
{
    struct file *file = context;

    file_ref(file);
    if (file->ops->mapped != NULL)
        file->ops->mapped(file);
}

static void
region_file_put(void *context)
{
    struct file *file = context;

    if (file->ops->unmapped != NULL)
        file->ops->unmapped(file);
    file_put(file);
}

/* To the running thread's account, whoever's memory it was; the group is that of the memory. */
static void
count_fault(struct qr_space *space, bool major)
{
    struct thread *thread = thread_current();

    if (qr_unlikely(major))
        thread->major_faults++;
    else
        thread->minor_faults++;
    if (qr_unlikely(atomic_load_explicit(&space->group, memory_order_relaxed) != NULL))
        cgroup_count_fault(space, major);
}

/* A page of a file became dirty: a write to the disk that the running thread causes. */
static void
count_dirtied(void)
{
    thread_current()->io.written_bytes += QR_PAGE_SIZE;
}

/* It was cut off before the disk got it. */
static void
count_cancelled(void)
{
    thread_current()->io.cancelled_bytes += QR_PAGE_SIZE;
}

/* Limits belong to processes: those that share a space need not have the same. */
static const struct qr_space_limits *
thread_limits(void)
{
    const struct process *process = process_current();

    return process == NULL ? NULL : &process->space_limits;
}

void
mm_init(void)
{
    static const struct qr_file_ops ops = {.get = region_file_get, .put = region_file_put};

    char word[8];

    qr_vm_set_file_ops(memory.vm, &ops);
    qr_vm_set_fault_hook(memory.vm, count_fault);
    qr_vm_set_limits_hook(memory.vm, thread_limits);
    qr_objects_set_dirtied(memory.objects, count_dirtied);
    qr_objects_set_cancelled(memory.objects, count_cancelled);
    randomise = !boot_option("norandmaps", word, sizeof(word));
}

bool
mm_is_random(void)
{
    return randomise;
}

unsigned
mm_count(void)
{
    return atomic_load(&mm_total);
}

uint64_t
mm_user_limit(void)
{
    return qr_port_user_end();
}

/* ---- life -------------------------------------------------------------------- */

static struct mm *
mm_wrap(struct qr_space *space)
{
    struct mm *mm = kmem_charged_zalloc(sizeof(*mm));

    if (mm == NULL)
        return NULL;
    atomic_init(&mm->users, 1);
    atomic_init(&mm->holders, 1);
    mm->space = space;
    mm->dumpable = true;
    atomic_init(&mm->core_filter, CORE_FILTER_DEFAULT);
    mm->keys = arch_pkey_count() > 0; /* key 0 */
    qr_spin_init(&mm->lock, QR_RANK_NONE);
    atomic_fetch_add(&mm_total, 1);
    return mm;
}

struct mm *
mm_create(void)
{
    struct qr_space *space;
    struct mm *mm;

    if (qr_space_create(memory.vm, &space) != QR_OK)
        return NULL;
    mm = mm_wrap(space);
    if (mm == NULL)
        qr_space_put(space);
    return mm;
}

int64_t
mm_fork(struct mm *from, struct mm **out)
{
    struct qr_space *space;
    struct mm *mm;

    if (MM_RETRY(from->space, qr_space_fork(from->space, &space)) != QR_OK)
        return -ENOMEM;
    mm = mm_wrap(space);
    if (mm == NULL) {
        qr_space_put(space);
        return -ENOMEM;
    }
    qr_spin_lock(&from->lock);
    mm->code_start = from->code_start;
    mm->code_end = from->code_end;
    mm->data_start = from->data_start;
    mm->data_end = from->data_end;
    mm->stack_start = from->stack_start;
    mm->sigreturn = from->sigreturn;
    mm->arg_start = from->arg_start;
    mm->arg_end = from->arg_end;
    mm->env_start = from->env_start;
    mm->env_end = from->env_end;
    memcpy(mm->auxv, from->auxv, sizeof(mm->auxv));
    atomic_store(&mm->barriers, atomic_load(&from->barriers));
    mm->dumpable = from->dumpable;
    atomic_store(&mm->core_filter, atomic_load(&from->core_filter));
    mm->keys = from->keys;
    qr_spin_unlock(&from->lock);
    if (from->exe != NULL) {
        file_ref(from->exe);
        mm->exe = from->exe;
    }
    if (userfault_fork(from, mm) != 0) {
        mm_put(mm);
        return -ENOMEM;
    }
    *out = mm;
    return 0;
}

void
mm_ref(struct mm *mm)
{
    atomic_fetch_add_explicit(&mm->users, 1, memory_order_relaxed);
}

void
mm_put(struct mm *mm)
{
    if (atomic_fetch_sub_explicit(&mm->users, 1, memory_order_acq_rel) != 1)
        return;
    qr_space_end(mm->space);
    if (mm->exe != NULL)
        file_put(mm->exe);
    mm_release(mm);
}

void
mm_hold(struct mm *mm)
{
    atomic_fetch_add_explicit(&mm->holders, 1, memory_order_relaxed);
}

void
mm_release(struct mm *mm)
{
    if (atomic_fetch_sub_explicit(&mm->holders, 1, memory_order_acq_rel) != 1)
        return;
    kmem_charged_free(mm);
    atomic_fetch_sub(&mm_total, 1);
}

bool
mm_try_ref(struct mm *mm)
{
    unsigned users = atomic_load(&mm->users);

    while (users != 0) {
        if (atomic_compare_exchange_weak(&mm->users, &users, users + 1))
            return true;
    }
    return false;
}

static size_t
limit_of(uint64_t limit)
{
    return limit > SIZE_MAX ? SIZE_MAX : (size_t)limit;
}

void
mm_apply_limits(struct process *process)
{
    uint64_t capabilities = process->credentials.cap_effective;
    struct qr_space_limits *limits = &process->space_limits;

    limits->address_space = limit_of(process->limits[RLIMIT_AS].soft);
    /* As in Linux, a soft limit of none is for the break alone (sys_brk). */
    limits->data = process->limits[RLIMIT_DATA].soft != 0
                       ? limit_of(process->limits[RLIMIT_DATA].soft)
                       : limit_of(process->limits[RLIMIT_DATA].hard);
    limits->stack = limit_of(process->limits[RLIMIT_STACK].soft);
    limits->locked = capabilities >> 14 & 1 ? SIZE_MAX /* CAP_IPC_LOCK */
                                            : limit_of(process->limits[RLIMIT_MEMLOCK].soft);
    limits->low_addresses = (capabilities >> 17 & 1) != 0; /* CAP_SYS_RAWIO */
    limits->administrator = (capabilities >> 21 & 1) != 0; /* CAP_SYS_ADMIN */
}

/* ---- faults --------------------------------------------------------------------- */

enum page_fault_result
mm_page_fault(struct trap_frame *frame, uintptr_t va, unsigned access)
{
    struct thread *thread = thread_current();
    bool major = false;
    struct qr_fault fault = {.va = qr_va_of(va),
                             .access = access,
                             .key_violation = (access & QR_ACCESS_KEY) != 0,
                             .out_major = &major};
    enum qr_fault_outcome result;
    unsigned repeats = 0;

    if (thread->process == NULL || thread->space == NULL)
        return PAGE_FAULT_UNMAPPED;
    if (frame_from_user(frame)) {
        fault.user_mode = true;
        fault.stack_pointer = qr_va_of(frame_sp(frame));
    }
    thread->group_was_full = false;
    do {
        result = qr_fault_handle(thread->space, &fault);
    } while (result == QR_FAULT_NO_MEMORY && !thread->group_was_full &&
             oom_make_room(repeats++, !fault.user_mode));
    switch (result) {
    case QR_FAULT_HANDLED:
        count_fault(thread->space, major);
        return PAGE_FAULT_DONE;
    case QR_FAULT_NO_REGION:
        return PAGE_FAULT_UNMAPPED;
    case QR_FAULT_PROTECTION: /* Linux names the key where it forbids the access, too */
        return fault.user_mode && mm_key_denies(thread->process->mm, va, access)
                   ? PAGE_FAULT_KEY
                   : PAGE_FAULT_DENIED;
    case QR_FAULT_KEY:
        return PAGE_FAULT_KEY;
    case QR_FAULT_POISON:
        return PAGE_FAULT_POISON;
    case QR_FAULT_NO_MEMORY:
        if (!fault.user_mode)
            return PAGE_FAULT_NO_MEMORY;
        if (signal_is_fatal_pending())
            return PAGE_FAULT_DONE; /* who is about to be killed needs no second reason */
        if (!thread->group_was_full)
            return PAGE_FAULT_NO_MEMORY;
        group_wait_for_room();
        return PAGE_FAULT_DONE;
    case QR_FAULT_INTERRUPTED: /* the signal comes first, then the instruction again */
        return fault.user_mode ? PAGE_FAULT_DONE : PAGE_FAULT_BUS;
    case QR_FAULT_BEYOND_END:
    default:
        return PAGE_FAULT_BUS;
    }
}

bool
mm_key_denies(struct mm *mm, uint64_t address, unsigned access)
{
    unsigned rights = arch_pkey_rights(mm_key_at(mm, address));

    /* 1: no access, 2: no writes; fetching instructions is none. */
    return (access & QR_ACCESS_EXEC) == 0 &&
           ((rights & 1) != 0 || ((rights & 2) != 0 && (access & QR_ACCESS_WRITE) != 0));
}

unsigned
mm_key_at(struct mm *mm, uint64_t address)
{
    const struct qr_region *region;
    unsigned key = 0;

    qr_rw_read_lock(&mm->space->lock);
    region = qr_space_find(mm->space, qr_va_of(address));
    if (region != NULL && region->start.v <= address)
        key = region->pkey;
    qr_rw_read_unlock(&mm->space->lock);
    return key;
}

/* What machines without protection keys have. */
__attribute__((weak)) unsigned
arch_pkey_count(void)
{
    return 0;
}

__attribute__((weak)) unsigned
arch_pkey_rights(unsigned key)
{
    (void)key;
    return 0;
}

__attribute__((weak)) void
arch_pkey_set_rights(unsigned key, unsigned rights)
{
    (void)key;
    (void)rights;
}

/* ---- other spaces ------------------------------------------------------------------ */

size_t
mm_access(struct mm *mm, uint64_t address, void *buffer, size_t n, enum mm_access_kind kind)
{
    bool read = kind == MM_READ || kind == MM_FORCE_READ;
    bool force = kind == MM_FORCE_READ || kind == MM_FORCE_WRITE;
    unsigned access = read ? QR_ACCESS_READ : QR_ACCESS_WRITE;
    size_t done = 0;

    while (done < n) {
        uint64_t at = address + done;
        size_t offset = at & QR_PAGE_MASK, piece = QR_PAGE_SIZE - offset;
        struct qr_frame *frame;
        char *window;

        if (piece > n - done)
            piece = n - done;
        if (at >= mm_user_limit() ||
            qr_space_get_frame(mm->space, qr_va_of(at - offset), access, force, &frame) != QR_OK)
            break;
        window = qr_port_window_open(qr_frame_pa(memory.frames, frame));
        if (read)
            memcpy((char *)buffer + done, window + offset, piece);
        else
            memcpy(window + offset, (const char *)buffer + done, piece);
        if (!read)
            (void)qr_arch_code_written(qr_pa_of(qr_frame_pa(memory.frames, frame).v + offset),
                                       piece);
        qr_port_window_close(window);
        qr_frame_put(memory.frames, frame);
        done += piece;
    }
    return done;
}

int64_t
mm_shared_place(struct mm *mm, uint64_t address, const void **out_owner, uint64_t *out_place)
{
    const struct qr_region *region;
    int64_t error = 0;

    qr_rw_read_lock(&mm->space->lock);
    region = qr_space_find(mm->space, qr_va_of(address));
    if (region == NULL || region->start.v > address) {
        error = -EFAULT;
    } else if (region->object != NULL && (region->flags & QR_REGION_SHARED)) {
        *out_owner = region->object;
        *out_place = ((uint64_t)region->object_page << QR_PAGE_SHIFT) + (address - region->start.v);
    } else {
        *out_owner = mm;
        *out_place = address;
    }
    qr_rw_read_unlock(&mm->space->lock);
    return error;
}
