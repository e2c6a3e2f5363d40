/* SPDX-License-Identifier: MIT */
/*
 * Path walks: from a string to a dentry.
 *
 * The walk is a loop over components with a string of what is left to do.  A symbolic link
 * replaces its own component: the rest becomes "target/rest", in a buffer of the walk.  So
 * nested links cost no stack, and the number of links followed in one walk is bounded by
 * SYMLINK_MAX, whatever their shape.
 *
 *      at = /usr        rest = "share/doc/x"
 *      share -> /opt/share
 *      at = /           rest = "opt/share/doc/x"
 *
 * The caller holds the tree lock from walk_parent() on until it has its result: for reading
 * when it only looks, for writing when it will change the directory found.
 */

#include <quire/assert.h>

#include "fs.h"
#include "proc.h"

/* A link's target and what follows it, each shorter than PATH_MAX. */
enum { WALK_BUFFER_BYTES = 2 * PATH_MAX };

/* ---- where a walk starts ------------------------------------------------------- */

static struct fs_context *
current_context(void)
{
    struct thread *thread = thread_current();

    return thread == NULL ? NULL : thread->fs;
}

struct dentry *
current_root(void)
{
    struct fs_context *context = current_context();
    struct dentry *root = fs_root;

    if (context == NULL) {
        dentry_ref(root);
        return root;
    }
    qr_spin_lock(&context->lock);
    root = context->root;
    dentry_ref(root);
    qr_spin_unlock(&context->lock);
    return root;
}

struct dentry *
current_directory(void)
{
    struct fs_context *context = current_context();
    struct dentry *directory = fs_root;

    if (context == NULL) {
        dentry_ref(directory);
        return directory;
    }
    qr_spin_lock(&context->lock);
    directory = context->current;
    dentry_ref(directory);
    qr_spin_unlock(&context->lock);
    return directory;
}

uint32_t
current_umask(void)
{
    struct fs_context *context = current_context();

    return context == NULL ? 022 : context->umask;
}

static int64_t
start_directory(int dirfd, struct dentry **out)
{
    if (dirfd == AT_FDCWD) {
        *out = current_directory();
        return 0;
    }
    struct file *file = file_get_any(dirfd);
    if (file == NULL) {
        return -EBADF;
    }
    int64_t error = -ENOTDIR;
    if (dentry_is_directory(file->dentry)) {
        *out = file->dentry;
        dentry_ref(*out);
        error = 0;
    }
    file_put(file);
    return error;
}

int64_t
walk_begin(struct walk *walk, int dirfd, const char *path)
{
    struct dentry *at = NULL;

    if (path[0] == '\0') {
        return -ENOENT;
    }
    if (path[0] == '/') {
        at = current_root();
    } else {
        int64_t error = start_directory(dirfd, &at);

        if (error != 0) {
            return error;
        }
    }
    *walk = (struct walk){.root = current_root(), .at = at, .rest = path};
    return 0;
}

void
walk_end(struct walk *walk)
{
    dentry_put(walk->at);
    dentry_put(walk->root);
    kmem_free(walk->buffer);
    walk->buffer = NULL;
}

int64_t
dentry_load(struct dentry *dentry)
{
    const struct name_ops *names = dentry->superblock->type->names;

    return names == NULL || !dentry->unloaded ? 0 : names->load(dentry);
}

int64_t
walk_needs(struct walk *walk, struct dentry *directory)
{
    qr_assert(walk->unloaded == NULL);
    dentry_ref(directory);
    walk->unloaded = directory;
    return WALK_AGAIN;
}

int64_t
walk_finish(struct walk *walk, int64_t error)
{
    struct dentry *unloaded = walk->unloaded;

    walk_end(walk);
    if (unloaded != NULL) {
        error = dentry_load(unloaded);
        dentry_put(unloaded);
        return error == 0 ? WALK_AGAIN : error;
    }
    return error;
}

/* ---- steps ------------------------------------------------------------------------ */

static void
walk_move(struct walk *walk, struct dentry *to)
{
    dentry_put(walk->at);
    walk->at = to;
}

/* The topmost file system mounted here; consumes and gives a reference. */
static struct dentry *
mount_enter(struct dentry *dentry)
{
    while (dentry->mounted != NULL) {
        struct dentry *root = dentry->mounted->root;

        dentry_ref(root);
        dentry_put(dentry);
        dentry = root;
    }
    return dentry;
}

/* "..": up, out of mounted roots, never above the process's root. */
static void
walk_up(struct walk *walk)
{
    struct dentry *at = walk->at;

    while (at != walk->root && at->parent == at && at->superblock->covered != NULL) {
        at = at->superblock->covered;
    }
    if (at != walk->root) {
        at = at->parent;
    }
    dentry_ref(at);
    walk_move(walk, mount_enter(at));
}

static int64_t
directory_lookup(struct walk *walk, struct dentry **out)
{
    struct dentry *directory = walk->at;
    const char *name = walk->name;
    size_t length = walk->name_length;
    struct dentry *child = dentry_child(directory, name, length);

    if (child == NULL && directory->unloaded) {
        return walk_needs(walk, directory);
    }
    if (child == NULL) {
        const struct inode_ops *ops = directory->inode->ops;

        if (ops->lookup == NULL) {
            return -ENOENT;
        }
        int64_t error = ops->lookup(directory, name, length, &child);
        if (error != 0) {
            return error;
        }
    }
    *out = mount_enter(child);
    return 0;
}

/* Cut the next component off `rest`. @return false when there is none */
static bool
component_next(struct walk *walk)
{
    const char *at = walk->rest;

    while (*at == '/') {
        at++;
    }
    walk->name = at;
    while (*at != '\0' && *at != '/') {
        at++;
    }
    walk->name_length = (size_t)(at - walk->name);
    walk->must_be_directory = *at == '/';
    while (*at == '/') {
        at++;
    }
    walk->rest = at;
    return walk->name_length > 0;
}

static bool
name_is(const struct walk *walk, const char *name)
{
    return walk->name_length == strlen(name) && memcmp(walk->name, name, walk->name_length) == 0;
}

int64_t
walk_follow(struct walk *walk, struct dentry *link)
{
    struct inode *inode = link->inode;

    if (++walk->links > SYMLINK_MAX) {
        return -ELOOP;
    }
    if (inode->ops->follow != NULL) {
        struct dentry *target = NULL;
        int64_t error = inode->ops->follow(inode, &target);

        if (error != 0) {
            return error;
        }
        walk_move(walk, target);
        walk->name_length = 0;
        return 0;
    }

    char *buffer = kmem_alloc(WALK_BUFFER_BYTES);
    if (buffer == NULL) {
        return -ENOMEM;
    }
    int64_t length = inode->ops->read_link(inode, buffer, PATH_MAX);
    size_t rest_length = strlen(walk->rest);
    if (length <= 0 || length >= PATH_MAX || rest_length >= PATH_MAX) {
        kmem_free(buffer);
        return length < 0 ? length : length == 0 ? -ENOENT : -ENAMETOOLONG;
    }
    /* The slash after the link's own component stays in force. */
    if (rest_length > 0 || walk->must_be_directory) {
        buffer[length++] = '/';
    }
    memcpy(buffer + length, walk->rest, rest_length + 1);
    kmem_free(walk->buffer);
    walk->buffer = buffer;
    walk->rest = buffer;
    if (buffer[0] == '/') {
        dentry_ref(walk->root);
        walk_move(walk, walk->root);
    }
    return 0;
}

/* Go through one component that is not the last. */
static int64_t
walk_step(struct walk *walk)
{
    struct dentry *child = NULL;

    if (name_is(walk, ".")) {
        return 0;
    }
    if (name_is(walk, "..")) {
        walk_up(walk);
        return 0;
    }
    int64_t error = directory_lookup(walk, &child);
    if (error != 0) {
        return error;
    }
    if (S_ISTYPE(child->inode->mode, S_IFLNK)) {
        error = walk_follow(walk, child);
        dentry_put(child);
        return error;
    }
    walk_move(walk, child);
    return 0;
}

int64_t
walk_parent(struct walk *walk)
{
    for (;;) {
        bool more = component_next(walk);

        if (more && walk->name_length > NAME_MAX) {
            return -ENAMETOOLONG;
        }
        if (!more) {
            return 0;
        }
        if (!dentry_is_directory(walk->at)) {
            return -ENOTDIR;
        }
        if (!inode_allows(walk->at->inode, ACCESS_EXECUTE)) {
            return -EACCES;
        }
        if (walk->rest[0] == '\0') {
            return 0;
        }
        int64_t error = walk_step(walk);
        if (error != 0) {
            return error;
        }
    }
}

int64_t
walk_last(struct walk *walk, struct dentry **out)
{
    struct dentry *found = walk->at;

    if (walk->name_length == 0 || name_is(walk, ".")) {
        dentry_ref(found);
    } else if (name_is(walk, "..")) {
        walk_up(walk);
        found = walk->at;
        dentry_ref(found);
    } else {
        int64_t error = directory_lookup(walk, &found);

        if (error != 0) {
            return error;
        }
    }
    *out = found;
    return 0;
}

/* ---- whole walks ----------------------------------------------------------------------- */

static int64_t
lookup_locked(struct walk *walk, enum walk_links links, struct dentry **out)
{
    for (;;) {
        struct dentry *found = NULL;
        int64_t error = walk_parent(walk);

        if (error == 0) {
            error = walk_last(walk, &found);
        }
        if (error != 0) {
            return error;
        }
        bool is_link = S_ISTYPE(found->inode->mode, S_IFLNK);
        if (is_link && walk->name_length > 0 &&
            (links == LINKS_FOLLOW || walk->must_be_directory)) {
            error = walk_follow(walk, found);
            dentry_put(found);
            if (error != 0) {
                return error;
            }
            if (walk->name_length != 0) {
                continue;
            }
            /* A magic link led to a thing: the walk goes on from it, if there is more. */
            walk->rest = "";
            if (walk->must_be_directory && !dentry_is_directory(walk->at)) {
                return -ENOTDIR;
            }
            dentry_ref(walk->at);
            *out = walk->at;
            return 0;
        }
        if (walk->must_be_directory && !dentry_is_directory(found)) {
            dentry_put(found);
            return -ENOTDIR;
        }
        *out = found;
        return 0;
    }
}

int64_t
path_lookup(int dirfd, const char *path, enum walk_links links, struct dentry **out)
{
    struct walk walk;
    int64_t error;

    do {
        error = walk_begin(&walk, dirfd, path);
        if (error != 0) {
            return error;
        }
        tree_lock_read();
        error = lookup_locked(&walk, links, out);
        tree_unlock_read();
        error = walk_finish(&walk, error);
    } while (error == WALK_AGAIN);
    return error;
}

static int64_t
lookup_descriptor(int dirfd, struct dentry **out)
{
    if (dirfd == AT_FDCWD) {
        *out = current_directory();
        return 0;
    }
    struct file *file = file_get_any(dirfd);
    if (file == NULL) {
        return -EBADF;
    }
    *out = file->dentry;
    dentry_ref(*out);
    file_put(file);
    return 0;
}

int64_t
path_lookup_user(int dirfd, uint64_t user_path, uint32_t at_flags, struct dentry **out)
{
    char *path;
    int64_t error = path_from_user(user_path, &path);

    if (error == -ENOENT && (at_flags & AT_EMPTY_PATH)) {
        return lookup_descriptor(dirfd, out);
    }
    if (error != 0) {
        return error;
    }
    error =
        path_lookup(dirfd, path, at_flags & AT_SYMLINK_NOFOLLOW ? LINKS_KEEP : LINKS_FOLLOW, out);
    path_free(path);
    return error;
}

int64_t
path_from_user(uint64_t user_path, char **out_path)
{
    char *path = kmem_alloc(PATH_MAX);

    if (path == NULL) {
        return -ENOMEM;
    }
    int64_t length = user_read_string(path, user_path, PATH_MAX);
    if (length <= 0) {
        kmem_free(path);
        return length == 0 ? -ENOENT : length;
    }
    *out_path = path;
    return 0;
}

void
path_free(char *path)
{
    kmem_free(path);
}
