/* SPDX-License-Identifier: MIT */
/*
 * Making, removing and moving names.
 *
 * Every change is one walk under the tree lock held for writing: look, check everything that
 * Linux checks in the order in which it checks it, allocate, and only then link, which cannot
 * fail.  So no error leaves a name or an inode behind.
 */

#include <quire/assert.h>

#include "fs.h"
#include "hugetlb.h"
#include "proc.h"

enum { RENAME_NOREPLACE = 1, RENAME_EXCHANGE = 2, LINKS_MAX = 32000 /* ext2's */ };

static bool
component_is_dots(const struct walk *walk)
{
    return (walk->name_length == 1 && walk->name[0] == '.') ||
           (walk->name_length == 2 && walk->name[0] == '.' && walk->name[1] == '.');
}

/* Whether names in @directory may be changed at all. */
static int64_t
directory_check(const struct dentry *directory)
{
    bool makes = directory->inode->ops->make != NULL;

    if (!directory->linked && !makes) {
        return -ENOENT; /* removed, but somebody still stands in it */
    }
    if (superblock_is_read_only(directory->superblock)) {
        return -EROFS;
    }
    if (!directory->superblock->type->writable_tree && !makes) {
        return -EPERM;
    }
    return inode_allows(directory->inode, ACCESS_WRITE | ACCESS_EXECUTE) ? 0 : -EACCES;
}

/* The last component's dentry as it stands in its directory, mounts not entered. */
static int64_t
child_find(struct walk *walk, struct dentry **out)
{
    struct dentry *child = dentry_child(walk->at, walk->name, walk->name_length);

    if (child == NULL && walk->at->unloaded) {
        return walk_needs(walk, walk->at);
    }
    if (child == NULL && walk->at->inode->ops->lookup != NULL) {
        int64_t error =
            walk->at->inode->ops->lookup(walk->at, walk->name, walk->name_length, &child);
        if (error != 0) {
            return error;
        }
    }
    if (child == NULL) {
        return -ENOENT;
    }
    *out = child;
    return 0;
}

/* ---- making ---------------------------------------------------------------------- */

static const struct name_ops *
names_of(const struct dentry *directory)
{
    return directory->superblock->type->names;
}

/* What the file system itself keeps of names. */
static int64_t
name_enter(struct dentry *directory, const char *name, size_t length, struct inode *inode)
{
    const struct name_ops *names = names_of(directory);

    return names == NULL ? 0 : names->enter(directory->inode, name, length, inode);
}

static int64_t
name_leave(const struct dentry *child)
{
    const struct name_ops *names = names_of(child);

    return names == NULL ? 0 : names->leave(child->parent->inode, child->name, child->name_length);
}

static int64_t
inode_make(struct dentry *directory, uint32_t mode, uint32_t rdev, const char *target,
           struct inode **out)
{
    const struct name_ops *names = names_of(directory);
    struct inode *inode;

    if (names != NULL) {
        return names->make(directory->inode, mode, rdev, target, out);
    }
    inode = tmpfs_inode_create(directory->superblock, mode, rdev);
    if (inode == NULL && !hugetlbfs_has_room(directory->superblock)) {
        return -ENOSPC;
    }
    if (inode != NULL && target != NULL) {
        inode->target = dentry_name_copy(target, strlen(target));
        inode->size = strlen(target);
        if (inode->target == NULL) {
            inode_put(inode);
            inode = NULL;
        }
    }
    if (inode == NULL) {
        return -ENOMEM;
    }
    *out = inode;
    return 0;
}

/* Enter @inode under the walk's last component. Adopts nothing. */
static int64_t
child_add(struct walk *walk, struct inode *inode, struct dentry **out)
{
    struct dentry *child = dentry_create(walk->at, walk->name, walk->name_length, inode);

    if (child == NULL) {
        return -ENOMEM;
    }
    int64_t error = name_enter(walk->at, walk->name, walk->name_length, inode);
    if (error != 0) {
        dentry_put(child);
        return error;
    }
    if (S_ISTYPE(inode->mode, S_IFDIR)) {
        walk->at->inode->links++;
    }
    dentry_link(child);
    inode_touch(walk->at->inode, true);
    if (out != NULL) {
        *out = child;
    } else {
        dentry_put(child);
    }
    return 0;
}

/* Walk to where a new name goes. @return 0 when the name is free and may be made */
static int64_t
make_prepare(struct walk *walk, bool directory)
{
    struct dentry *child;
    int64_t error = walk_parent(walk);

    if (error != 0) {
        return error;
    }
    if (walk->name_length == 0 || component_is_dots(walk)) {
        return -EEXIST;
    }
    error = child_find(walk, &child);
    if (error == 0) {
        dentry_put(child);
        return -EEXIST;
    }
    if (error != -ENOENT) {
        return error;
    }
    if (walk->must_be_directory && !directory) {
        return -ENOENT;
    }
    return directory_check(walk->at);
}

static void
owner_set(struct inode *inode, const struct inode *directory)
{
    inode->uid = process_fsuid_or_boot();
    inode->gid = process_fsgid_or_boot();
    if (directory->mode & S_ISGID) {
        inode->gid = directory->gid;
        if (S_ISTYPE(inode->mode, S_IFDIR)) {
            inode->mode |= S_ISGID;
        }
    }
}

static int64_t
make_inode(struct walk *walk, uint32_t mode, uint32_t rdev, const char *target, struct dentry **out)
{
    const struct inode_ops *ops = walk->at->inode->ops;
    struct inode *inode;

    if (ops->make != NULL) {
        return ops->make(walk->at->inode, walk->name, walk->name_length, mode);
    }
    int64_t error = inode_make(walk->at, mode, rdev, target, &inode);

    if (error != 0) {
        return error;
    }
    owner_set(inode, walk->at->inode);
    error = child_add(walk, inode, out);
    if (error != 0) {
        inode->links = 0; /* nothing leads to it */
    }
    inode_put(inode);
    return error;
}

/* Of name_create() and name_symlink(). */
static int64_t
name_make(int dirfd, const char *path, uint32_t mode, uint32_t rdev, const char *target)
{
    struct walk walk;
    int64_t error;

    do {
        error = walk_begin(&walk, dirfd, path);
        if (error != 0) {
            return error;
        }
        tree_lock_write();
        error = make_prepare(&walk, S_ISTYPE(mode, S_IFDIR));
        if (error == 0) {
            error = make_inode(&walk, mode, rdev, target, NULL);
        }
        tree_unlock_write();
        error = walk_finish(&walk, error);
    } while (error == WALK_AGAIN);
    return error;
}

int64_t
name_create(int dirfd, const char *path, uint32_t mode, uint32_t rdev)
{
    return name_make(dirfd, path, mode, rdev, NULL);
}

int64_t
name_symlink(const char *target, int dirfd, const char *path)
{
    return name_make(dirfd, path, S_IFLNK | 0777u, 0, target);
}

static int64_t
link_locked(struct walk *walk, struct inode *inode)
{
    int64_t error = make_prepare(walk, false);

    if (error == 0 && walk->at->superblock != inode->superblock) {
        error = -EXDEV;
    }
    if (error == 0 && S_ISTYPE(inode->mode, S_IFDIR)) {
        error = -EPERM;
    }
    if (error == 0 && inode->links >= LINKS_MAX) {
        error = -EMLINK;
    }
    if (error == 0) {
        error = child_add(walk, inode, NULL);
    }
    if (error == 0) {
        inode->links++;
        inode_touch(inode, false);
    }
    return error;
}

int64_t
name_link(struct inode *inode, int dirfd, const char *path)
{
    struct walk walk;
    int64_t error;

    do {
        error = walk_begin(&walk, dirfd, path);
        if (error != 0) {
            return error;
        }
        tree_lock_write();
        error = link_locked(&walk, inode);
        tree_unlock_write();
        error = walk_finish(&walk, error);
    } while (error == WALK_AGAIN);
    return error;
}

/* ---- removing ----------------------------------------------------------------------- */

/* Take a checked child out of its directory. */
static void
child_remove(struct dentry *child)
{
    struct inode *directory = child->parent->inode;

    if (dentry_is_directory(child)) {
        child->inode->links = 0;
        directory->links--;
    } else {
        child->inode->links--;
    }
    inode_touch(child->inode, false);
    inode_touch(directory, true);
    dentry_unlink(child);
}

/* The sticky bit: only owners remove.  What is swapped to stays. */
static bool
may_remove(const struct dentry *directory, const struct dentry *child)
{
    uint32_t uid = process_fsuid_or_boot();

    if (atomic_load(&child->inode->swapped_to)) {
        return false;
    }
    return !(directory->inode->mode & S_ISVTX) || uid == 0 || uid == child->inode->uid ||
           uid == directory->inode->uid;
}

static int64_t
remove_check(struct walk *walk, struct dentry *child, bool directory)
{
    int64_t error = directory_check(walk->at);

    if (error != 0) {
        return error;
    }
    if (!may_remove(walk->at, child)) {
        return -EPERM;
    }
    if (!directory) {
        return dentry_is_directory(child) ? -EISDIR : walk->must_be_directory ? -ENOTDIR : 0;
    }
    if (!dentry_is_directory(child)) {
        return -ENOTDIR;
    }
    if (child->mounted != NULL) {
        return -EBUSY;
    }
    if (child->unloaded) {
        return walk_needs(walk, child);
    }
    return child->child_count > 0 ? -ENOTEMPTY : 0;
}

static int64_t
remove_locked(struct walk *walk, bool directory)
{
    struct dentry *child;
    int64_t error = walk_parent(walk);

    if (error != 0) {
        return error;
    }
    if (walk->name_length == 0) {
        return directory ? -EBUSY : -EISDIR;
    }
    if (component_is_dots(walk)) {
        return !directory ? -EISDIR : walk->name_length == 1 ? -EINVAL : -ENOTEMPTY;
    }
    error = child_find(walk, &child);
    if (error != 0) {
        return error;
    }
    error = remove_check(walk, child, directory);
    if (error == 0 && walk->at->inode->ops->remove != NULL) {
        error = walk->at->inode->ops->remove(walk->at->inode, child->inode);
    } else if (error == 0) {
        error = name_leave(child);
        if (error == 0) {
            child_remove(child);
        }
    }
    dentry_put(child);
    return error;
}

int64_t
name_remove(int dirfd, const char *path, bool directory)
{
    struct walk walk;
    int64_t error;

    do {
        error = walk_begin(&walk, dirfd, path);
        if (error != 0) {
            return error;
        }
        tree_lock_write();
        error = remove_locked(&walk, directory);
        tree_unlock_write();
        error = walk_finish(&walk, error);
    } while (error == WALK_AGAIN);
    return error;
}

/* ---- open ------------------------------------------------------------------------------ */

/* O_TMPFILE: an inode below a directory, without a name. */
static int64_t
open_unnamed(struct dentry *directory, uint32_t mode, struct dentry **out)
{
    if (!dentry_is_directory(directory)) {
        return -ENOTDIR;
    }
    if (!directory->superblock->type->writable_tree) {
        return -EOPNOTSUPP;
    }
    int64_t error = directory_check(directory);
    if (error != 0) {
        return error;
    }
    struct inode *inode;
    error = inode_make(directory, S_IFREG | mode, 0, NULL, &inode);
    if (error != 0) {
        return error;
    }
    char name[24];
    owner_set(inode, directory->inode);
    inode->links = 0;
    int length = snprintf(name, sizeof name, "#%lu", (unsigned long)inode->number);
    struct dentry *dentry = dentry_create(directory, name, (size_t)length, inode);
    inode_put(inode);
    if (dentry == NULL) {
        return -ENOMEM;
    }
    *out = dentry;
    return 0;
}

enum { FOLLOW_LINK = 1 };

/* What open() found must be fit for @flags. @return 0, FOLLOW_LINK or -errno */
static int64_t
open_found_check(const struct walk *walk, const struct dentry *found, uint32_t flags)
{
    bool wants_directory = walk->must_be_directory || (flags & O_DIRECTORY);

    if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
        return -EEXIST;
    }
    if (S_ISTYPE(found->inode->mode, S_IFLNK)) {
        if (!(flags & O_NOFOLLOW) || walk->must_be_directory) {
            return FOLLOW_LINK;
        }
        return wants_directory ? -ENOTDIR : flags & O_PATH ? 0 : -ELOOP;
    }
    if (wants_directory && !dentry_is_directory(found)) {
        return -ENOTDIR;
    }
    return (flags & O_CREAT) && dentry_is_directory(found) ? -EISDIR : 0;
}

static int64_t
open_make(struct walk *walk, uint32_t mode, struct dentry **out)
{
    int64_t error = directory_check(walk->at);

    if (error == -EPERM) {
        error = -EACCES;
    }
    return error != 0 ? error : make_inode(walk, S_IFREG | mode, 0, NULL, out);
}

static int64_t
open_locked(struct walk *walk, uint32_t flags, uint32_t mode, struct dentry **out,
            bool *out_created)
{
    for (;;) {
        struct dentry *found;
        int64_t error = walk_parent(walk);

        if (error != 0) {
            return error;
        }
        if ((flags & O_CREAT) && walk->must_be_directory && walk->name_length > 0) {
            return -EISDIR;
        }
        error = walk_last(walk, &found);
        if (error == -ENOENT && (flags & O_CREAT)) {
            *out_created = true;
            return open_make(walk, mode, out);
        }
        if (error != 0) {
            return error;
        }
        error = open_found_check(walk, found, flags);
        if (error == 0) {
            *out = found;
            return 0;
        }
        if (error == FOLLOW_LINK) {
            error = walk_follow(walk, found);
            if (error == 0 && walk->name_length == 0) {
                walk->rest = ""; /* a magic link: `at` is the thing itself */
            }
        }
        dentry_put(found);
        if (error < 0) {
            return error;
        }
    }
}

/* One attempt of name_open(). */
static int64_t
open_attempt(struct walk *walk, uint32_t flags, uint32_t mode, struct dentry **out,
             bool *out_created)
{
    bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;
    bool changes = (flags & O_CREAT) || unnamed;

    if (changes) {
        tree_lock_write();
    } else {
        tree_lock_read();
    }
    int64_t error = open_locked(walk, unnamed ? flags & ~O_CREAT : flags, mode, out, out_created);
    if (error == 0 && unnamed) {
        struct dentry *directory = *out;

        *out_created = true;
        error = open_unnamed(directory, mode, out);
        dentry_put(directory);
    }
    if (changes) {
        tree_unlock_write();
    } else {
        tree_unlock_read();
    }
    return error;
}

int64_t
name_open(int dirfd, const char *path, uint32_t flags, uint32_t mode, struct dentry **out,
          bool *out_created)
{
    struct walk walk;
    int64_t error;

    do {
        *out_created = false;
        error = walk_begin(&walk, dirfd, path);
        if (error != 0) {
            return error;
        }
        error = open_attempt(&walk, flags, mode, out, out_created);
        error = walk_finish(&walk, error);
    } while (error == WALK_AGAIN);
    return error;
}

/* ---- rename ----------------------------------------------------------------------------- */

/* Whether @ancestor is @dentry or stands above it in the same file system. */
static bool
is_ancestor(const struct dentry *ancestor, const struct dentry *dentry)
{
    while (dentry != ancestor) {
        if (dentry->parent == dentry) {
            return false;
        }
        dentry = dentry->parent;
    }
    return true;
}

struct rename {
    struct walk from, to;
    struct dentry *old;
    struct dentry *target; /* NULL when the new name is free */
    uint32_t flags;
};

/* Find both ends. */
static int64_t
rename_walk(struct rename *rename)
{
    int64_t error = walk_parent(&rename->from);

    if (error == 0) {
        error = walk_parent(&rename->to);
    }
    if (error != 0) {
        return error;
    }
    if (rename->from.at->superblock != rename->to.at->superblock) {
        return -EXDEV;
    }
    if (rename->from.name_length == 0 || component_is_dots(&rename->from)) {
        return -EBUSY;
    }
    if (rename->to.name_length == 0 || component_is_dots(&rename->to)) {
        return rename->flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
    }
    error = child_find(&rename->from, &rename->old);
    if (error != 0) {
        return error;
    }
    error = child_find(&rename->to, &rename->target);
    return error == -ENOENT ? 0 : error;
}

static int64_t
rename_check_target(struct rename *rename)
{
    struct dentry *target = rename->target;

    if (target == NULL) {
        return rename->flags & RENAME_EXCHANGE ? -ENOENT : 0;
    }
    if (rename->flags & RENAME_NOREPLACE) {
        return -EEXIST;
    }
    if (is_ancestor(target, rename->from.at)) {
        return rename->flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
    }
    if (target->mounted != NULL) {
        return -EBUSY;
    }
    if (rename->flags & RENAME_EXCHANGE) {
        return may_remove(rename->to.at, target) ? 0 : -EPERM;
    }
    if (dentry_is_directory(rename->old) != dentry_is_directory(target)) {
        return dentry_is_directory(target) ? -EISDIR : -ENOTDIR;
    }
    if (!may_remove(rename->to.at, target)) {
        return -EPERM;
    }
    if (target->unloaded) {
        return walk_needs(&rename->to, target);
    }
    return target->child_count > 0 ? -ENOTEMPTY : 0;
}

static int64_t
rename_check(struct rename *rename)
{
    if (!dentry_is_directory(rename->old) &&
        (rename->from.must_be_directory || rename->to.must_be_directory)) {
        return -ENOTDIR;
    }
    if (is_ancestor(rename->old, rename->to.at)) {
        return -EINVAL;
    }
    int64_t error = rename_check_target(rename);
    if (error == 0 && rename->from.at->inode->ops->make != NULL) {
        error = -EPERM; /* the kernel's children keep their names */
    }
    if (error == 0) {
        error = directory_check(rename->from.at);
    }
    if (error == 0) {
        error = directory_check(rename->to.at);
    }
    if (error != 0) {
        return error;
    }
    if (!may_remove(rename->from.at, rename->old)) {
        return -EPERM;
    }
    return rename->old->mounted != NULL ? -EBUSY : 0;
}

static void
parent_links_move(const struct dentry *moved, struct dentry *from, struct dentry *to)
{
    if (dentry_is_directory(moved)) {
        from->inode->links--;
        to->inode->links++;
    }
}

/* A directory that has moved says who is above it. */
static int64_t
parent_store(struct dentry *moved, struct dentry *from, struct dentry *to)
{
    const struct name_ops *names = names_of(moved);

    return from == to || !dentry_is_directory(moved) ? 0 : names->reparent(moved->inode, to->inode);
}

/* What the file system keeps: the new name first, so that no crash loses both. */
static int64_t
rename_store(struct rename *rename)
{
    struct dentry *from = rename->from.at, *to = rename->to.at;
    bool exchange = (rename->flags & RENAME_EXCHANGE) != 0;

    if (names_of(from) == NULL) {
        return 0;
    }
    int64_t error = name_enter(to, rename->to.name, rename->to.name_length, rename->old->inode);
    if (error == 0 && exchange) {
        error =
            name_enter(from, rename->from.name, rename->from.name_length, rename->target->inode);
    } else if (error == 0) {
        error = name_leave(rename->old);
    }
    if (error == 0) {
        error = parent_store(rename->old, from, to);
    }
    if (error == 0 && exchange) {
        error = parent_store(rename->target, to, from);
    }
    return error;
}

static int64_t
rename_commit(struct rename *rename)
{
    struct dentry *from = rename->from.at, *to = rename->to.at;
    char *name = dentry_name_copy(rename->to.name, rename->to.name_length);
    char *back = dentry_name_copy(rename->from.name, rename->from.name_length);

    if (name == NULL || back == NULL) {
        kmem_charged_free(name);
        kmem_charged_free(back);
        return -ENOMEM;
    }
    int64_t error = rename_store(rename);
    if (error != 0) {
        kmem_charged_free(name);
        kmem_charged_free(back);
        return error;
    }
    if (rename->flags & RENAME_EXCHANGE) {
        parent_links_move(rename->target, to, from);
        dentry_move(rename->target, from, back, rename->from.name_length);
    } else {
        kmem_charged_free(back);
        if (rename->target != NULL) {
            child_remove(rename->target);
        }
    }
    parent_links_move(rename->old, from, to);
    dentry_move(rename->old, to, name, rename->to.name_length);
    inode_touch(from->inode, true);
    inode_touch(to->inode, true);
    inode_touch(rename->old->inode, false);
    return 0;
}

static int64_t
rename_locked(struct rename *rename)
{
    int64_t error = rename_walk(rename);

    if (error == 0 && rename->target != NULL && rename->target->inode == rename->old->inode &&
        !(rename->flags & RENAME_NOREPLACE)) {
        return 0; /* two names of one thing: nothing happens */
    }
    if (error == 0) {
        error = rename_check(rename);
    }
    if (error == 0) {
        error = rename_commit(rename);
    }
    return error;
}

/* One attempt of name_rename(). */
static int64_t
rename_attempt(struct rename *rename, int old_dirfd, const char *old_path, int new_dirfd,
               const char *new_path)
{
    int64_t error = walk_begin(&rename->from, old_dirfd, old_path);

    if (error != 0) {
        return error;
    }
    error = walk_begin(&rename->to, new_dirfd, new_path);
    if (error != 0) {
        walk_end(&rename->from);
        return error;
    }
    tree_lock_write();
    error = rename_locked(rename);
    if (rename->old != NULL) {
        dentry_put(rename->old);
    }
    if (rename->target != NULL) {
        dentry_put(rename->target);
    }
    tree_unlock_write();
    error = walk_finish(&rename->to, error);
    return walk_finish(&rename->from, error);
}

int64_t
name_rename(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path,
            uint32_t flags)
{
    int64_t error;

    if ((flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)) {
        return -EINVAL;
    }
    do {
        struct rename rename = {.flags = flags};

        error = rename_attempt(&rename, old_dirfd, old_path, new_dirfd, new_path);
    } while (error == WALK_AGAIN);
    return error;
}
