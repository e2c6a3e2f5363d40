/* SPDX-License-Identifier: MIT */
/*
 * Files that one can poll for POLLPRI: pressure files, whose writer says of what to be told, and the
 * events of control groups, which tell of every change since they were last read.
 */
#include "cgroupfs.h"

#include "proc.h"
#include "psi.h"

enum { TEXT_BYTES = 512, TRIGGER_BYTES = 64 };

/* What an open file of either kind keeps. */
struct told {
    struct cgroup *cgroup;       /* a reference; NULL: the machine's pressure */
    struct psi_trigger *trigger; /* inode's lock: of a pressure file, once it was written to */
    enum cgroup_changes which;   /* const: of an events file */
    unsigned seen;               /* inode's lock: changes that were there when it was read */
    struct qr_buffer_writer writer;
    char text[TEXT_BYTES]; /* inode's lock */
};

static int64_t
told_open(struct inode *inode, struct file *file, const struct file_ops *ops)
{
    struct told *told = kmem_zalloc(sizeof *told);

    if (told == NULL) {
        return -ENOMEM;
    }
    if (inode->key_more != 0) {
        told->cgroup = cgroup_of_inode(inode);
        if (told->cgroup == NULL) {
            kmem_free(told);
            return -ENODEV;
        }
    }
    file->context = told;
    file->ops = ops;
    return 0;
}

/* The text, made when it is read from its start.  Inode's lock. */
static int64_t
told_read(struct file *file, struct io *io, uint64_t *position,
          void (*make)(const struct file *file, struct told *told))
{
    struct told *told = file->context;
    int64_t result = 0;

    qr_mutex_lock(&file->inode->lock);
    if (*position == 0) {
        qr_buffer_writer_init(&told->writer, told->text, TEXT_BYTES);
        make(file, told);
    }
    size_t length = told->writer.length < TEXT_BYTES ? told->writer.length : TEXT_BYTES - 1;

    if (*position < length) {
        size_t left = length - (size_t)*position;
        size_t want = io->left < left ? io->left : left;
        size_t done = io_put(io, told->text + *position, want);

        *position += done;
        result = done > 0 || want == 0 ? (int64_t)done : -EFAULT;
    }
    qr_mutex_unlock(&file->inode->lock);
    return result;
}

static int64_t
told_seek(struct file *file, int64_t offset, int whence)
{
    return whence == SEEK_SET || whence == SEEK_CUR ? seek_plain(file, offset, whence, 0) : -EINVAL;
}

static void
told_release(struct file *file)
{
    struct told *told = file->context;

    if (told->trigger != NULL) {
        psi_trigger_destroy(told->trigger);
    }
    cgroup_put(told->cgroup);
    kmem_free(told);
}

static int64_t
told_truncate(struct file *file, uint64_t size)
{
    (void)file;
    (void)size;
    return 0;
}

/* ---- Pressure ---------------------------------------------------------------------- */

static void
pressure_make(const struct file *file, struct told *told)
{
    (void)file;
    psi_show(told->cgroup, &told->writer.writer);
}

static int64_t
pressure_read(struct file *file, struct io *io, uint64_t *position)
{
    return told_read(file, io, position, pressure_make);
}

/* One trigger a file. */
static int64_t
pressure_write(struct file *file, struct io *io, uint64_t *position)
{
    struct told *told = file->context;
    size_t bytes = io->left;
    char text[TRIGGER_BYTES];
    int64_t error = 0;

    (void)position;
    if (bytes == 0 || bytes >= sizeof text) {
        return -EINVAL;
    }
    if (io_take(io, text, bytes) < bytes) {
        return -EFAULT;
    }
    text[bytes] = '\0';
    qr_mutex_lock(&file->inode->lock);
    error = told->trigger != NULL ? -EBUSY : psi_trigger_create(told->cgroup, text, &told->trigger);
    qr_mutex_unlock(&file->inode->lock);
    return error == 0 ? (int64_t)bytes : error;
}

static uint32_t
pressure_poll(struct file *file, struct poll_table *table)
{
    const uint32_t always = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
    const struct told *told = file->context;
    struct psi_trigger *trigger =
        __atomic_load_n((struct psi_trigger *const *)&told->trigger, __ATOMIC_ACQUIRE);

    if (trigger == NULL) {
        return always | POLLERR | POLLPRI;
    }
    poll_register(table, psi_trigger_queue(trigger));
    return always | (psi_trigger_take(trigger) ? POLLPRI : 0);
}

static const struct file_ops pressure_ops = {
    .name = "pressure",
    .read = pressure_read,
    .write = pressure_write,
    .seek = told_seek,
    .poll = pressure_poll,
    .truncate = told_truncate,
    .release = told_release,
};

static int64_t
pressure_open(struct inode *inode, struct file *file)
{
    return told_open(inode, file, &pressure_ops);
}

const struct inode_ops pressure_inode_ops = {.open = pressure_open};

/* ---- Events of groups ------------------------------------------------------------------ */

static void
events_make(const struct file *file, struct told *told)
{
    const struct text_node *node = file->inode->node;
    struct text_target target = {.inode = file->inode};

    told->seen = atomic_load(&told->cgroup->changes[told->which]);
    node->show(&target, &told->writer.writer);
}

static int64_t
events_read(struct file *file, struct io *io, uint64_t *position)
{
    return told_read(file, io, position, events_make);
}

static uint32_t
events_poll(struct file *file, struct poll_table *table)
{
    struct told *told = file->context;

    poll_register(table, &told->cgroup->watchers);
    return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM |
           (atomic_load(&told->cgroup->changes[told->which]) != told->seen ? POLLPRI | POLLERR : 0);
}

static const struct file_ops events_ops = {
    .name = "events",
    .read = events_read,
    .seek = told_seek,
    .poll = events_poll,
    .truncate = told_truncate,
    .release = told_release,
};

static int64_t
events_open(struct inode *inode, struct file *file)
{
    const struct text_node *node = inode->node;
    int64_t error = told_open(inode, file, &events_ops);
    struct told *told = file->context;

    if (error != 0) {
        return error;
    }
    told->which = strcmp(node->name, "cgroup.events") == 0   ? CGROUP_EVENTS
                  : strcmp(node->name, "memory.events") == 0 ? CGROUP_MEMORY_EVENTS
                                                             : CGROUP_MEMORY_EVENTS_LOCAL;
    told->seen = atomic_load(&told->cgroup->changes[told->which]);
    return 0;
}

const struct inode_ops cgroup_events_inode_ops = {.open = events_open};
