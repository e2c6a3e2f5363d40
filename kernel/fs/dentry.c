/* SPDX-License-Identifier: MIT */
/*
 * Names: one tree per file system, complete in memory.
 *
 *            root            references of a linked dentry:
 *           /    \             1 by the tree (being linked)
 *        etc      tmp          1 by each child (its parent pointer)
 *       /   \       \          + whoever walks, opens, or stands in it
 *   passwd  group    x
 *
 * Removing a name takes the tree's reference away; the dentry then lives on, unlinked, for
 * those who have it open.  A generated dentry (procfs) is never linked: it lives only for who
 * looked it up, and its parent pointer serves "..".
 *
 * Look-up goes through one hash table over (parent, name).  Each directory also keeps its
 * children in the order of their cookies, the positions that getdents64 hands out: a cookie is
 * never used again in a directory, so that entries removed during a listing neither hide nor
 * repeat others (rm -r).
 *
 * Lock: T, the tree lock, for everything but reference counts.
 */

#include <quire/assert.h>

#include "fs.h"

enum { BUCKETS = 1024, FIRST_COOKIE = 2 }; /* 0 and 1 are "." and ".." */

static struct qr_rwlock tree_lock;
static struct qr_list buckets[BUCKETS];

void
tree_lock_read(void)
{
    qr_rw_read_lock(&tree_lock);
}

void
tree_unlock_read(void)
{
    qr_rw_read_unlock(&tree_lock);
}

void
tree_lock_write(void)
{
    qr_rw_write_lock(&tree_lock);
}

void
tree_unlock_write(void)
{
    qr_rw_write_unlock(&tree_lock);
}

/* FNV-1a over the parent's address and the name. */
static uint32_t
name_hash(const struct dentry *parent, const char *name, size_t length)
{
    uint32_t hash = 2166136261u ^ (uint32_t)((uintptr_t)parent >> 6);

    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    }
    return hash;
}

/* The table is made with the first dentry; start-up is single-threaded. */
static struct qr_list *
bucket_of(uint32_t hash)
{
    struct qr_list *bucket = &buckets[(hash ^ hash >> 16) % BUCKETS];

    if (bucket->next == NULL) {
        qr_list_init(bucket);
    }
    return bucket;
}

char *
dentry_name_copy(const char *name, size_t length)
{
    char *copy = kmem_charged_alloc(length + 1);

    if (copy != NULL) {
        memcpy(copy, name, length);
        copy[length] = '\0';
    }
    return copy;
}

static struct dentry *
dentry_new(const char *name, size_t length)
{
    struct dentry *dentry = kmem_charged_zalloc(sizeof *dentry);

    if (dentry == NULL) {
        return NULL;
    }
    dentry->name = dentry->inline_name;
    if (length >= DENTRY_INLINE_NAME) {
        dentry->name = dentry_name_copy(name, length);
        if (dentry->name == NULL) {
            kmem_charged_free(dentry);
            return NULL;
        }
    } else {
        memcpy(dentry->name, name, length);
    }
    dentry->name_length = (uint32_t)length;
    dentry->next_cookie = FIRST_COOKIE;
    atomic_init(&dentry->refs, 1);
    qr_list_init(&dentry->siblings);
    qr_list_init(&dentry->children);
    qr_list_init(&dentry->bucket);
    return dentry;
}

struct dentry *
dentry_create(struct dentry *parent, const char *name, size_t length, struct inode *inode)
{
    struct dentry *dentry = dentry_new(name, length);

    if (dentry == NULL) {
        return NULL;
    }
    dentry_ref(parent);
    inode_ref(inode);
    dentry->parent = parent;
    dentry->inode = inode;
    dentry->superblock = parent->superblock;
    return dentry;
}

struct dentry *
dentry_create_anonymous(struct superblock *superblock, const char *name, struct inode *inode)
{
    struct dentry *dentry = dentry_new(name, strlen(name));

    if (dentry == NULL) {
        return NULL;
    }
    dentry->parent = dentry;
    dentry->inode = inode;
    dentry->superblock = superblock;
    return dentry;
}

struct dentry *
dentry_create_root(struct superblock *superblock, struct inode *inode)
{
    struct dentry *dentry = dentry_create_anonymous(superblock, "", inode);

    if (dentry != NULL) {
        dentry->linked = true;
    }
    return dentry;
}

void
dentry_ref(struct dentry *dentry)
{
    unsigned before = atomic_fetch_add_explicit(&dentry->refs, 1, memory_order_relaxed);

    qr_assert(before > 0);
}

/* A freed dentry drops its parent, which may be freed by that: a loop, not a recursion. */
void
dentry_put(struct dentry *dentry)
{
    while (atomic_fetch_sub(&dentry->refs, 1) == 1) {
        struct dentry *parent = dentry->parent;

        qr_assert(!dentry->linked || parent == dentry);
        qr_assert(qr_list_is_empty(&dentry->children));
        inode_put(dentry->inode);
        if (dentry->name != dentry->inline_name) {
            kmem_charged_free(dentry->name);
        }
        kmem_charged_free(dentry);
        if (parent == dentry) {
            return;
        }
        dentry = parent;
    }
}

struct dentry *
dentry_child(struct dentry *directory, const char *name, size_t length)
{
    uint32_t hash = name_hash(directory, name, length);
    struct qr_list *bucket = &buckets[(hash ^ hash >> 16) % BUCKETS];

    if (bucket->next == NULL) {
        return NULL;
    }
    qr_list_for_each(node, bucket)
    {
        struct dentry *child = qr_list_entry(node, struct dentry, bucket);

        if (child->hash == hash && child->parent == directory && child->name_length == length &&
            memcmp(child->name, name, length) == 0) {
            dentry_ref(child);
            return child;
        }
    }
    return NULL;
}

void
dentry_link(struct dentry *dentry)
{
    struct dentry *parent = dentry->parent;

    qr_assert(!dentry->linked);
    dentry->hash = name_hash(parent, dentry->name, dentry->name_length);
    dentry->cookie = parent->next_cookie++;
    dentry->linked = true;
    parent->child_count++;
    qr_list_push_back(&parent->children, &dentry->siblings);
    qr_list_push_front(bucket_of(dentry->hash), &dentry->bucket);
    dentry_ref(dentry);
}

void
dentry_unlink(struct dentry *dentry)
{
    qr_assert(dentry->linked);
    dentry->linked = false;
    dentry->parent->child_count--;
    qr_list_remove(&dentry->siblings);
    qr_list_remove(&dentry->bucket);
    dentry_put(dentry);
}

void
dentry_move(struct dentry *dentry, struct dentry *parent, char *name, size_t length)
{
    struct dentry *old_parent = dentry->parent;

    dentry_ref(dentry);
    dentry_unlink(dentry);
    dentry_ref(parent);
    dentry->parent = parent;
    if (dentry->name != dentry->inline_name) {
        kmem_charged_free(dentry->name);
    }
    dentry->name = name;
    dentry->name_length = (uint32_t)length;
    dentry_link(dentry);
    dentry_put(old_parent);
    dentry_put(dentry);
}

/* Children first, by walking down to a leaf and back up. */
void
dentry_tree_destroy(struct dentry *root)
{
    struct dentry *at = root;

    for (;;) {
        if (!qr_list_is_empty(&at->children)) {
            at = qr_list_entry(at->children.next, struct dentry, siblings);
            continue;
        }
        if (at == root) {
            break;
        }
        struct dentry *parent = at->parent;
        dentry_unlink(at);
        at = parent;
    }
    dentry_put(root);
}

struct dentry *
tree_add(struct dentry *directory, const char *name, struct inode *inode)
{
    struct dentry *dentry = dentry_create(directory, name, strlen(name), inode);

    if (dentry == NULL) {
        return NULL;
    }
    if (S_ISTYPE(inode->mode, S_IFDIR)) {
        directory->inode->links++;
    }
    dentry_link(dentry);
    dentry_put(dentry);
    return dentry;
}

const char *
dentry_path(struct dentry *dentry, struct dentry *root, char *buffer, size_t size,
            bool *out_reachable)
{
    size_t at = size - 1;

    *out_reachable = true;
    buffer[at] = '\0';
    while (dentry != root) {
        if (dentry->parent == dentry) {
            struct dentry *covered = dentry->superblock->covered;

            if (covered == NULL || dentry != dentry->superblock->root) {
                *out_reachable = dentry == fs_root;
                break;
            }
            dentry = covered;
            continue;
        }
        if (dentry->name_length + 1u > at) {
            return NULL;
        }
        at -= dentry->name_length;
        memcpy(buffer + at, dentry->name, dentry->name_length);
        buffer[--at] = '/';
        dentry = dentry->parent;
    }
    if (buffer[at] == '\0') {
        if (at == 0) {
            return NULL;
        }
        buffer[--at] = '/';
    }
    return buffer + at;
}
