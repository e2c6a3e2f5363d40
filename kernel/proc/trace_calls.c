/* SPDX-License-Identifier: MIT */
/*
 * ptrace(2): what a tracer asks for.
 *
 * Every request but the first few wants a tracee that is stopped.  The tree lock is held while a
 * request decides that; then trace_settled() waits until the thread has left its CPU, so that its
 * registers, those of floating point included, lie in memory.  From there only SIGKILL can
 * wake it, and a thread that is to die reads none of them.
 *
 * Memory is read and written as through /proc/PID/mem: private pages that may not be written get a
 * copy, shared ones are refused.
 */
#include "abi_errno.h"
#include "kstring.h"
#include "proc_private.h"
#include "sched_private.h"
#include "syscall.h"
#include "trace.h"

enum {
    REQUEST_TRACEME = 0,
    REQUEST_PEEKTEXT = 1,
    REQUEST_PEEKDATA = 2,
    REQUEST_PEEKUSER = 3,
    REQUEST_POKETEXT = 4,
    REQUEST_POKEDATA = 5,
    REQUEST_POKEUSER = 6,
    REQUEST_CONT = 7,
    REQUEST_KILL = 8,
    REQUEST_SINGLESTEP = 9,
    REQUEST_ATTACH = 16,
    REQUEST_DETACH = 17,
    REQUEST_SYSCALL = 24,
    REQUEST_SETOPTIONS = 0x4200,
    REQUEST_GETEVENTMSG = 0x4201,
    REQUEST_GETSIGINFO = 0x4202,
    REQUEST_SETSIGINFO = 0x4203,
    REQUEST_GETREGSET = 0x4204,
    REQUEST_SETREGSET = 0x4205,
    REQUEST_SEIZE = 0x4206,
    REQUEST_INTERRUPT = 0x4207,
    REQUEST_LISTEN = 0x4208,
    REQUEST_PEEKSIGINFO = 0x4209,
    REQUEST_GETSIGMASK = 0x420a,
    REQUEST_SETSIGMASK = 0x420b,
    REQUEST_GET_SYSCALL_INFO = 0x420e
};

struct request {
    unsigned number;
    uint64_t address, data;
};

enum { NOTE_BYTES_MAX = 4096 };

/* ---- becoming a tracer ------------------------------------------------------------ */

static int64_t
trace_me(void)
{
    struct thread *thread = thread_current();
    int64_t result = -EPERM;

    process_tree_lock();
    if (thread->trace.tracer == NULL && thread->process->parent != NULL) {
        trace_link(thread, thread->process->parent, 0, false);
        result = 0;
    }
    process_tree_unlock();
    return result;
}

/* A thread that has stopped with its group stops again, for the tracer.  Tree. */
static void
attach_to_stopped(struct thread *thread)
{
    qr_spin_lock(&thread->process->signal_lock);
    if (atomic_load(&thread->state) == THREAD_STOPPED) {
        thread->stop_asked = true;
        signal_update(thread);
        (void)sched_wake(thread, 1u << THREAD_STOPPED);
    }
    qr_spin_unlock(&thread->process->signal_lock);
}

static int64_t
attach(struct thread *thread, const struct request *request)
{
    bool seize = request->number == REQUEST_SEIZE;
    static const struct signal_info from_user = {.number = SIGSTOP, .code = SI_USER};
    int64_t result = -EPERM;

    if (seize && (request->address != 0 || (request->data & ~(uint64_t)TRACE_OPTIONS)))
        return -EIO;
    if (thread->process == NULL || thread->process == process_current())
        return -EPERM;
    process_tree_lock();
    if (process_may_inspect(thread->process, thread->process->mm, false) &&
        thread->trace.tracer == NULL && !thread->exiting &&
        thread->process->state == PROCESS_ALIVE && process_current()->state == PROCESS_ALIVE) {
        trace_link(thread, process_current(), seize ? (uint32_t)request->data : 0, seize);
        attach_to_stopped(thread);
        result = 0;
    }
    process_tree_unlock();
    if (result == 0 && !seize)
        (void)signal_send_thread(thread, SIGSTOP, &from_user);
    return result;
}

/* ---- a tracee that stands still ---------------------------------------------------- */

static bool
is_ours(const struct thread *thread)
{
    return thread->trace.tracer == process_current() && !thread->trace.ended;
}

/* Is @thread stopped for us, and off its CPU?  It stays so, but for SIGKILL. */
static bool
trace_settled(struct thread *thread)
{
    bool stopped;

    process_tree_lock();
    stopped = is_ours(thread) && thread->trace.stopped && !thread->trace.listening;
    process_tree_unlock();
    return stopped && sched_wait_off(thread, THREAD_TRACED);
}

/* ---- going on ----------------------------------------------------------------------- */

/* Every request that ends the stop. */
static int64_t
go_on(struct thread *thread, const struct request *request)
{
    bool step = request->number == REQUEST_SINGLESTEP;
    int number = (int)request->data;

    if (request->data > SIGRTMAX)
        return -EIO;
    if ((step || thread->trace.stepping) && !arch_trace_step(&thread->arch, step))
        return -EIO;
    process_tree_lock();
    if (is_ours(thread) && thread->trace.stopped) {
        thread->trace.stepping = step;
        thread->trace.syscalls = request->number == REQUEST_SYSCALL;
        if (request->number == REQUEST_DETACH)
            trace_unlink(thread, number);
        else
            trace_resume(thread, request->number == REQUEST_KILL ? SIGKILL : number);
    }
    process_tree_unlock();
    return 0;
}

static int64_t
interrupt(struct thread *thread)
{
    int64_t result = -EIO;

    process_tree_lock();
    if (!is_ours(thread)) {
        result = -ESRCH;
    } else if (thread->trace.seized) {
        qr_spin_lock(&thread->process->signal_lock);
        thread->trace.interrupted = true;
        signal_wake(thread, false);
        qr_spin_unlock(&thread->process->signal_lock);
        if (thread->trace.listening)
            trace_resume(thread, 0);
        result = 0;
    }
    process_tree_unlock();
    return result;
}

static int64_t
listen(struct thread *thread)
{
    int64_t result = -EIO;

    process_tree_lock();
    if (is_ours(thread) && thread->trace.seized && thread->trace.stopped &&
        thread->trace.has_info && thread->trace.info.code >> 8 == EVENT_STOP) {
        thread->trace.listening = true;
        if (thread->trace.interrupted)
            trace_resume(thread, 0);
        result = 0;
    }
    process_tree_unlock();
    return result;
}

/* ---- memory and words --------------------------------------------------------------- */

static int64_t
peek(struct thread *thread, const struct request *request)
{
    unsigned long word;
    struct mm *mm = mm_of_process(thread->process);
    size_t got = 0;

    if (mm != NULL) {
        got = mm_access(mm, request->address, &word, sizeof(word), MM_FORCE_READ);
        mm_put(mm);
    }
    return got == sizeof(word) ? user_write_word(request->data, word) : -EIO;
}

static int64_t
poke(struct thread *thread, const struct request *request)
{
    unsigned long word = (unsigned long)request->data;
    struct mm *mm = mm_of_process(thread->process);
    size_t done = 0;

    if (mm != NULL) {
        done = mm_access(mm, request->address, &word, sizeof(word), MM_FORCE_WRITE);
        mm_put(mm);
    }
    return done == sizeof(word) ? 0 : -EIO;
}

/* A word of the general registers, or of what else PEEKUSER shows: zeroes. */
static int64_t
user_area(struct thread *thread, const struct request *request)
{
    unsigned long words[64] = {0};
    size_t bytes = arch_trace_bytes(NOTE_GENERAL);
    bool poke_it = request->number == REQUEST_POKEUSER;

    if (arch_trace_user_bytes() == 0 || (request->address & (sizeof(long) - 1)) != 0 ||
        request->address > arch_trace_user_bytes() - sizeof(long))
        return -EIO;
    bool general = request->address < bytes;

    if (bytes > sizeof(words))
        return -EIO;
    arch_trace_get(&thread->arch, NOTE_GENERAL, words);
    unsigned long *word = general ? &words[request->address / sizeof(long)] : &words[63];

    if (!general)
        *word = 0;
    if (!poke_it)
        return user_write_word(request->data, *word);
    if (!general)
        return request->data == 0 ? 0 : -EIO;
    *word = (unsigned long)request->data;
    return arch_trace_set(&thread->arch, NOTE_GENERAL, words) ? 0 : -EIO;
}

/* ---- sets of registers ----------------------------------------------------------------- */

/* Read or write the first @bytes of a set. */
static int64_t
registers(struct thread *thread, unsigned note, uint64_t user, size_t bytes, bool set)
{
    void *image = kmem_zalloc(NOTE_BYTES_MAX);
    int64_t result = 0;

    if (image == NULL)
        return -ENOMEM;
    arch_trace_get(&thread->arch, note, image);
    if (!set)
        result = user_write(user, image, bytes);
    else if (user_read(image, user, bytes) != 0)
        result = -EFAULT;
    else if (!arch_trace_set(&thread->arch, note, image))
        result = -EINVAL;
    kmem_free(image);
    return result;
}

static int64_t
register_set(struct thread *thread, const struct request *request)
{
    unsigned note = (unsigned)request->address;
    uint64_t base, length;
    size_t bytes = arch_trace_bytes(note);
    int64_t result;

    if (user_read_word(&base, request->data) != 0 ||
        user_read_word(&length, request->data + sizeof(long)) != 0)
        return -EFAULT;
    if (bytes == 0)
        return -EINVAL;
    if (length % (note == NOTE_ARM_SYSCALL ? 4 : sizeof(long)) != 0)
        return -EINVAL;
    bytes = length < bytes ? (size_t)length : bytes;
    result = registers(thread, note, base, bytes, request->number == REQUEST_SETREGSET);
    if (result == 0)
        result = user_write_word(request->data + sizeof(long), bytes);
    return result;
}

/* ---- what the stop is about ---------------------------------------------------------------- */

static int64_t
signal_information(struct thread *thread, const struct request *request)
{
    bool set = request->number == REQUEST_SETSIGINFO;
    struct signal_info info;
    int64_t result = -EINVAL;

    if (set && user_read(&info, request->data, sizeof(info)) != 0)
        return -EFAULT;
    process_tree_lock();
    if (is_ours(thread) && thread->trace.stopped && thread->trace.has_info) {
        if (set)
            thread->trace.info = info;
        else
            info = thread->trace.info;
        result = 0;
    }
    process_tree_unlock();
    return result == 0 && !set ? user_write(request->data, &info, sizeof(info)) : result;
}

struct peek_signals {
    uint64_t first;
    uint32_t flags;
    int32_t count;
};

#define PEEK_PROCESS 1u /* what is pending for the process, not for the thread alone */

/* The @index-th signal that waits, the oldest first. @return false: there are fewer */
static bool
queued_signal(struct thread *thread, bool of_process, uint64_t index, struct signal_info *out)
{
    struct process *process = thread->process;
    const struct signal_pending *pending = of_process ? &process->pending : &thread->pending;
    bool found = false;

    qr_spin_lock(&process->signal_lock);
    qr_list_for_each(link, &pending->list)
    {
        if (index-- == 0) {
            *out = qr_list_entry(link, struct signal_queued, link)->info;
            found = true;
            break;
        }
    }
    qr_spin_unlock(&process->signal_lock);
    return found;
}

/* @return how many were written */
static int64_t
peek_signals(struct thread *thread, const struct request *request)
{
    struct peek_signals peek;
    struct signal_info info;
    int32_t done = 0;

    if (user_read(&peek, request->address, sizeof(peek)) != 0)
        return -EFAULT;
    if ((peek.flags & ~PEEK_PROCESS) != 0 || peek.count < 0)
        return -EINVAL;
    while (done < peek.count && peek.first <= UINT64_MAX - (uint32_t)done &&
           queued_signal(thread, peek.flags & PEEK_PROCESS, peek.first + (uint32_t)done, &info)) {
        if (user_write(request->data + (uint64_t)done * sizeof(info), &info, sizeof(info)) != 0)
            return done > 0 ? done : -EFAULT;
        done++;
        if (signal_is_pending())
            break;
    }
    return done;
}

static int64_t
signal_mask(struct thread *thread, const struct request *request)
{
    signal_set mask;

    if (request->address != sizeof(mask))
        return -EINVAL;
    if (request->number == REQUEST_GETSIGMASK) {
        mask = thread->mask_borrowed ? thread->saved_mask : thread->blocked;
        return user_write(request->data, &mask, sizeof(mask));
    }
    if (user_read(&mask, request->data, sizeof(mask)) != 0)
        return -EFAULT;
    mask &= ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
    process_tree_lock();
    qr_spin_lock(&thread->process->signal_lock);
    thread->blocked = mask;
    thread->mask_borrowed = false;
    signal_update(thread);
    qr_spin_unlock(&thread->process->signal_lock);
    process_tree_unlock();
    return 0;
}

struct syscall_info {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t ip, sp;
    union {
        struct {
            uint64_t number, args[6];
        } entry;
        struct {
            int64_t result;
            uint8_t is_error;
        } exit;
    };
};

static int64_t
syscall_information(struct thread *thread, const struct request *request)
{
    const struct trap_frame *frame = arch_user_frame(&thread->arch);
    struct syscall_info info = {.op = thread->trace.in_call,
                                .arch = arch_trace_audit(),
                                .ip = frame_ip(frame),
                                .sp = frame_sp(frame)};
    size_t bytes = offsetof(struct syscall_info, entry);

    if (info.op == TRACE_CALL_ENTERED) {
        info.entry.number = frame_syscall_number(frame);
        for (unsigned i = 0; i < 6; i++)
            info.entry.args[i] = frame_syscall_arg(frame, i);
        bytes = offsetof(struct syscall_info, entry) + sizeof(info.entry);
    } else if (info.op == TRACE_CALL_DONE) {
        info.exit.result = frame_result(frame);
        info.exit.is_error = info.exit.result < 0 && info.exit.result >= -4095;
        bytes = offsetof(struct syscall_info, exit.is_error) + 1;
    }
    size_t wanted = request->address < bytes ? (size_t)request->address : bytes;

    return user_write(request->data, &info, wanted) != 0 ? -EFAULT : (int64_t)bytes;
}

static int64_t
set_options(struct thread *thread, uint64_t options)
{
    if (options & ~(uint64_t)TRACE_OPTIONS)
        return -EINVAL;
    process_tree_lock();
    thread->trace.options = (uint32_t)options;
    process_tree_unlock();
    return 0;
}

/* ---- the call ---------------------------------------------------------------------------- */

static int64_t
ask_stopped(struct thread *thread, const struct request *request)
{
    unsigned note;
    bool set;

    switch (request->number) {
    case REQUEST_PEEKTEXT:
    case REQUEST_PEEKDATA:
        return peek(thread, request);
    case REQUEST_POKETEXT:
    case REQUEST_POKEDATA:
        return poke(thread, request);
    case REQUEST_PEEKUSER:
    case REQUEST_POKEUSER:
        return user_area(thread, request);
    case REQUEST_CONT:
    case REQUEST_SYSCALL:
    case REQUEST_SINGLESTEP:
    case REQUEST_DETACH:
        return go_on(thread, request);
    case REQUEST_SETOPTIONS:
        return set_options(thread, request->data);
    case REQUEST_GETEVENTMSG:
        return user_write_word(request->data, thread->trace.message);
    case REQUEST_GETSIGINFO:
    case REQUEST_SETSIGINFO:
        return signal_information(thread, request);
    case REQUEST_PEEKSIGINFO:
        return peek_signals(thread, request);
    case REQUEST_GETSIGMASK:
    case REQUEST_SETSIGMASK:
        return signal_mask(thread, request);
    case REQUEST_GETREGSET:
    case REQUEST_SETREGSET:
        return register_set(thread, request);
    case REQUEST_GET_SYSCALL_INFO:
        return syscall_information(thread, request);
    case REQUEST_LISTEN:
        return listen(thread);
    default:
        if (!arch_trace_request(request->number, &note, &set))
            return -EIO;
        return registers(thread, note, request->data, arch_trace_bytes(note), set);
    }
}

static int64_t
ask(struct thread *thread, const struct request *request)
{
    bool stopped;

    if (request->number == REQUEST_ATTACH || request->number == REQUEST_SEIZE)
        return attach(thread, request);
    if (request->number == REQUEST_INTERRUPT)
        return interrupt(thread);
    stopped = trace_settled(thread);
    if (request->number == REQUEST_KILL) {
        const struct request kill = {.number = REQUEST_KILL};

        process_tree_lock();
        bool ours = is_ours(thread);
        process_tree_unlock();
        return stopped ? go_on(thread, &kill) : ours ? 0 : -ESRCH;
    }
    return stopped ? ask_stopped(thread, request) : -ESRCH;
}

int64_t
sys_ptrace(const struct syscall_args *args)
{
    const struct request request = {(unsigned)args->arg[0], args->arg[2], args->arg[3]};
    struct thread *thread;
    int64_t result;

    if (args->arg[0] == REQUEST_TRACEME)
        return trace_me();
    thread = thread_find((int32_t)args->arg[1]);
    if (thread == NULL)
        return -ESRCH;
    result = ask(thread, &request);
    thread_put(thread);
    return result;
}
