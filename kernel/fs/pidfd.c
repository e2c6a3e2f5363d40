/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of processes: pidfd_open().
 *
 * A descriptor keeps the process's structure, not the process.  It polls readable once the process
 * has ended, and names it to waitid() and process_madvise(), whatever number somebody else has by
 * then.
 */

#include <quire/writer.h>

#include "fd_table.h"
#include "fs.h"
#include "proc.h"
#include "syscall.h"

static uint32_t
pidfd_poll(struct file *file, struct poll_table *table)
{
    struct process *process = file->context;

    poll_register(table, &process->end_wait);
    return process_has_ended(process) ? POLLIN | POLLRDNORM : 0;
}

/* -1: somebody has waited for it. */
static void
pidfd_describe(struct file *file, struct qr_writer *writer)
{
    const struct process *process = file->context;
    struct process *found = process_find(process->id);
    int32_t id = found == process ? process->id : -1;

    if (found != NULL) {
        process_put(found);
    }
    qr_writer_printf(writer, "Pid:\t%d\nNSpid:\t%d\n", id, id);
}

static void
pidfd_release(struct file *file)
{
    process_put(file->context);
}

static const struct file_ops pidfd_ops = {
    .name = "pidfd",
    .poll = pidfd_poll,
    .describe = pidfd_describe,
    .release = pidfd_release,
};

int64_t
pidfd_process(int fd, struct process **out, uint32_t *out_flags)
{
    struct file *file = file_get(fd);
    int64_t error = 0;

    if (file == NULL) {
        return -EBADF;
    }
    if (file->ops == &pidfd_ops) {
        *out = file->context;
        *out_flags = atomic_load(&file->flags);
        process_ref(*out);
    } else {
        error = -EBADF;
    }
    file_put(file);
    return error;
}

int64_t
pidfd_make(struct process *process, uint32_t flags)
{
    struct file *file;
    int64_t error =
        file_create_anonymous("anon_inode:[pidfd]", &pidfd_ops, O_RDWR | flags, process, &file);

    if (error != 0) {
        process_put(process);
        return error;
    }
    int fd = fd_install(file, 0, true);
    file_put(file);
    return fd;
}

int64_t
sys_pidfd_open(const struct syscall_args *args)
{
    int32_t id = (int32_t)args->arg[0];
    uint32_t flags = (uint32_t)args->arg[1];

    if (flags & ~(uint32_t)O_NONBLOCK || id <= 0) {
        return -EINVAL;
    }
    struct process *process = process_find(id);
    if (process == NULL) {
        struct thread *thread = thread_find(id);

        if (thread == NULL) {
            return -ESRCH;
        }
        thread_put(thread);
        return -EINVAL; /* a thread that is not the first of its process */
    }
    return pidfd_make(process, flags);
}
