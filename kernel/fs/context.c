/* SPDX-License-Identifier: MIT */
/*
 * What a process knows about names: its root, where it stands, its umask.
 *
 * Each directory held counts as a user of its file system, so that it cannot be unmounted.
 */

#include "fs.h"

static void
directory_hold(struct dentry *dentry)
{
    dentry_ref(dentry);
    atomic_fetch_add(&dentry->superblock->files, 1);
}

static void
directory_release(struct dentry *dentry)
{
    atomic_fetch_sub(&dentry->superblock->files, 1);
    dentry_put(dentry);
}

static struct fs_context *
context_new(struct dentry *root, struct dentry *current, uint32_t umask)
{
    struct fs_context *context = kmem_charged_zalloc(sizeof *context);

    if (context == NULL) {
        return NULL;
    }
    atomic_init(&context->refs, 1);
    directory_hold(root);
    directory_hold(current);
    context->root = root;
    context->current = current;
    context->umask = umask;
    return context;
}

struct fs_context *
fs_context_create(void)
{
    return context_new(fs_root, fs_root, 022);
}

void
fs_context_ref(struct fs_context *context)
{
    atomic_fetch_add(&context->refs, 1);
}

void
fs_context_put(struct fs_context *context)
{
    if (atomic_fetch_sub(&context->refs, 1) != 1) {
        return;
    }
    directory_release(context->root);
    directory_release(context->current);
    kmem_charged_free(context);
}

void
fs_context_get(struct fs_context *context, struct dentry **out_root, struct dentry **out_current)
{
    qr_spin_lock(&context->lock);
    *out_root = context->root;
    *out_current = context->current;
    dentry_ref(*out_root);
    dentry_ref(*out_current);
    qr_spin_unlock(&context->lock);
}

struct fs_context *
fs_context_clone(struct fs_context *context)
{
    struct dentry *root, *current;

    fs_context_get(context, &root, &current);
    struct fs_context *clone = context_new(root, current, context->umask);
    dentry_put(root);
    dentry_put(current);
    return clone;
}

void
fs_context_set(struct fs_context *context, enum fs_place place, struct dentry *dentry)
{
    struct dentry **slot = place == FS_ROOT ? &context->root : &context->current;

    directory_hold(dentry);
    qr_spin_lock(&context->lock);
    struct dentry *old = *slot;
    *slot = dentry;
    qr_spin_unlock(&context->lock);
    directory_release(old);
}

uint32_t
fs_context_set_umask(struct fs_context *context, uint32_t umask)
{
    qr_spin_lock(&context->lock);
    uint32_t old = context->umask;
    context->umask = umask & 0777u;
    qr_spin_unlock(&context->lock);
    return old;
}
