/* SPDX-License-Identifier: MIT */
/*
 * Inodes: from the table on the disk into memory and back.
 *
 * One struct inode for each number that somebody uses, found through a table.  An inode whose last
 * reference goes is stored and written back if a name leads to it still, and its blocks and its number
 * are given back if none does: that is how a file that was removed while open ends.  Who looks
 * for a number whose inode is on its way out finds none to refer to; that happens only where a
 * damaged directory leads to a removed inode, and is answered by EUCLEAN.
 *
 * Lock: H for the table.  Never held over the disk.
 */
#include <quire/assert.h>

#include "ext2.h"
#include "sched.h"

static const struct inode_ops ext2_inode_ops;

/* How often to wait for an inode on its way out, which may come back from the disk then. */
enum { LEAVING_TRIES = 100000 };

/* ---- the table ------------------------------------------------------------------------------- */

static struct qr_list *
bucket_of(struct ext2 *fs, uint64_t number)
{
    return &fs->table[number % EXT2_BUCKETS];
}

/* A reference, unless it is on its way out. */
static bool
inode_try_ref(struct inode *inode)
{
    unsigned refs = atomic_load(&inode->refs);

    while (refs != 0) {
        if (atomic_compare_exchange_weak(&inode->refs, &refs, refs + 1)) {
            return true;
        }
    }
    return false;
}

/* H held. @return NULL: not in memory */
static struct ext2_inode *
table_find(struct ext2 *fs, uint32_t number)
{
    qr_list_for_each(link, bucket_of(fs, number))
    {
        struct ext2_inode *node = qr_list_entry(link, struct ext2_inode, bucket);

        if (node->inode->number == number) {
            return node;
        }
    }
    return NULL;
}

/* @return 0: *@out has a reference, or is NULL and not in memory; -EUCLEAN: it is being removed */
static int64_t
table_get(struct ext2 *fs, uint32_t number, struct inode **out)
{
    int64_t error = 0;

    *out = NULL;
    qr_spin_lock(&fs->table_lock);
    struct ext2_inode *node = table_find(fs, number);
    if (node != NULL && inode_try_ref(node->inode)) {
        *out = node->inode;
    } else if (node != NULL) {
        error = -EUCLEAN;
    }
    qr_spin_unlock(&fs->table_lock);
    return error;
}

int64_t
ext2_each_inode(struct ext2 *fs, int64_t (*fn)(struct inode *inode))
{
    int64_t first_error = 0;

    for (unsigned i = 0; i < EXT2_BUCKETS; i++) {
        struct qr_list *bucket = &fs->table[i];
        struct inode *held = NULL;
        bool more = true;

        /* The held one stays in the list while others come and go around it. */
        while (more) {
            struct inode *next = NULL;

            qr_spin_lock(&fs->table_lock);
            struct qr_list *link = held == NULL ? bucket->next : ext2_of(held)->bucket.next;
            while (link != bucket && next == NULL) {
                struct ext2_inode *node = qr_list_entry(link, struct ext2_inode, bucket);

                next = inode_try_ref(node->inode) ? node->inode : NULL;
                link = link->next;
            }
            qr_spin_unlock(&fs->table_lock);
            if (held != NULL) {
                inode_put(held);
            }
            held = next;
            more = next != NULL;
            int64_t error = more ? fn(next) : 0;
            first_error = first_error != 0 ? first_error : error;
        }
    }
    return first_error;
}

/* ---- a new one in memory ------------------------------------------------------------------------ */

static struct inode *
node_create(struct ext2 *fs, uint32_t number, uint32_t mode)
{
    struct ext2_inode *node = kmem_charged_zalloc(sizeof *node);
    struct inode *inode = node == NULL ? NULL : inode_create(fs->superblock, &ext2_inode_ops, mode);

    if (inode == NULL) {
        kmem_charged_free(node);
        return NULL;
    }
    node->fs = fs;
    node->inode = inode;
    node->goal = fs->first_block + (number - 1) / fs->inodes_per_group * fs->blocks_per_group;
    qr_list_init(&node->bucket);
    inode->data = node;
    inode->number = number;
    inode->file_ops = &ext2_file_ops;
    return inode;
}

/* Enter it, unless somebody was faster. @return the one to use, with the caller's reference */
static struct inode *
table_enter(struct ext2 *fs, struct inode *inode)
{
    struct inode *other = NULL;

    qr_spin_lock(&fs->table_lock);
    struct ext2_inode *node = table_find(fs, (uint32_t)inode->number);
    if (node != NULL && inode_try_ref(node->inode)) {
        other = node->inode;
    } else {
        qr_list_push_back(bucket_of(fs, inode->number), &ext2_of(inode)->bucket);
    }
    qr_spin_unlock(&fs->table_lock);
    if (other == NULL) {
        return inode;
    }
    inode_put(inode);
    return other;
}

/* ---- reading and storing ------------------------------------------------------------------------ */

/* Where inode @number is in the table. */
static uint32_t
place_of(const struct ext2 *fs, uint32_t number, uint32_t *out_offset)
{
    uint32_t index = (number - 1) % fs->inodes_per_group;
    uint64_t byte = (uint64_t)index * fs->inode_bytes;

    *out_offset = (uint32_t)(byte & (fs->block_bytes - 1));
    return fs->groups[(number - 1) / fs->inodes_per_group].inode_table +
           (uint32_t)(byte >> fs->block_shift);
}

static bool
mode_is_known(uint32_t mode)
{
    static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR,
                                     S_IFBLK, S_IFIFO, S_IFSOCK};

    for (size_t i = 0; i < QR_ARRAY_COUNT(types); i++) {
        if (S_ISTYPE(mode, types[i])) {
            return true;
        }
    }
    return false;
}

static bool
has_device_number(uint32_t mode)
{
    return S_ISTYPE(mode, S_IFCHR) || S_ISTYPE(mode, S_IFBLK);
}

/* Two ways of Linux to write a device number into the pointers. */
static uint32_t
device_read(const uint32_t *pointers)
{
    if (pointers[0] != 0) {
        return MAKE_DEV(pointers[0] >> 8 & 0xff, pointers[0] & 0xff);
    }
    return MAKE_DEV(pointers[1] >> 8 & 0xfff, (pointers[1] & 0xff) | (pointers[1] >> 12 & 0xfff00));
}

static void
device_write(uint32_t *pointers, uint32_t device)
{
    pointers[0] = 0;
    pointers[1] =
        DEV_MAJOR(device) << 8 | (DEV_MINOR(device) & 0xff) | (DEV_MINOR(device) & 0xfff00) << 12;
}

static bool
link_is_inline(const struct ext2_inode *node)
{
    uint32_t own = node->file_acl != 0 ? node->fs->block_bytes >> SECTOR_SHIFT : 0;

    return node->sectors <= own;
}

/* The text of a symbolic link. */
static int64_t
target_read(struct ext2_inode *node)
{
    struct inode *inode = node->inode;
    uint64_t size = atomic_load(&inode->size);
    struct ext2_place place = {.block = 0};
    int64_t error = 0;

    if (size == 0 || size >= (link_is_inline(node) ? EXT2_LINK_INLINE : node->fs->block_bytes) ||
        size >= PATH_MAX) {
        return -EUCLEAN;
    }
    inode->target = kmem_charged_zalloc((size_t)size + 1);
    if (inode->target == NULL) {
        return -ENOMEM;
    }
    if (link_is_inline(node)) {
        memcpy(inode->target, node->pointers, (size_t)size);
    } else {
        error = ext2_map(node, 0, EXT2_LOOK, &place);
        if (error == 0) {
            error = place.block == 0
                        ? -EUCLEAN
                        : ext2_meta_read(node->fs, place.block, 0, inode->target, (size_t)size);
        }
    }
    return error != 0 ? error : strlen(inode->target) != size ? -EUCLEAN : 0;
}

static struct timespec
time_of(uint32_t seconds)
{
    return (struct timespec){.seconds = (int32_t)seconds};
}

static int64_t
node_fill(struct ext2_inode *node, const struct ext2_inode_disk *disk)
{
    struct inode *inode = node->inode;
    uint64_t size = disk->size;

    if (S_ISTYPE(disk->mode, S_IFREG)) {
        size |= (uint64_t)disk->size_high << 32;
    }
    inode->uid = disk->uid | (uint32_t)disk->uid_high << 16;
    inode->gid = disk->gid | (uint32_t)disk->gid_high << 16;
    inode->links = disk->links;
    atomic_store(&inode->size, size);
    inode->accessed = time_of(disk->accessed);
    inode->modified = time_of(disk->modified);
    inode->changed = time_of(disk->changed);
    node->sectors = disk->sectors;
    node->flags = disk->flags;
    node->generation = disk->generation;
    node->file_acl = disk->file_acl;
    memcpy(node->pointers, disk->pointers, sizeof node->pointers);
    if (size > ext2_size_limit(node->fs) ||
        (S_ISTYPE(disk->mode, S_IFDIR) && (size & (node->fs->block_bytes - 1)) != 0)) {
        return -EUCLEAN;
    }
    if (has_device_number(disk->mode)) {
        inode->rdev = device_read(disk->pointers);
    }
    return S_ISTYPE(disk->mode, S_IFLNK) ? target_read(node) : 0;
}

int64_t
ext2_inode_get(struct ext2 *fs, uint32_t number, struct inode **out)
{
    struct ext2_inode_disk disk;
    uint32_t offset;

    if (number == 0 || number > fs->inodes || (number != EXT2_ROOT && number < fs->first_inode)) {
        return -EUCLEAN;
    }
    int64_t error = table_get(fs, number, out);
    for (unsigned i = 0; error == -EUCLEAN && i < LEAVING_TRIES; i++) {
        sched_yield();
        error = table_get(fs, number, out);
    }
    if (error != 0 || *out != NULL) {
        return error;
    }
    uint32_t block = place_of(fs, number, &offset);
    error = ext2_meta_read(fs, block, offset, &disk, sizeof disk);
    if (error != 0) {
        return error;
    }
    if (!mode_is_known(disk.mode) || disk.links == 0) {
        return -EUCLEAN;
    }
    struct inode *inode = node_create(fs, number, disk.mode);
    if (inode == NULL) {
        return -ENOMEM;
    }
    error = node_fill(ext2_of(inode), &disk);
    if (error != 0) {
        inode->links = 1; /* not ours to remove */
        inode_put(inode);
        return error;
    }
    *out = table_enter(fs, inode);
    return 0;
}

static void
disk_fill(struct ext2_inode *node, struct ext2_inode_disk *disk)
{
    const struct inode *inode = node->inode;
    uint64_t size = atomic_load(&inode->size);

    disk->mode = (uint16_t)inode->mode;
    disk->uid = (uint16_t)inode->uid;
    disk->uid_high = (uint16_t)(inode->uid >> 16);
    disk->gid = (uint16_t)inode->gid;
    disk->gid_high = (uint16_t)(inode->gid >> 16);
    disk->links = (uint16_t)inode->links;
    disk->size = (uint32_t)size;
    if (S_ISTYPE(inode->mode, S_IFREG)) {
        disk->size_high = (uint32_t)(size >> 32);
    }
    disk->accessed = (uint32_t)inode->accessed.seconds;
    disk->modified = (uint32_t)inode->modified.seconds;
    disk->changed = (uint32_t)inode->changed.seconds;
    disk->deleted = inode->links == 0 ? (uint32_t)time_now().seconds : 0;
    disk->flags = node->flags;
    disk->generation = node->generation;
    disk->file_acl = node->file_acl;
    qr_mutex_lock(&node->map_lock);
    disk->sectors = node->sectors;
    memcpy(disk->pointers, node->pointers, sizeof node->pointers);
    qr_mutex_unlock(&node->map_lock);
}

int64_t
ext2_inode_store(struct inode *inode)
{
    struct ext2_inode *node = ext2_of(inode);
    struct ext2_inode_disk disk;
    uint32_t offset;

    if (!atomic_exchange(&inode->dirty, false) || superblock_is_read_only(inode->superblock)) {
        return 0;
    }
    uint32_t block = place_of(node->fs, (uint32_t)inode->number, &offset);
    int64_t error = ext2_meta_read(node->fs, block, offset, &disk, sizeof disk);
    if (error == 0) {
        disk_fill(node, &disk);
        error = ext2_meta_write(node->fs, block, offset, &disk, sizeof disk);
    }
    if (error != 0) {
        atomic_store(&inode->dirty, true);
    }
    return error;
}

/* ---- making ------------------------------------------------------------------------------------- */

/* What a link, a device or a directory begins with. */
static int64_t
contents_begin(struct ext2_inode *node, uint32_t parent, const char *target)
{
    struct inode *inode = node->inode;
    struct ext2_place place;

    if (S_ISTYPE(inode->mode, S_IFDIR)) {
        return ext2_directory_begin(node, parent);
    }
    if (has_device_number(inode->mode)) {
        device_write(node->pointers, inode->rdev);
        return 0;
    }
    if (!S_ISTYPE(inode->mode, S_IFLNK)) {
        return 0;
    }
    size_t length = strlen(target);
    if (length >= node->fs->block_bytes) {
        return -ENAMETOOLONG;
    }
    inode->target = dentry_name_copy(target, length);
    if (inode->target == NULL) {
        return -ENOMEM;
    }
    atomic_store(&inode->size, length);
    if (length < EXT2_LINK_INLINE) {
        memcpy(node->pointers, target, length);
        return 0;
    }
    int64_t error = ext2_map(node, 0, EXT2_MAKE, &place);
    if (error == 0) {
        error = ext2_meta_clear(node->fs, place.block);
    }
    return error != 0 ? error : ext2_meta_write(node->fs, place.block, 0, target, length);
}

/* A number is used anew: nothing of its last inode is to show. */
static int64_t
table_clear(struct ext2 *fs, uint32_t number)
{
    static const char zeros[256];
    uint32_t offset;
    uint32_t block = place_of(fs, number, &offset);
    int64_t error = 0;

    for (uint32_t done = 0; done < fs->inode_bytes && error == 0;) {
        uint32_t piece =
            fs->inode_bytes - done < sizeof zeros ? fs->inode_bytes - done : (uint32_t)sizeof zeros;

        error = ext2_meta_write(fs, block, offset + done, zeros, piece);
        done += piece;
    }
    return error;
}

int64_t
ext2_inode_make(struct inode *directory, uint32_t mode, uint32_t rdev, const char *target,
                struct inode **out)
{
    struct ext2 *fs = ext2_fs_of(directory);
    bool is_directory = S_ISTYPE(mode, S_IFDIR);
    uint32_t number;
    int64_t error = ext2_number_alloc(fs, (uint32_t)directory->number, is_directory, &number);

    if (error != 0) {
        return error;
    }
    struct inode *inode = node_create(fs, number, mode);
    if (inode == NULL) {
        ext2_number_free(fs, number, is_directory);
        return -ENOMEM;
    }
    inode->rdev = rdev;
    atomic_store(&inode->dirty, true);
    struct inode *entered = table_enter(fs, inode);
    if (entered != inode) {
        inode_put(entered);
        ext2_damaged(fs, "an inode in use is called free", number);
        return -EUCLEAN;
    }
    error = table_clear(fs, number);
    if (error == 0) {
        error = contents_begin(ext2_of(inode), (uint32_t)directory->number, target);
    }
    if (error == 0) {
        error = ext2_inode_store(inode);
    }
    if (error != 0) {
        inode->links = 0;
        inode_put(inode);
        return error;
    }
    *out = inode;
    return 0;
}

/* ---- ending ------------------------------------------------------------------------------------- */

/* Does it have blocks that pointers name? */
static bool
has_blocks(const struct inode *inode)
{
    return S_ISTYPE(inode->mode, S_IFREG) || S_ISTYPE(inode->mode, S_IFDIR) ||
           (S_ISTYPE(inode->mode, S_IFLNK) && !link_is_inline(ext2_of(inode)));
}

static void
inode_remove(struct inode *inode)
{
    struct ext2_inode *node = ext2_of(inode);
    bool is_directory = S_ISTYPE(inode->mode, S_IFDIR);

    if (superblock_is_read_only(inode->superblock)) {
        return;
    }
    if (has_blocks(inode)) {
        atomic_store(&inode->size, 0);
        ext2_map_cut(node, 0);
    }
    atomic_store(&inode->dirty, true);
    if (ext2_inode_store(inode) == 0) {
        ext2_number_free(node->fs, (uint32_t)inode->number, is_directory);
    }
}

static void
ext2_evict(struct inode *inode)
{
    struct ext2_inode *node = ext2_of(inode);
    struct ext2 *fs = node->fs;
    struct qr_object *object = S_ISTYPE(inode->mode, S_IFREG) ? inode->object : NULL;

    if (!qr_list_is_empty(&node->bucket)) {
        if (object != NULL && inode->links > 0 && qr_object_sync(object, 0, SIZE_MAX) != QR_OK) {
            printk("ext2: %s: what was written to inode %lu is lost\n", fs->disk->name,
                   (unsigned long)inode->number);
        }
        if (object != NULL && inode->links == 0) {
            qr_object_set_bytes(object, 0);
        }
        if (inode->links == 0) {
            inode_remove(inode);
        } else if (ext2_inode_store(inode) != 0) {
            ext2_damaged(fs, "an inode could not be stored", (uint32_t)inode->number);
        }
    }
    if (object != NULL) {
        qr_object_put(object);
    }
    if (S_ISTYPE(inode->mode, S_IFLNK)) {
        kmem_charged_free(inode->target);
    }
    qr_spin_lock(&fs->table_lock);
    qr_list_remove(&node->bucket);
    qr_spin_unlock(&fs->table_lock);
    kmem_charged_free(node);
}

static int64_t
ext2_read_link(struct inode *inode, char *buffer, size_t size)
{
    size_t length = strlen(inode->target);

    length = length < size ? length : size;
    memcpy(buffer, inode->target, length);
    return (int64_t)length;
}

static int64_t
ext2_open(struct inode *inode, struct file *file)
{
    return S_ISTYPE(inode->mode, S_IFREG) ? ext2_file_open(inode, file) : -ENXIO;
}

static uint64_t
ext2_blocks(struct inode *inode)
{
    return ext2_of(inode)->sectors;
}

static const struct inode_ops ext2_inode_ops = {
    .read_link = ext2_read_link,
    .open = ext2_open,
    .truncate = ext2_truncate,
    .evict = ext2_evict,
    .blocks = ext2_blocks,
};
