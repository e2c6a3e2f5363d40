/* SPDX-License-Identifier: MIT */
/*
 * What the files of /proc/PID say: texts, and the two binary files pagemap and mem.
 *
 * A text function gets a process that stays alive during the call.  Its memory may be gone, for
 * a zombie or a kernel thread: then the text is empty, or zeros where a program expects columns.
 */

#include "proc_pid.h"

#include <quire/policy.h>
#include <quire/report.h>

#include "arch.h"
#include "fd_table.h"
#include "proc.h"
#include "refuse.h"
#include "text.h"
#include "tty.h"

enum { CAP_SYS_ADMIN = 21 };
enum { USER_HZ = 100, DUMP_CHUNK = 4096, DUMP_LIMIT = 1 << 20 };

/* ---- texts --------------------------------------------------------------------------- */

/* The texts of regions: where they go on is an address. */
bool
proc_show_maps(const struct text_target *target, qr_va *from, struct qr_buffer_writer *out)
{
    return target->mm != NULL && qr_report_maps(kernel_report(), target->mm->space, from, out);
}

bool
proc_show_smaps(const struct text_target *target, qr_va *from, struct qr_buffer_writer *out)
{
    return target->mm != NULL && qr_report_smaps(kernel_report(), target->mm->space, from, out);
}

/* With the policy of the thread, or the process's first one. */
bool
proc_show_numa_maps(const struct text_target *target, qr_va *from, struct qr_buffer_writer *out)
{
    struct thread *thread = target->thread;
    struct qr_mempolicy *policy = NULL;

    if (target->mm == NULL)
        return false;
    if (thread != NULL)
        thread_ref(thread);
    else
        thread = thread_find(target->process->id);
    if (thread != NULL) {
        policy = mm_thread_policy_get(thread);
        thread_put(thread);
    }
    bool more = qr_report_numa_maps(kernel_report(), target->mm->space, policy, from, out);

    qr_mempolicy_put(policy);
    return more;
}

void
proc_show_smaps_rollup(const struct text_target *target, struct qr_writer *writer)
{
    if (target->mm == NULL)
        text_writer_fail(writer, -ESRCH); /* unlike all others */
    else
        qr_report_smaps_rollup(kernel_report(), target->mm->space, writer);
}

void
proc_show_statm(const struct text_target *target, struct qr_writer *writer)
{
    struct mm *mm = mm_of_process(target->process);

    if (mm == NULL) {
        qr_writer_printf(writer, "0 0 0 0 0 0 0\n");
        return;
    }
    qr_report_statm(mm->space, writer);
    mm_put(mm);
}

static const char *
state_name(char state)
{
    switch (state) {
    case 'R':
        return "running";
    case 'S':
        return "sleeping";
    case 'D':
        return "disk sleep";
    case 'T':
        return "stopped";
    case 't':
        return "tracing stop";
    case 'Z':
        return "zombie";
    default:
        return "dead";
    }
}

static void
status_identity_write(const struct text_target *target, const struct process_status *status,
                      struct qr_writer *writer)
{
    const struct credentials *who = &status->credentials;
    struct fs_context *fs = process_fs(target->process);
    struct fd_table *files = process_files(target->process);
    int32_t tid = target->thread != NULL ? target->thread->tid : status->id;

    qr_writer_printf(writer, "Name:\t%s\n", status->name);
    if (fs != NULL) {
        qr_writer_printf(writer, "Umask:\t0%u%u%u\n", fs->umask >> 6 & 7, fs->umask >> 3 & 7,
                         fs->umask & 7);
        fs_context_put(fs);
    }
    qr_writer_printf(writer, "State:\t%c (%s)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\n",
                     status->state, state_name(status->state), status->id, tid, status->parent);
    qr_writer_printf(writer, "TracerPid:\t%d\nUid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n",
                     trace_tracer_id(target->process, target->thread), who->uid, who->euid,
                     who->suid, who->fsuid, who->gid, who->egid, who->sgid, who->fsgid);
    qr_writer_printf(writer, "FDSize:\t%u\nGroups:\t",
                     files == NULL ? 0 : fd_table_capacity(files));
    if (files != NULL) {
        fd_table_put(files);
    }
    for (uint32_t i = 0; i < who->group_count; i++) {
        qr_writer_printf(writer, i == 0 ? "%u" : " %u", who->groups[i]);
    }
    qr_writer_printf(writer, " \nNStgid:\t%d\nNSpid:\t%d\nNSpgid:\t%d\nNSsid:\t%d\n", status->id,
                     tid, status->group, status->session);
}

/* From the first to the last of @count. */
static void
list_write(struct qr_writer *writer, const char *name, unsigned count)
{
    qr_writer_printf(writer, count > 1 ? "%s:\t0-%u\n" : "%s:\t%u\n", name, count - 1);
}

/* The words of a bit for each CPU, and for each node with memory, as masks and as lists. */
static void
status_machine_write(struct qr_writer *writer)
{
    unsigned cpus = cpu_count(), nodes = sysfs_node_count();

    qr_writer_printf(writer, "Cpus_allowed:\t%x\n", cpus < 32 ? (1u << cpus) - 1 : ~0u);
    list_write(writer, "Cpus_allowed_list", cpus);
    qr_writer_printf(writer, "Mems_allowed:\t%08x\n",
                     (uint32_t)(((uint64_t)1 << (nodes < 32 ? nodes : 32)) - 1));
    list_write(writer, "Mems_allowed_list", nodes);
}

static void
status_rest_write(const struct process_status *status, struct qr_writer *writer)
{
    const struct credentials *who = &status->credentials;

    qr_writer_printf(writer, "Threads:\t%u\nSigQ:\t0/1024\n", status->threads);
    qr_writer_printf(writer, "SigPnd:\t%016llx\nShdPnd:\t%016llx\nSigBlk:\t%016llx\n",
                     (unsigned long long)status->pending,
                     (unsigned long long)status->shared_pending,
                     (unsigned long long)status->blocked);
    qr_writer_printf(writer, "SigIgn:\t%016llx\nSigCgt:\t%016llx\n",
                     (unsigned long long)status->ignored, (unsigned long long)status->caught);
    qr_writer_printf(writer, "CapInh:\t%016llx\nCapPrm:\t%016llx\nCapEff:\t%016llx\n",
                     (unsigned long long)who->cap_inheritable,
                     (unsigned long long)who->cap_permitted,
                     (unsigned long long)who->cap_effective);
    qr_writer_printf(
        writer,
        "CapBnd:\t%016llx\nCapAmb:\t%016llx\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n",
        (unsigned long long)who->cap_bounding, (unsigned long long)who->cap_ambient);
    status_machine_write(writer);
    qr_writer_printf(writer, "voluntary_ctxt_switches:\t%lu\nnonvoluntary_ctxt_switches:\t%lu\n",
                     (unsigned long)status->used.voluntary_switches,
                     (unsigned long)status->used.involuntary_switches);
}

void
proc_show_status(const struct text_target *target, struct qr_writer *writer)
{
    struct process_status status;
    struct mm *mm = mm_of_process(target->process);

    process_status(target->process, target->thread, &status);
    status_identity_write(target, &status, writer);
    if (mm != NULL) {
        qr_report_status(mm->space, writer);
        qr_writer_printf(writer, "CoreDumping:\t%d\nTHP_enabled:\t%d\n",
                         target->process->core_thread != NULL,
                         !atomic_load(&mm->space->huge_disabled));
        mm_put(mm);
    }
    status_rest_write(&status, writer);
}

static unsigned long
ticks_of(uint64_t ns)
{
    return (unsigned long)(ns / (1000000000u / USER_HZ));
}

/* The memory columns of /proc/PID/stat; zeros without memory. */
struct stat_memory {
    unsigned long size, resident, code_start, code_end, stack_start;
    unsigned long data_start, data_end, brk_start, arg_start, arg_end, env_start, env_end;
};

static void
stat_memory_get(struct process *process, struct stat_memory *out)
{
    struct mm *mm = mm_of_process(process);
    struct qr_space_counts counts;

    *out = (struct stat_memory){0};
    if (mm == NULL) {
        return;
    }
    qr_space_counts(mm->space, &counts);
    *out = (struct stat_memory){
        .size = counts.virtual_pages * FS_PAGE_BYTES,
        .resident = counts.resident_anon + counts.resident_file + counts.resident_shmem,
        .code_start = mm->code_start,
        .code_end = mm->code_end,
        .stack_start = mm->stack_start,
        .data_start = mm->data_start,
        .data_end = mm->data_end,
        .brk_start = mm->space->brk_start.v,
        .arg_start = mm->arg_start,
        .arg_end = mm->arg_end,
        .env_start = mm->env_start,
        .env_end = mm->env_end,
    };
    if (!process_may_look(process)) { /* where things lie */
        *out = (struct stat_memory){
            .size = out->size, .resident = out->resident, .code_start = 1, .code_end = 1};
    }
    mm_put(mm);
}

void
proc_show_stat(const struct text_target *target, struct qr_writer *writer)
{
    struct process_status s;
    struct stat_memory m;

    process_status(target->process, target->thread, &s);
    stat_memory_get(target->process, &m);
    int32_t id = target->thread != NULL ? target->thread->tid : s.id;
    qr_writer_printf(writer, "%d (%s) %c %d %d %d %d %d 0 ", id, s.name, s.state, s.parent, s.group,
                     s.session, tty_session_device(s.session) == 0 ? 0 : 4 << 8 | 64,
                     tty_session_foreground(s.session));
    qr_writer_printf(writer, "%lu %lu %lu %lu %lu %lu %lu %lu ", (unsigned long)s.used.minor_faults,
                     (unsigned long)s.children_used.minor_faults,
                     (unsigned long)s.used.major_faults,
                     (unsigned long)s.children_used.major_faults, ticks_of(s.used.user_ns),
                     ticks_of(s.used.system_ns), ticks_of(s.children_used.user_ns),
                     ticks_of(s.children_used.system_ns));
    qr_writer_printf(writer, "%d %d %u 0 %lu %lu %lu %lu ", 20 + s.nice, s.nice, s.threads,
                     ticks_of(s.start_ns), m.size, m.resident,
                     (unsigned long)target->process->limits[RLIMIT_RSS].soft);
    qr_writer_printf(writer, "%lu %lu %lu 0 0 %lu %lu %lu %lu 0 0 0 %d %u 0 0 0 0 0 ", m.code_start,
                     m.code_end, m.stack_start, (unsigned long)(s.pending & 0x7fffffff),
                     (unsigned long)(s.blocked & 0x7fffffff),
                     (unsigned long)(s.ignored & 0x7fffffff),
                     (unsigned long)(s.caught & 0x7fffffff), s.exit_signal, s.cpu);
    qr_writer_printf(writer, "%lu %lu %lu %lu %lu %lu %lu %d\n", m.data_start, m.data_end,
                     m.brk_start, m.arg_start, m.arg_end, m.env_start, m.env_end, s.exit_status);
}

/* Of a process with the children that it waited for, as in Linux. */
void
proc_show_io(const struct text_target *target, struct qr_writer *writer)
{
    struct process_status status;
    const struct io_usage *io = &status.used.io;

    process_status(target->process, target->thread, &status);
    if (target->thread == NULL)
        usage_add(&status.used, &status.children_used);
    qr_writer_printf(writer, "rchar: %llu\nwchar: %llu\nsyscr: %llu\nsyscw: %llu\n",
                     (unsigned long long)io->read_chars, (unsigned long long)io->written_chars,
                     (unsigned long long)io->read_calls, (unsigned long long)io->write_calls);
    qr_writer_printf(writer, "read_bytes: %llu\nwrite_bytes: %llu\ncancelled_write_bytes: %llu\n",
                     (unsigned long long)io->read_bytes, (unsigned long long)io->written_bytes,
                     (unsigned long long)io->cancelled_bytes);
}

void
proc_show_comm(const struct text_target *target, struct qr_writer *writer)
{
    struct process_status status;

    process_status(target->process, target->thread, &status);
    qr_writer_printf(writer, "%s\n", status.name);
}

/* Bytes of the process's own memory. */
static void
dump_memory(struct mm *mm, uint64_t start, uint64_t end, struct qr_writer *writer)
{
    char *chunk = kmem_alloc(DUMP_CHUNK);

    if (chunk == NULL) {
        return;
    }
    if (end < start || end - start > DUMP_LIMIT) {
        end = start > UINT64_MAX - DUMP_LIMIT || end < start ? start : start + DUMP_LIMIT;
    }
    while (start < end) {
        size_t want = end - start < DUMP_CHUNK ? (size_t)(end - start) : DUMP_CHUNK;
        size_t got = mm_access(mm, start, chunk, want, MM_FORCE_READ);

        writer->emit(writer, chunk, got);
        start += got;
        if (got < want) {
            break;
        }
    }
    kmem_free(chunk);
}

void
proc_show_cmdline(const struct text_target *target, struct qr_writer *writer)
{
    struct mm *mm = mm_of_process(target->process);

    if (mm != NULL) {
        dump_memory(mm, mm->arg_start, mm->arg_end, writer);
        mm_put(mm);
    }
}

void
proc_show_environ(const struct text_target *target, struct qr_writer *writer)
{
    if (target->mm != NULL)
        dump_memory(target->mm, target->mm->env_start, target->mm->env_end, writer);
}

/* Up to and with the pair that ends the vector. */
void
proc_show_auxv(const struct text_target *target, struct qr_writer *writer)
{
    const struct mm *mm = target->held;

    for (unsigned i = 0; mm != NULL && i + 1 < MM_AUXV_WORDS; i += 2) {
        writer->emit(writer, (const char *)&mm->auxv[i], 2 * sizeof mm->auxv[i]);
        if (mm->auxv[i] == 0) {
            break;
        }
    }
}

void
proc_show_limits(const struct text_target *target, struct qr_writer *writer)
{
    static const struct {
        const char *name, *unit;
    } rows[RLIMIT_COUNT] = {
        {"Max cpu time", "seconds"},     {"Max file size", "bytes"},
        {"Max data size", "bytes"},      {"Max stack size", "bytes"},
        {"Max core file size", "bytes"}, {"Max resident set", "bytes"},
        {"Max processes", "processes"},  {"Max open files", "files"},
        {"Max locked memory", "bytes"},  {"Max address space", "bytes"},
        {"Max file locks", "locks"},     {"Max pending signals", "signals"},
        {"Max msgqueue size", "bytes"},  {"Max nice priority", ""},
        {"Max realtime priority", ""},   {"Max realtime timeout", "us"},
    };

    qr_writer_printf(writer, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit",
                     "Units");
    for (unsigned i = 0; i < RLIMIT_COUNT; i++) {
        uint64_t values[2] = {target->process->limits[i].soft, target->process->limits[i].hard};

        qr_writer_printf(writer, "%-25s ", rows[i].name);
        for (unsigned j = 0; j < 2; j++) {
            if (values[j] == RLIM_INFINITY) {
                qr_writer_printf(writer, "%-20s ", "unlimited");
            } else {
                qr_writer_printf(writer, "%-20llu ", (unsigned long long)values[j]);
            }
        }
        qr_writer_printf(writer, rows[i].unit[0] == '\0' ? "%s\n" : "%-10s\n", rows[i].unit);
    }
}

void
proc_show_mounts(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    mounts_write(writer);
}

void
proc_show_mountinfo(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    mountinfo_write(writer);
}

/* ---- mem: binary, by position ------------------------------------------------ */

/* The context of a file that looks into memory. */
struct memory_view {
    struct mm *mm; /* its structure is held; NULL: a zombie's */
    bool frames;
};

int64_t
proc_memory_open(struct file *file)
{
    struct memory_view *view = kmem_alloc(sizeof *view);

    if (view == NULL) {
        return -ENOMEM;
    }
    int64_t error = text_memory_hold(file->inode, &view->mm);

    if (error != 0) {
        kmem_free(view);
        return error;
    }
    view->frames = process_has_capability(CAP_SYS_ADMIN);
    file->context = view;
    return 0;
}

void
proc_memory_release(struct file *file)
{
    struct memory_view *view = file->context;

    if (view->mm != NULL) {
        mm_release(view->mm);
    }
    kmem_free(view);
}

struct mm *
proc_memory_of(const struct file *file)
{
    const struct memory_view *view = file->context;

    return view->mm != NULL && mm_try_ref(view->mm) ? view->mm : NULL;
}

bool
proc_memory_shows_frames(const struct file *file)
{
    const struct memory_view *view = file->context;

    return view->frames;
}

int64_t
proc_seek_wide(struct file *file, int64_t offset, int whence)
{
    return whence == SEEK_END ? -EINVAL : seek_plain(file, offset, whence, 0);
}

/* One page at a time through a kernel buffer, whoever's memory it is. */
static int64_t
mem_transfer(struct mm *mm, struct io *io, uint64_t *position, char *page, bool write)
{
    size_t total = 0, asked = io->left;

    while (io->left > 0) {
        size_t want = FS_PAGE_BYTES - *position % FS_PAGE_BYTES;
        size_t done;

        want = want < io->left ? want : io->left;
        if (write) {
            size_t got = io_take(io, page, want);

            if (total == 0 && got == 0) {
                return -EFAULT;
            }
            done = got == 0 ? 0 : mm_access(mm, *position, page, got, MM_FORCE_WRITE);
        } else {
            size_t got = mm_access(mm, *position, page, want, MM_FORCE_READ);

            done = io_put(io, page, got);
            if (total == 0 && got > 0 && done == 0) {
                return -EFAULT;
            }
        }
        *position += done;
        total += done;
        if (done < want || signal_is_pending()) {
            break;
        }
    }
    return total > 0 ? (int64_t)total : asked > 0 ? -EIO : 0;
}

static int64_t
mem_call(struct file *file, struct io *io, uint64_t *position, bool write)
{
    struct mm *mm = proc_memory_of(file);

    if (mm == NULL) {
        return 0;
    }
    char *page = kmem_alloc(FS_PAGE_BYTES);
    int64_t result = page == NULL ? -ENOMEM : mem_transfer(mm, io, position, page, write);
    kmem_free(page);
    mm_put(mm);
    return result;
}

static int64_t
mem_read(struct file *file, struct io *io, uint64_t *position)
{
    return mem_call(file, io, position, false);
}

static int64_t
mem_write(struct file *file, struct io *io, uint64_t *position)
{
    return mem_call(file, io, position, true);
}

const struct file_ops proc_mem_ops = {
    .name = "mem",
    .read = mem_read,
    .write = mem_write,
    .seek = proc_seek_wide,
    .truncate = text_truncate,
    .release = proc_memory_release,
};

/* ---- fail-nth: tests only; must not allocate itself ---------------------------------------- */

static bool
inode_is_own(const struct inode *inode)
{
    struct process *process = process_current();

    return process != NULL && (uint64_t)process->id == inode->key;
}

static int64_t
fail_nth_read(struct file *file, struct io *io, uint64_t *position)
{
    char text[16];

    if (!inode_is_own(file->inode)) {
        return -EPERM;
    }
    if (*position > 0) {
        return 0;
    }
    int length = snprintf(text, sizeof text, "%u\n", refuse_remaining());
    size_t done = io_put(io, text, (size_t)length);
    *position += done;
    return done > 0 ? (int64_t)done : -EFAULT;
}

static int64_t
fail_nth_write(struct file *file, struct io *io, uint64_t *position)
{
    char text[16];
    uint64_t nth;
    size_t bytes = io->left;

    (void)position;
    if (!inode_is_own(file->inode)) {
        return -EPERM;
    }
    if (bytes == 0 || bytes >= sizeof text) {
        return -EINVAL;
    }
    if (io_take(io, text, bytes) < bytes) {
        return -EFAULT;
    }
    if (decimal_parse(text, bytes, &nth) == 0 || nth > INT32_MAX) {
        return -EINVAL;
    }
    return refuse_arm((uint32_t)nth) ? (int64_t)bytes : -EBUSY;
}

static void
fail_nth_release(struct file *file)
{
    (void)file;
    refuse_forget(thread_current());
}

const struct file_ops proc_fail_nth_ops = {
    .name = "fail-nth",
    .read = fail_nth_read,
    .write = fail_nth_write,
    .seek = proc_seek_wide,
    .release = fail_nth_release,
};
