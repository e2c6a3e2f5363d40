/* SPDX-License-Identifier: MIT */
/*
 * File systems and where they hang.
 *
 *      dentry "/proc" of the root --mounted--> superblock --root--> dentry "/"
 *             ^                                     |
 *             +----------------covered--------------+
 *
 * A second mount on the same place hangs on the root of the first, so that walks go through
 * both and umount takes the upper one away.
 *
 * A superblock is freed when its last inode is: `inodes` counts the living ones, and the mount
 * itself as one.  `files` counts what makes an unmount answer EBUSY: open files and directories
 * that processes stand in.
 *
 * Lock: T.
 */

#include <quire/assert.h>
#include <quire/writer.h>

#include "fs.h"
#include "hugetlb.h"
#include "proc.h"
#include "syscall.h"

enum { MOUNTS_MAX = 4096, MNT_FORCE = 1, MNT_DETACH = 2, MNT_EXPIRE = 4, UMOUNT_NOFOLLOW = 8 };

enum { MOUNT_FLAGS_KEPT = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_RELATIME };

static struct qr_list mounts = QR_LIST_INIT(mounts);
static unsigned mount_count;
static atomic_uint next_device = 1;

static const struct superblock_type *const types[] = {
    &rootfs_type,  &tmpfs_type,   &devtmpfs_type,  &procfs_type, &sysfs_type,
    &debugfs_type, &cgroup2_type, &hugetlbfs_type, &ext2_type,
};

const struct superblock_type *
superblock_type_find(const char *name)
{
    for (size_t i = 0; i < QR_ARRAY_COUNT(types); i++) {
        if (strcmp(types[i]->name, name) == 0) {
            return types[i];
        }
    }
    return strcmp(name, "ramfs") == 0 ? &tmpfs_type : NULL;
}

struct superblock *
superblock_create(const struct superblock_type *type)
{
    struct superblock *superblock = kmem_zalloc(sizeof *superblock);

    if (superblock == NULL) {
        return NULL;
    }
    superblock->type = type;
    superblock->device = MAKE_DEV(0, atomic_fetch_add(&next_device, 1) & 0xfffffu);
    atomic_init(&superblock->next_inode, 1);
    atomic_init(&superblock->inodes, 1);
    strlcpy(superblock->source, type->name, sizeof superblock->source);
    qr_list_init(&superblock->mounts);
    return superblock;
}

void
superblock_inode_gone(struct superblock *superblock)
{
    if (atomic_fetch_sub(&superblock->inodes, 1) == 1) {
        hugetlbfs_mount_free(superblock->huge);
        if (superblock->type->destroy != NULL && superblock->data != NULL) {
            superblock->type->destroy(superblock);
        }
        kmem_free(superblock);
    }
}

/* Its names go now, its inodes when nobody uses them any more. */
void
superblock_destroy(struct superblock *superblock)
{
    if (superblock->root != NULL) {
        dentry_tree_destroy(superblock->root);
    }
    superblock_inode_gone(superblock);
}

void
mount_attach(struct superblock *superblock, struct dentry *at)
{
    qr_assert(at->mounted == NULL);
    dentry_ref(at);
    at->mounted = superblock;
    superblock->covered = at;
    qr_list_push_back(&mounts, &superblock->mounts);
    mount_count++;
}

/* T held for writing. */
static void
mount_detach(struct superblock *superblock)
{
    struct dentry *covered = superblock->covered;

    covered->mounted = NULL;
    superblock->covered = NULL;
    qr_list_remove(&superblock->mounts);
    mount_count--;
    dentry_put(covered);
}

void
mount_first(struct superblock *superblock)
{
    fs_root = superblock->root;
    qr_list_push_back(&mounts, &superblock->mounts);
    mount_count++;
}

/* ---- mount(2) -------------------------------------------------------------------- */

static int64_t
mount_new(const struct superblock_type *type, const char *source, struct dentry *at, uint32_t flags,
          const char *options)
{
    struct superblock *superblock = NULL;
    int64_t error = type->create_on != NULL
                        ? type->create_on(type, source, flags, options, &superblock)
                        : type->create(type, options, &superblock);

    if (error != 0) {
        return error;
    }
    superblock->mount_flags = (flags & MOUNT_FLAGS_KEPT) | (superblock->mount_flags & MS_RDONLY);
    if (source[0] != '\0') {
        strlcpy(superblock->source, source, sizeof superblock->source);
    }
    tree_lock_write();
    while (at->mounted != NULL) {
        at = at->mounted->root;
    }
    if (!dentry_is_directory(at)) {
        error = -ENOTDIR;
    } else if (type->single && at->superblock->type == type && at == at->superblock->root) {
        error = -EBUSY; /* the same thing in the same place once more */
    } else if (at->generated) {
        error = -EINVAL;
    } else if (!at->linked) {
        error = -ENOENT;
    } else if (mount_count >= MOUNTS_MAX) {
        error = -ENOSPC;
    }
    if (error == 0) {
        mount_attach(superblock, at);
    } else {
        superblock_destroy(superblock);
    }
    tree_unlock_write();
    return error;
}

static int64_t
mount_change(struct dentry *at, uint32_t flags)
{
    struct superblock *superblock = at->superblock;
    bool read_only = (flags & MS_RDONLY) != 0;
    bool changes = read_only != ((superblock->mount_flags & MS_RDONLY) != 0);

    if (at != superblock->root) {
        return -EINVAL;
    }
    if (changes && superblock->type->remount != NULL) {
        int64_t error = superblock->type->remount(superblock, read_only);

        if (error != 0) {
            return error;
        }
    }
    tree_lock_write();
    superblock->mount_flags = flags & MOUNT_FLAGS_KEPT;
    tree_unlock_write();
    return 0;
}

/* Mount data is one page at most; NULL is allowed and an unreadable tail is not. */
static int64_t
options_from_user(uint64_t user, char **out)
{
    if (user == 0) {
        *out = kmem_zalloc(1);
        return *out == NULL ? -ENOMEM : 0;
    }
    int64_t error = path_from_user(user, out);
    if (error == -ENOENT) {
        *out = kmem_zalloc(1);
        return *out == NULL ? -ENOMEM : 0;
    }
    return error == -ENAMETOOLONG ? -EINVAL : error;
}

static int64_t
mount_with(uint64_t user_type, const char *source, struct dentry *at, uint32_t flags,
           uint64_t user_options)
{
    char name[32];
    char *options = NULL;

    if (flags & MS_REMOUNT) {
        return mount_change(at, flags);
    }
    if (flags & (MS_SHARED | MS_PRIVATE | MS_SLAVE)) {
        return 0; /* nothing propagates here: it is private already */
    }
    if (flags & (MS_BIND | MS_MOVE)) {
        return -EINVAL;
    }
    if (user_type == 0) {
        return -EINVAL;
    }
    int64_t length = user_read_string(name, user_type, sizeof name);
    if (length < 0) {
        return length == -ENAMETOOLONG ? -ENODEV : length;
    }
    const struct superblock_type *type = superblock_type_find(name);
    if (type == NULL || type == &rootfs_type) {
        return -ENODEV;
    }
    int64_t error = options_from_user(user_options, &options);
    if (error != 0) {
        return error;
    }
    error = mount_new(type, source, at, flags, options);
    kmem_free(options);
    return error;
}

enum { CAP_SYS_ADMIN = 21 };

int64_t
sys_mount(const struct syscall_args *args)
{
    struct dentry *at = NULL;
    char source[32] = "";
    uint32_t flags = (uint32_t)args->arg[3];

    if (!process_has_capability(CAP_SYS_ADMIN)) {
        return -EPERM;
    }
    if ((flags & 0xffff0000u) == 0xc0ed0000u) {
        flags &= 0xffffu; /* the old magic number */
    }
    if (args->arg[0] != 0) {
        int64_t length = user_read_string(source, args->arg[0], sizeof source);

        if (length == -EFAULT) {
            return length;
        }
        source[sizeof source - 1] = '\0';
    }
    int64_t error = path_lookup_user(AT_FDCWD, args->arg[1], 0, &at);
    if (error != 0) {
        return error;
    }
    error = mount_with(args->arg[2], source, at, flags, args->arg[4]);
    dentry_put(at);
    return error;
}

static bool
has_submounts(const struct superblock *superblock)
{
    qr_list_for_each(node, &mounts)
    {
        struct superblock *other = qr_list_entry(node, struct superblock, mounts);

        if (other->covered != NULL && other->covered->superblock == superblock) {
            return true;
        }
    }
    return false;
}

int64_t
sys_umount2(const struct syscall_args *args)
{
    struct dentry *at = NULL;
    uint32_t flags = (uint32_t)args->arg[1];

    if (!process_has_capability(CAP_SYS_ADMIN)) {
        return -EPERM;
    }
    if (flags & ~(uint32_t)(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)) {
        return -EINVAL;
    }
    int64_t error = path_lookup_user(AT_FDCWD, args->arg[0],
                                     flags & UMOUNT_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0, &at);
    if (error != 0) {
        return error;
    }
    struct superblock *superblock = at->superblock;

    /* What can wait for the disk does so before names are locked. */
    if (at == superblock->root && superblock->type->sync != NULL) {
        (void)superblock->type->sync(superblock);
    }
    tree_lock_write();
    if (at != superblock->root || superblock->covered == NULL) {
        error = -EINVAL;
    } else if (has_submounts(superblock) ||
               (!(flags & MNT_DETACH) && atomic_load(&superblock->files) > 0)) {
        error = -EBUSY;
    } else {
        mount_detach(superblock);
        superblock_destroy(superblock);
    }
    tree_unlock_write();
    dentry_put(at);
    return error;
}

/* The superblock behind @after in the order of mounts that has a disk, held; NULL: no more. */
static struct superblock *
mount_next_on_disk(struct superblock *after)
{
    struct superblock *found = NULL;
    bool passed = after == NULL;

    tree_lock_read();
    qr_list_for_each(node, &mounts)
    {
        struct superblock *superblock = qr_list_entry(node, struct superblock, mounts);

        if (passed && superblock->type->sync != NULL) {
            atomic_fetch_add(&superblock->inodes, 1);
            found = superblock;
            break;
        }
        passed = passed || superblock == after;
    }
    tree_unlock_read();
    return found;
}

/* One that is unmounted meanwhile ends the round: the next one finds the others. */
static void
mounts_each_on_disk(void (*fn)(struct superblock *superblock))
{
    struct superblock *superblock = mount_next_on_disk(NULL);

    while (superblock != NULL) {
        fn(superblock);
        struct superblock *next = mount_next_on_disk(superblock);

        superblock_inode_gone(superblock);
        superblock = next;
    }
}

static void
sync_one(struct superblock *superblock)
{
    (void)superblock->type->sync(superblock); /* errors are the descriptors' */
}

void
mounts_sync(void)
{
    mounts_each_on_disk(sync_one);
}

static void
close_one(struct superblock *superblock)
{
    if (!(superblock->mount_flags & MS_RDONLY) &&
        superblock->type->remount(superblock, true) == 0) {
        superblock->mount_flags |= MS_RDONLY;
    }
}

void
vfs_close_disks(void)
{
    mounts_each_on_disk(close_one);
}

/* ---- what is mounted ---------------------------------------------------------------- */

static const char *
mount_path(struct superblock *superblock, struct dentry *root, char *buffer, size_t size)
{
    bool reachable;
    const char *path = dentry_path(superblock->root, root, buffer, size, &reachable);

    return path == NULL || !reachable ? NULL : path;
}

static void
mount_options_write(struct qr_writer *writer, const struct superblock *superblock)
{
    uint32_t flags = superblock->mount_flags;

    qr_writer_printf(writer, "%s%s%s%s%s%s", flags & MS_RDONLY ? "ro" : "rw",
                     flags & MS_NOSUID ? ",nosuid" : "", flags & MS_NODEV ? ",nodev" : "",
                     flags & MS_NOEXEC ? ",noexec" : "", flags & MS_NOATIME ? ",noatime" : "",
                     flags & MS_RELATIME ? ",relatime" : "");
    if (superblock->huge != NULL) {
        hugetlbfs_options_write(superblock, writer);
    }
}

size_t
octal_write(struct qr_writer *writer, const char *text)
{
    size_t bytes = 0;

    for (; *text != '\0'; text++) {
        unsigned byte = (unsigned char)*text;

        if (byte == ' ' || byte == '\t' || byte == '\n' || byte == '\\') {
            qr_writer_printf(writer, "\\%u%u%u", byte >> 6, byte >> 3 & 7, byte & 7);
            bytes += 4;
        } else {
            qr_writer_printf(writer, "%c", *text);
            bytes++;
        }
    }
    return bytes;
}

enum mount_table { TABLE_MOUNTS, TABLE_MOUNTINFO };

static void
table_write(struct qr_writer *writer, enum mount_table table)
{
    char *buffer = kmem_alloc(PATH_MAX);

    if (buffer == NULL) {
        return;
    }
    struct dentry *root = current_root();
    tree_lock_read();
    qr_list_for_each(node, &mounts)
    {
        struct superblock *superblock = qr_list_entry(node, struct superblock, mounts);
        const char *path = mount_path(superblock, root, buffer, PATH_MAX);

        if (path == NULL) {
            continue;
        }
        if (table == TABLE_MOUNTINFO) {
            struct dentry *covered = superblock->covered;

            qr_writer_printf(writer, "%u %u %u:%u / ", DEV_MINOR(superblock->device),
                             covered == NULL ? 0 : DEV_MINOR(covered->superblock->device),
                             DEV_MAJOR(superblock->device), DEV_MINOR(superblock->device));
            octal_write(writer, path);
            qr_writer_printf(writer, " ");
            mount_options_write(writer, superblock);
            qr_writer_printf(writer, " - %s ", superblock->type->name);
            octal_write(writer, superblock->source);
            qr_writer_printf(writer, " %s\n", superblock->mount_flags & MS_RDONLY ? "ro" : "rw");
        } else {
            octal_write(writer, superblock->source);
            qr_writer_printf(writer, " ");
            octal_write(writer, path);
            qr_writer_printf(writer, " %s ", superblock->type->name);
            mount_options_write(writer, superblock);
            qr_writer_printf(writer, " 0 0\n");
        }
    }
    tree_unlock_read();
    dentry_put(root);
    kmem_free(buffer);
}

void
mounts_write(struct qr_writer *writer)
{
    table_write(writer, TABLE_MOUNTS);
}

void
mountinfo_write(struct qr_writer *writer)
{
    table_write(writer, TABLE_MOUNTINFO);
}

void
filesystems_write(struct qr_writer *writer)
{
    for (size_t i = 0; i < QR_ARRAY_COUNT(types); i++) {
        qr_writer_printf(writer, "%s\t%s\n", types[i]->needs_device ? "" : "nodev", types[i]->name);
    }
}
