/* SPDX-License-Identifier: MIT */
/*
 * The file system of control groups (cgroup2): a directory a group, made by mkdir and removed by rmdir.
 *
 * Directories and files are made on look-up, as those of /proc/PID are: the tree of groups is the
 * truth, and every mount shows it.  An inode keeps the group's number and not the group, so an open
 * file keeps nothing alive: of a removed group it says ENODEV.
 *
 * Locks: T, then the groups' own (cgroup.h).
 */
#include "cgroupfs.h"

#include <quire/assert.h>

#include "proc.h"

enum { CGROUP2_MAGIC = 0x63677270, NODES_MAX = 64, NAME_BYTES_MAX = 255 };

struct cgroup *
cgroup_of_inode(const struct inode *inode)
{
    return cgroup_find(inode->key_more);
}

/* ---- cgroup.* -------------------------------------------------------------------------- */

/* A show function whose group is `cgroup`; a removed one has no text. */
#define SHOW(name)                                                                      \
    static void write_##name(struct cgroup *cgroup, struct qr_writer *writer);          \
    static void show_##name(const struct text_target *target, struct qr_writer *writer) \
    {                                                                                   \
        struct cgroup *cgroup = cgroup_of_inode(target->inode);                         \
                                                                                        \
        if (cgroup != NULL) {                                                           \
            write_##name(cgroup, writer);                                               \
        }                                                                               \
        cgroup_put(cgroup);                                                             \
    }                                                                                   \
    static void write_##name(struct cgroup *cgroup, struct qr_writer *writer)

/* What may be given to children: what the group has itself. */
SHOW(controllers)
{
    cgroups_lock();
    bool has = cgroup == cgroup_root() || cgroup->group != NULL;

    cgroups_unlock();
    qr_writer_printf(writer, has ? "memory\n" : "\n");
}

SHOW(subtree_control)
{
    qr_writer_printf(writer, cgroup->gives_memory ? "memory\n" : "\n");
}

SHOW(type)
{
    (void)cgroup;
    qr_writer_printf(writer, "domain\n");
}

SHOW(stat)
{
    cgroups_lock();
    unsigned below = cgroup_count_below(cgroup);

    cgroups_unlock();
    qr_writer_printf(writer, "nr_descendants %u\nnr_dying_descendants 0\n", below);
}

SHOW(events)
{
    process_tree_lock();
    bool populated = cgroup->populated != 0;

    process_tree_unlock();
    qr_writer_printf(writer, "populated %d\nfrozen 0\n", populated);
}

/* Is the process at the number still in the group?  Zombies are not. */
static bool
is_member(const struct process *process, const struct cgroup *cgroup)
{
    process_tree_lock();
    bool member = process->cgroup == cgroup && !qr_list_is_empty(&process->cgroup_link);

    process_tree_unlock();
    return member;
}

static void
write_threads_of(struct process *process, struct qr_writer *writer)
{
    int32_t from = 0;

    for (unsigned i = 0; i < THREADS_LIMIT; i++) {
        struct thread *thread = thread_next(process, from);

        if (thread == NULL) {
            break;
        }
        qr_writer_printf(writer, "%d\n", thread->tid);
        from = thread->tid + 1;
        thread_put(thread);
    }
}

enum members { MEMBER_PROCESSES, MEMBER_THREADS };

static void
write_members(struct cgroup *cgroup, struct qr_writer *writer, enum members what)
{
    struct process *process;
    int32_t from = 0;

    while ((process = process_next(from)) != NULL) {
        from = process->id + 1;
        if (is_member(process, cgroup) && what == MEMBER_THREADS) {
            write_threads_of(process, writer);
        } else if (is_member(process, cgroup)) {
            qr_writer_printf(writer, "%d\n", process->id);
        }
        process_put(process);
    }
}

SHOW(procs)
{
    write_members(cgroup, writer, MEMBER_PROCESSES);
}

SHOW(threads)
{
    write_members(cgroup, writer, MEMBER_THREADS);
}

SHOW(max)
{
    (void)cgroup;
    qr_writer_printf(writer, "max\n");
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

static int64_t
store_procs(const struct text_target *target, const char *text, size_t length)
{
    struct cgroup *cgroup = cgroup_of_inode(target->inode);
    struct process *process;
    int64_t error;
    uint64_t id;

    if (cgroup == NULL) {
        return -ENODEV;
    }
    while (length > 0 && is_blank(text[length - 1])) {
        length--;
    }
    if (length == 0 || decimal_parse(text, length, &id) != length || id > INT32_MAX) {
        cgroup_put(cgroup);
        return -EINVAL;
    }
    process = id == 0 ? process_current() : process_find((int32_t)id);
    if (id == 0) {
        process_ref(process);
    }
    error = process == NULL ? -ESRCH : cgroup_move(cgroup, process);
    if (process != NULL) {
        process_put(process);
    }
    cgroup_put(cgroup);
    return error;
}

/* One thread of several cannot go alone: `memory` is of whole processes. */
static int64_t
store_threads(const struct text_target *target, const char *text, size_t length)
{
    (void)target;
    (void)text;
    (void)length;
    return -EOPNOTSUPP;
}

static int64_t
store_type(const struct text_target *target, const char *text, size_t length)
{
    (void)target;
    return length >= 8 && memcmp(text, "threaded", 8) == 0 ? -EOPNOTSUPP : -EINVAL;
}

static int64_t
store_kill(const struct text_target *target, const char *text, size_t length)
{
    struct cgroup *cgroup = cgroup_of_inode(target->inode);

    if (cgroup == NULL) {
        return -ENODEV;
    }
    bool one = length > 0 && text[0] == '1' && (length == 1 || is_blank(text[1]));

    if (one) {
        cgroup_kill(cgroup);
    }
    cgroup_put(cgroup);
    return one ? 0 : -EINVAL;
}

/* The next word of @text from *@at on: "+memory" or "-memory". 0 at the end. */
static int64_t
control_word(const char *text, size_t length, size_t *at, int *out_sign)
{
    *out_sign = 0;
    while (*at < length && is_blank(text[*at])) {
        (*at)++;
    }
    size_t start = *at;

    while (*at < length && !is_blank(text[*at])) {
        (*at)++;
    }
    if (*at == start) {
        return 0;
    }
    if (*at - start != 7 || (text[start] != '+' && text[start] != '-') ||
        memcmp(text + start + 1, "memory", 6) != 0) {
        return -EINVAL;
    }
    *out_sign = text[start] == '+' ? 1 : -1;
    return 0;
}

/* Of several words the last counts. */
static int64_t
store_subtree_control(const struct text_target *target, const char *text, size_t length)
{
    struct cgroup *cgroup = cgroup_of_inode(target->inode);
    int sign, last = 0;
    int64_t error;
    size_t at = 0;

    if (cgroup == NULL) {
        return -ENODEV;
    }
    do {
        error = control_word(text, length, &at, &sign);
        last = sign != 0 ? sign : last;
    } while (error == 0 && sign != 0);
    if (error == 0 && last != 0) {
        error = cgroup_give_memory(cgroup, last > 0);
    }
    cgroup_put(cgroup);
    return error;
}

static const struct cgroup_node core_nodes[] = {
    {{.name = "cgroup.controllers", .mode = 0444, .show = show_controllers}, NODE_EVERYWHERE},
    {{.name = "cgroup.subtree_control",
      .mode = 0644,
      .show = show_subtree_control,
      .store = store_subtree_control},
     NODE_EVERYWHERE},
    {{.name = "cgroup.procs", .mode = 0644, .show = show_procs, .store = store_procs},
     NODE_EVERYWHERE},
    {{.name = "cgroup.threads", .mode = 0644, .show = show_threads, .store = store_threads},
     NODE_EVERYWHERE},
    {{.name = "cgroup.stat", .mode = 0444, .show = show_stat}, NODE_EVERYWHERE},
    {{.name = "cgroup.max.depth", .mode = 0444, .show = show_max}, NODE_EVERYWHERE},
    {{.name = "cgroup.max.descendants", .mode = 0444, .show = show_max}, NODE_EVERYWHERE},
    {{.name = "cgroup.type", .mode = 0644, .show = show_type, .store = store_type}, NODE_BELOW},
    {{.name = "cgroup.events",
      .mode = 0444,
      .show = show_events,
      .inode_ops = &cgroup_events_inode_ops},
     NODE_BELOW},
    {{.name = "cgroup.kill", .mode = 0200, .store = store_kill}, NODE_BELOW},
    {{.name = "memory.pressure", .mode = 0644, .inode_ops = &pressure_inode_ops}, NODE_EVERYWHERE},
};

/* ---- Directories -------------------------------------------------------------------------------- */

/* The @index-th node there is, seen or not; NULL at the end. */
static const struct cgroup_node *
node_at(size_t index)
{
    if (index < QR_ARRAY_COUNT(core_nodes)) {
        return &core_nodes[index];
    }
    index -= QR_ARRAY_COUNT(core_nodes);
    return index < cgroup_memory_node_count ? &cgroup_memory_nodes[index] : NULL;
}

/* C. */
static bool
node_is_seen(const struct cgroup_node *node, const struct cgroup *cgroup)
{
    switch (node->place) {
    case NODE_EVERYWHERE:
        return true;
    case NODE_BELOW:
        return cgroup != cgroup_root();
    case NODE_MEMORY:
        return cgroup->group != NULL;
    case NODE_USE:
        return cgroup->group != NULL || cgroup == cgroup_root();
    }
    return false;
}

/* Of files: the group's number above that of the node; 0 is the directory's own. */
static uint64_t
inode_number(uint64_t id, size_t which)
{
    return id * NODES_MAX + which;
}

static int64_t
child_make(struct dentry *directory, const char *name, size_t length, const struct text_node *node,
           const struct cgroup *cgroup, uint64_t number, struct dentry **out)
{
    struct inode *inode = text_inode_create(directory->superblock, node);
    struct dentry *dentry;

    if (inode == NULL) {
        return -ENOMEM;
    }
    inode->uid = cgroup->uid;
    inode->gid = cgroup->gid;
    inode->key_more = cgroup->id;
    inode->number = number;
    dentry = dentry_create(directory, name, length, inode);
    inode_put(inode);
    if (dentry == NULL) {
        return -ENOMEM;
    }
    dentry->generated = true;
    *out = dentry;
    return 0;
}

static const struct inode_ops directory_ops;
static const struct text_node directory_node = {.mode = S_IFDIR | 0755,
                                                .inode_ops = &directory_ops};

/* C. */
static int64_t
lookup_node(struct dentry *directory, const struct cgroup *cgroup, const char *name, size_t length,
            struct dentry **out)
{
    const struct cgroup_node *node;

    for (size_t i = 0; (node = node_at(i)) != NULL; i++) {
        if (strlen(node->text.name) == length && memcmp(node->text.name, name, length) == 0 &&
            node_is_seen(node, cgroup)) {
            return child_make(directory, name, length, &node->text, cgroup,
                              inode_number(cgroup->id, i + 1), out);
        }
    }
    return -ENOENT;
}

static int64_t
directory_lookup(struct dentry *directory, const char *name, size_t length, struct dentry **out)
{
    struct cgroup *cgroup = cgroup_of_inode(directory->inode);
    const struct cgroup *child;
    int64_t error;

    if (cgroup == NULL) {
        return -ENOENT;
    }
    cgroups_lock();
    child = cgroup_child(cgroup, name, length);
    if (child != NULL) {
        error = child_make(directory, name, length, &directory_node, child,
                           inode_number(child->id, 0), out);
    } else {
        error = lookup_node(directory, cgroup, name, length, out);
    }
    cgroups_unlock();
    cgroup_put(cgroup);
    return error;
}

/* C.  Positions: nodes by index, then children by number. */
static void
list_locked(const struct cgroup *cgroup, uint64_t position, struct directory_emit *emit)
{
    const struct cgroup_node *node;
    uint64_t at = position - LIST_GENERATED;

    for (; at < NODES_MAX && (node = node_at((size_t)at)) != NULL; at++) {
        if (node_is_seen(node, cgroup) &&
            !emit->entry(emit, node->text.name, strlen(node->text.name),
                         inode_number(cgroup->id, (size_t)at + 1), S_IFREG,
                         LIST_GENERATED + at + 1)) {
            return;
        }
    }
    qr_list_for_each(link, &cgroup->children)
    {
        const struct cgroup *child = qr_list_entry(link, struct cgroup, sibling);

        if (NODES_MAX + child->id >= at &&
            !emit->entry(emit, child->name, strlen(child->name), inode_number(child->id, 0),
                         S_IFDIR, LIST_GENERATED + NODES_MAX + child->id + 1)) {
            return;
        }
    }
}

static void
directory_list(struct dentry *directory, uint64_t position, struct directory_emit *emit)
{
    struct cgroup *cgroup = cgroup_of_inode(directory->inode);

    if (cgroup == NULL) {
        return;
    }
    cgroups_lock();
    list_locked(cgroup, position, emit);
    cgroups_unlock();
    cgroup_put(cgroup);
}

static int64_t
directory_make(struct inode *directory, const char *name, size_t length, uint32_t mode)
{
    struct cgroup *cgroup;
    int64_t error;

    if (!S_ISTYPE(mode, S_IFDIR)) {
        return S_ISTYPE(mode, S_IFREG) ? -EACCES : -EPERM;
    }
    if (memchr(name, '\n', length) != NULL) {
        return -EINVAL; /* /proc/PID/cgroup would not be lines any more */
    }
    cgroup = cgroup_of_inode(directory);
    error = cgroup == NULL ? -ENODEV : cgroup_make(cgroup, name, length);
    cgroup_put(cgroup);
    return error;
}

static int64_t
directory_remove(struct inode *directory, struct inode *child)
{
    struct cgroup *cgroup;
    int64_t error;

    (void)directory;
    if (!S_ISTYPE(child->mode, S_IFDIR)) {
        return -EPERM;
    }
    cgroup = cgroup_of_inode(child);
    error = cgroup == NULL ? -ENOENT : cgroup_remove(cgroup);
    cgroup_put(cgroup);
    return error;
}

static const struct inode_ops directory_ops = {.lookup = directory_lookup,
                                               .list = directory_list,
                                               .make = directory_make,
                                               .remove = directory_remove};

static int64_t
cgroupfs_mount(const struct superblock_type *type, const char *options, struct superblock **out)
{
    int64_t error = text_filesystem_create(type, &directory_ops, out);

    (void)options;
    if (error == 0) {
        (*out)->root->inode->key_more = cgroup_root()->id;
        (*out)->root->inode->mode = S_IFDIR | 0755u;
    }
    return error;
}

const struct superblock_type cgroup2_type = {
    .name = "cgroup2", .magic = CGROUP2_MAGIC, .single = true, .create = cgroupfs_mount};

/* Is @own the group of @directory, or below it? */
static bool
is_above(const struct dentry *directory, const struct cgroup *own)
{
    struct cgroup *cgroup = cgroup_of_inode(directory->inode);
    bool above = cgroup != NULL && cgroup_is_within(own, cgroup);

    cgroup_put(cgroup);
    return above;
}

/*
 * Who enters the group of @directory may write there, and to the closest group that holds both that and
 * its own: what was delegated to it ends there.  cgroup.procs belongs to whom the directory does.
 */
static bool
may_enter(const struct dentry *directory)
{
    const struct dentry *at = directory;
    struct cgroup *own;

    process_tree_lock();
    own = process_current()->cgroup;
    cgroup_ref(own);
    process_tree_unlock();
    tree_lock_read();
    while (!is_above(at, own) && at->parent != at) {
        at = at->parent;
    }
    bool allowed =
        inode_allows(directory->inode, ACCESS_WRITE) && inode_allows(at->inode, ACCESS_WRITE);
    tree_unlock_read();
    cgroup_put(own);
    return allowed;
}

int64_t
cgroup_of_fd(int fd, struct cgroup **out)
{
    struct file *file = file_get(fd);
    int64_t error = -EBADF;

    if (file == NULL) {
        return error;
    }
    if (file->inode->superblock->type == &cgroup2_type && S_ISTYPE(file->inode->mode, S_IFDIR)) {
        struct cgroup *cgroup = cgroup_of_inode(file->inode);

        error = cgroup == NULL ? -ENODEV : may_enter(file->dentry) ? 0 : -EACCES;
        if (error == 0) {
            *out = cgroup;
        } else {
            cgroup_put(cgroup);
        }
    }
    file_put(file);
    return error;
}
