/* SPDX-License-Identifier: MIT */
/*
 * signalfd: signals that are blocked, to be read.
 *
 * A descriptor has a set and no signals of its own: a read takes those of the set that are pending for
 * whoever reads.  As signals are rare, all readers and pollers of the machine wait on one queue, which
 * is always there, whatever becomes of the process that opened the descriptor.
 */

#include <quire/writer.h>

#include "fd_table.h"
#include "fs.h"
#include "proc.h"
#include "syscall.h"

struct signalfd {
    _Atomic signal_set set;
};

/** struct signalfd_siginfo */
struct signal_record {
    uint32_t number;
    int32_t error, code;
    uint32_t pid, uid;
    int32_t fd;
    uint32_t timer_id, band, overrun, trap;
    int32_t status, value_int;
    uint64_t value_pointer, user_ticks, system_ticks, address;
    uint16_t address_lsb, pad;
    int32_t call;
    uint64_t call_address;
    uint32_t architecture;
    uint8_t reserved[28];
};
_Static_assert(sizeof(struct signal_record) == 128, "Linux ABI");

static void
value_set(struct signal_record *record, uint64_t value)
{
    record->value_pointer = value;
    record->value_int = (int32_t)value;
}

static void
record_of(const struct signal_info *info, struct signal_record *out)
{
    memset(out, 0, sizeof *out);
    out->number = (uint32_t)info->number;
    out->error = info->error;
    out->code = info->code;
    if (info->code == SI_TIMER) {
        out->timer_id = (uint32_t)info->timer.id;
        out->overrun = (uint32_t)info->timer.overrun;
        value_set(out, info->timer.value);
    } else if (info->number == SIGCHLD && info->code > 0) {
        out->pid = (uint32_t)info->child.pid;
        out->uid = info->child.uid;
        out->status = info->child.status;
        out->user_ticks = (uint64_t)info->child.user_ticks;
        out->system_ticks = (uint64_t)info->child.system_ticks;
    } else if (info->code <= 0) {
        out->pid = (uint32_t)info->sent.pid;
        out->uid = info->sent.uid;
        if (info->code == SI_QUEUE) {
            value_set(out, info->sent.value);
        }
    } else if (info->code != SI_KERNEL) {
        out->address = info->fault.address;
        out->address_lsb = (uint16_t)info->fault.address_lsb;
    }
}

/* As many as there are and as fit. */
static int64_t
signalfd_read(struct file *file, struct io *io, uint64_t *position)
{
    struct signalfd *self = file->context;
    struct signal_record record;
    struct signal_info info;
    int64_t done = 0, error;

    (void)position;
    if (io->left < sizeof record) {
        return -EINVAL;
    }
    while (io->left >= sizeof record) {
        if (signal_take(atomic_load(&self->set), &info) != 0) {
            record_of(&info, &record);
            if (io_put(io, &record, sizeof record) < sizeof record) {
                return done > 0 ? done : -EFAULT;
            }
            done += (int64_t)sizeof record;
            continue;
        }
        if (done > 0) {
            break;
        }
        if (atomic_load(&file->flags) & O_NONBLOCK) {
            return -EAGAIN;
        }
        WAIT_EVENT(error, &signal_arrived, (signal_pending_set() & atomic_load(&self->set)) != 0);
        if (error != 0) {
            return error;
        }
    }
    return done;
}

static uint32_t
signalfd_poll(struct file *file, struct poll_table *table)
{
    struct signalfd *self = file->context;

    poll_register(table, &signal_arrived);
    return signal_pending_set() & atomic_load(&self->set) ? POLLIN | POLLRDNORM : 0;
}

static void
signalfd_describe(struct file *file, struct qr_writer *writer)
{
    struct signalfd *self = file->context;

    qr_writer_printf(writer, "sigmask:\t%016llx\n", (unsigned long long)atomic_load(&self->set));
}

static void
signalfd_release(struct file *file)
{
    kmem_charged_free(file->context);
}

static const struct file_ops signalfd_ops = {
    .name = "signalfd",
    .read = signalfd_read,
    .poll = signalfd_poll,
    .describe = signalfd_describe,
    .release = signalfd_release,
};

static int64_t
signalfd_make(signal_set set, uint32_t flags)
{
    struct signalfd *self = kmem_charged_zalloc(sizeof *self);

    if (self == NULL) {
        return -ENOMEM;
    }
    atomic_init(&self->set, set);
    struct file *file;
    int64_t error = file_create_anonymous("anon_inode:[signalfd]", &signalfd_ops,
                                          O_RDWR | (flags & O_NONBLOCK), self, &file);
    if (error != 0) {
        kmem_charged_free(self);
        return error;
    }
    int fd = fd_install(file, 0, (flags & O_CLOEXEC) != 0);
    file_put(file);
    return fd;
}

/* Another set for a descriptor that there is. */
static int64_t
signalfd_change(int fd, signal_set set)
{
    struct file *file = file_get(fd);

    if (file == NULL) {
        return -EBADF;
    }
    bool is_one = file->ops == &signalfd_ops;
    if (is_one) {
        struct signalfd *self = file->context;

        atomic_store(&self->set, set);
        wait_wake_all(&signal_arrived);
    }
    file_put(file);
    return is_one ? fd : -EINVAL;
}

static int64_t
signalfd_call(const struct syscall_args *args, uint32_t flags)
{
    int32_t fd = (int32_t)args->arg[0];
    signal_set set;

    if (args->arg[2] != sizeof set) {
        return -EINVAL;
    }
    if (user_read(&set, args->arg[1], sizeof set) != 0) {
        return -EFAULT;
    }
    if (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK)) {
        return -EINVAL;
    }
    set &= ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
    return fd == -1 ? signalfd_make(set, flags) : signalfd_change(fd, set);
}

int64_t
sys_signalfd(const struct syscall_args *args)
{
    return signalfd_call(args, 0);
}

int64_t
sys_signalfd4(const struct syscall_args *args)
{
    return signalfd_call(args, (uint32_t)args->arg[3]);
}
