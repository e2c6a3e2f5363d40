/* SPDX-License-Identifier: MIT */
/*
 * Restartable sequences: a word in user memory says which CPU the thread runs
 * on, and a critical section that was preempted, migrated or interrupted by a
 * signal goes to its abort handler instead of going on.
 *
 * WORK_RSEQ is set whenever the thread was preempted or comes back on another
 * CPU; then, before user mode, the words are brought up to date.  A descriptor
 * that makes no sense ends the program with SIGSEGV, as in Linux.
 */
#include "abi_errno.h"
#include "proc_private.h"
#include "syscall.h"

enum { RSEQ_BYTES = 32, RSEQ_FLAG_UNREGISTER = 1 };

/* struct rseq of the user */
enum { OFFSET_CPU_START = 0, OFFSET_CPU = 4, OFFSET_CS = 8, OFFSET_FLAGS = 16, OFFSET_NODE = 20 };

struct rseq_section {
    uint32_t version, flags;
    uint64_t start, length, abort;
};

/* Leave the critical section if the thread stands in one. */
static int64_t
leave_section(struct thread *thread, struct trap_frame *frame)
{
    struct rseq_section section;
    uint64_t descriptor, ip = frame_ip(frame);
    uint32_t signature;

    if (user_read_u64(&descriptor, thread->rseq + OFFSET_CS) != 0)
        return -EFAULT;
    if (descriptor == 0)
        return 0;
    if (user_read(&section, descriptor, sizeof(section)) != 0)
        return -EFAULT;
    if (section.version != 0 || section.start >= mm_user_limit() ||
        section.start + section.length < section.start || section.abort >= mm_user_limit() ||
        section.abort - section.start < section.length)
        return -EINVAL;
    if (ip - section.start >= section.length)
        return user_write_u64(thread->rseq + OFFSET_CS, 0);
    if (user_read_u32(&signature, section.abort - sizeof(signature)) != 0)
        return -EFAULT;
    if (signature != thread->rseq_signature)
        return -EINVAL;
    if (user_write_u64(thread->rseq + OFFSET_CS, 0) != 0)
        return -EFAULT;
    frame_set_ip(frame, section.abort);
    return 0;
}

static int64_t
write_cpu(struct thread *thread, uint32_t start, uint32_t cpu)
{
    uint32_t words[2] = {start, cpu};

    thread->rseq_cpu = cpu;
    if (user_write(thread->rseq + OFFSET_CPU_START, words, sizeof(words)) != 0)
        return -EFAULT;
    return 0;
}

void
rseq_update(struct thread *thread, struct trap_frame *frame)
{
    struct signal_info info = {.number = SIGSEGV, .code = SI_KERNEL};
    uint32_t cpu = cpu_this()->index;

    if (leave_section(thread, frame) != 0 || write_cpu(thread, cpu, cpu) != 0) {
        thread->rseq = 0;
        signal_force(SIGSEGV, &info);
    }
}

int64_t
sys_rseq(const struct syscall_args *args)
{
    struct thread *thread = thread_current();
    uint64_t address = args->arg[0];
    uint32_t length = (uint32_t)args->arg[1], flags = (uint32_t)args->arg[2];
    uint32_t signature = (uint32_t)args->arg[3];

    if (flags & RSEQ_FLAG_UNREGISTER) {
        if (flags & ~(uint32_t)RSEQ_FLAG_UNREGISTER)
            return -EINVAL;
        if (thread->rseq == 0 || thread->rseq != address)
            return -EINVAL;
        if (length != RSEQ_BYTES)
            return -EINVAL;
        if (signature != thread->rseq_signature)
            return -EPERM;
        if (write_cpu(thread, 0, UINT32_MAX) != 0)
            return -EFAULT;
        thread->rseq = 0;
        return 0;
    }
    if (flags != 0)
        return -EINVAL;
    if (thread->rseq != 0) {
        if (thread->rseq != address || length != RSEQ_BYTES)
            return -EINVAL;
        return signature != thread->rseq_signature ? -EPERM : -EBUSY;
    }
    if (address % RSEQ_BYTES != 0 || length != RSEQ_BYTES)
        return -EINVAL;
    if (address >= mm_user_limit() - RSEQ_BYTES)
        return -EFAULT;
    thread->rseq = address;
    thread->rseq_signature = signature;
    if (user_write_u64(address + OFFSET_CS, 0) != 0 ||
        write_cpu(thread, cpu_this()->index, cpu_this()->index) != 0) {
        thread->rseq = 0;
        return -EFAULT;
    }
    return 0;
}
