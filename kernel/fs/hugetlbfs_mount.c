/* SPDX-License-Identifier: MIT */
/*
 * hugetlbfs: a file system whose files have huge pages.
 *
 *      mount -t hugetlbfs -o pagesize=2M,size=64M,min_size=8M,nr_inodes=10,mode=770,uid=1,gid=2 none DIR
 *
 * Directories and links are tmpfs's; a regular file is one of hugetlbfs.c, of the mount's page
 * size.  The mount's part of the pool is a budget of the library: what its files have or were
 * promised is bounded by size=, and min_size= of it is set aside.  Both may be per cent of the pool.
 */
#include "hugetlb.h"

#include <quire/hugetlb.h>

#include "fs.h"
#include "memory.h"
#include "proc.h"
#include "text.h"
#include "tmpfs.h"

struct hugetlbfs_mount {
    struct qr_hugetlb_pool *pool;
    struct qr_hugetlb_budget *budget; /* NULL: the whole pool */
    uint64_t limit;                   /* pages; UINT64_MAX: none */
    uint64_t minimum;                 /* pages */
    uint64_t inode_limit;             /* UINT64_MAX: none */
};

/* ---- Options ----------------------------------------------------------------------- */

struct hugetlbfs_options {
    uint64_t page_bytes;
    uint64_t size, minimum; /* bytes, or per cent */
    bool size_percent, minimum_percent;
    uint64_t inode_limit;
    uint32_t mode, uid, gid;
};

/* "64", "2M", "1g", "50%" up to a comma or the end. @return whether it is one */
static bool
number_parse(const char *text, uint64_t *out, bool *out_percent)
{
    uint64_t value;
    size_t used = decimal_parse(text, strlen(text), &value);
    const char *units = "kKmMgG";
    const char *unit = used == 0 || text[used] == '\0' ? NULL : strchr(units, text[used]);

    *out_percent = used > 0 && text[used] == '%';
    if (unit != NULL) {
        unsigned shift = 10 * ((unsigned)(unit - units) / 2 + 1);

        if (value >> (63 - shift) != 0) {
            return false;
        }
        value <<= shift;
    }
    used += unit != NULL || *out_percent;
    *out = value;
    return used > 0 && (text[used] == '\0' || text[used] == ',');
}

/* A plain number in base 8 or 10, at most @limit. */
static bool
plain_parse(const char *text, unsigned base, uint32_t limit, uint32_t *out)
{
    uint64_t value = 0;
    size_t used = 0;

    for (; text[used] >= '0' && text[used] < (char)('0' + base) && value <= limit; used++) {
        value = value * base + (uint64_t)(text[used] - '0');
    }
    *out = (uint32_t)value;
    return used > 0 && value <= limit && (text[used] == '\0' || text[used] == ',');
}

/* The value behind @name= at @text, or NULL. */
static const char *
option_value(const char *text, const char *name)
{
    size_t length = strlen(name);

    return strncmp(text, name, length) == 0 && text[length] == '=' ? text + length + 1 : NULL;
}

static bool
option_parse(const char *at, struct hugetlbfs_options *options)
{
    bool percent = false;
    const char *value;

    if ((value = option_value(at, "pagesize")) != NULL) {
        return number_parse(value, &options->page_bytes, &percent) && !percent;
    } else if ((value = option_value(at, "size")) != NULL) {
        return number_parse(value, &options->size, &options->size_percent);
    } else if ((value = option_value(at, "min_size")) != NULL) {
        return number_parse(value, &options->minimum, &options->minimum_percent);
    } else if ((value = option_value(at, "nr_inodes")) != NULL) {
        return number_parse(value, &options->inode_limit, &percent) && !percent;
    } else if ((value = option_value(at, "mode")) != NULL) {
        return plain_parse(value, 8, 07777, &options->mode);
    } else if ((value = option_value(at, "uid")) != NULL) {
        return plain_parse(value, 10, INT32_MAX, &options->uid);
    } else if ((value = option_value(at, "gid")) != NULL) {
        return plain_parse(value, 10, INT32_MAX, &options->gid);
    }
    return false;
}

static bool
options_parse(const char *text, struct hugetlbfs_options *options)
{
    *options = (struct hugetlbfs_options){
        .size = UINT64_MAX,
        .inode_limit = UINT64_MAX,
        .mode = 0755,
        .uid = process_fsuid_or_boot(),
        .gid = process_fsgid_or_boot(),
    };
    for (const char *at = text; at != NULL && *at != '\0';) {
        if (*at != ',' && !option_parse(at, options)) {
            return false;
        }
        at = strchr(at, ',');
        at = at == NULL ? NULL : at + 1;
    }
    return true;
}

/* ---- Mounting ------------------------------------------------------------------------- */

static uint64_t
pages_of(const struct qr_hugetlb_pool *pool, uint64_t value, bool percent)
{
    struct qr_hugetlb_stats stats;

    if (value == UINT64_MAX) {
        return value;
    }
    if (!percent) {
        return value >> qr_hugetlb_pool_shift(pool);
    }
    qr_hugetlb_pool_stats((struct qr_hugetlb_pool *)pool, -1, &stats);
    return (stats.total - stats.surplus) * value / 100;
}

/* What @options ask for. @return 0, -EINVAL, -ENOMEM */
static int64_t
mount_fill(struct hugetlbfs_mount *mount, const struct hugetlbfs_options *options)
{
    uint64_t bytes = options->page_bytes;

    if (options->page_bytes != 0 && (bytes & (bytes - 1)) != 0) {
        return -EINVAL;
    }
    mount->pool =
        qr_hugetlb_find(memory.hugetlb, bytes == 0 ? 0 : (unsigned)__builtin_ctzll(bytes));
    if (mount->pool == NULL || bytes == 1) {
        return -EINVAL;
    }
    mount->limit = pages_of(mount->pool, options->size, options->size_percent);
    mount->minimum = pages_of(mount->pool, options->minimum, options->minimum_percent);
    mount->inode_limit = options->inode_limit;
    if (mount->minimum > mount->limit || mount->minimum > SIZE_MAX) {
        return -EINVAL;
    }
    if (mount->limit == UINT64_MAX && mount->minimum == 0) {
        return 0;
    }
    size_t limit = mount->limit > SIZE_MAX ? SIZE_MAX : (size_t)mount->limit;
    return qr_hugetlb_budget_create(memory.heap, mount->pool, limit, (size_t)mount->minimum,
                                    &mount->budget) == QR_OK
               ? 0
               : -ENOMEM;
}

static int64_t
hugetlbfs_mount(const struct superblock_type *type, const char *text, struct superblock **out)
{
    struct hugetlbfs_options options;

    if (!options_parse(text, &options)) {
        return -EINVAL;
    }
    struct hugetlbfs_mount *mount = kmem_zalloc(sizeof *mount);
    if (mount == NULL) {
        return -ENOMEM;
    }
    int64_t error = mount_fill(mount, &options);
    if (error == 0) {
        error = tmpfs_create(type, NULL, out);
    }
    if (error != 0) {
        hugetlbfs_mount_free(mount);
        return error;
    }
    struct inode *root = (*out)->root->inode;
    root->mode = S_IFDIR | options.mode;
    root->uid = options.uid;
    root->gid = options.gid;
    (*out)->huge = mount;
    return 0;
}

void
hugetlbfs_mount_free(struct hugetlbfs_mount *mount)
{
    if (mount != NULL) {
        qr_hugetlb_budget_put(mount->budget);
        kmem_free(mount);
    }
}

const struct superblock_type hugetlbfs_type = {.name = "hugetlbfs",
                                               .magic = HUGETLBFS_MAGIC,
                                               .writable_tree = true,
                                               .create = hugetlbfs_mount};

/* ---- Use ---------------------------------------------------------------------------------- */

bool
hugetlbfs_has_room(const struct superblock *superblock)
{
    const struct hugetlbfs_mount *mount = superblock->huge;
    /* The superblock itself counts as one of its inodes. */
    long inodes = atomic_load(&superblock->inodes) - 1;

    return mount == NULL || inodes < 0 || (uint64_t)inodes < mount->inode_limit;
}

struct inode *
hugetlbfs_file_inode(struct superblock *superblock, uint32_t mode)
{
    const struct hugetlbfs_mount *mount = superblock->huge;
    struct inode *inode = hugetlb_inode_create(superblock, mount->pool, mode, 0);

    if (inode != NULL && mount->budget != NULL) {
        qr_object_hugetlb_set_budget(inode->object, mount->budget);
    }
    return inode;
}

void
hugetlbfs_usage(const struct superblock *superblock, struct hugetlbfs_usage *out)
{
    const struct hugetlbfs_mount *mount = superblock->huge;
    uint64_t used = mount->budget == NULL ? 0 : qr_hugetlb_budget_used(mount->budget);
    uint64_t inodes = (uint64_t)atomic_load(&superblock->inodes) - 1;

    *out = (struct hugetlbfs_usage){
        .page_bytes = qr_hugetlb_pool_bytes(mount->pool),
        .inodes = mount->inode_limit == UINT64_MAX ? 0 : mount->inode_limit,
    };
    if (mount->limit != UINT64_MAX) {
        out->pages = mount->limit;
        out->free_pages = mount->limit - used;
    }
    if (out->inodes != 0) {
        out->free_inodes = inodes < out->inodes ? out->inodes - inodes : 0;
    }
}

/* "2M", "64K", "1024M" as Linux writes sizes here. */
static void
write_size(struct qr_writer *writer, const char *name, uint64_t bytes)
{
    if (bytes >= 1 << 20) {
        qr_writer_printf(writer, ",%s=%lluM", name, (unsigned long long)(bytes >> 20));
    } else {
        qr_writer_printf(writer, ",%s=%lluK", name, (unsigned long long)(bytes >> 10));
    }
}

void
hugetlbfs_options_write(const struct superblock *superblock, struct qr_writer *writer)
{
    const struct hugetlbfs_mount *mount = superblock->huge;
    const struct inode *root = superblock->root->inode;
    unsigned shift = qr_hugetlb_pool_shift(mount->pool);

    if (root->uid != 0) {
        qr_writer_printf(writer, ",uid=%u", root->uid);
    }
    if (root->gid != 0) {
        qr_writer_printf(writer, ",gid=%u", root->gid);
    }
    if ((root->mode & 07777u) != 0755) {
        char digits[8];

        snprintf(digits, sizeof digits, "%04o", root->mode & 07777u);
        qr_writer_printf(writer, ",mode=%s", digits + (digits[0] == '0'));
    }
    if (mount->inode_limit != UINT64_MAX) {
        qr_writer_printf(writer, ",nr_inodes=%llu", (unsigned long long)mount->inode_limit);
    }
    write_size(writer, "pagesize", (uint64_t)1 << shift);
    if (mount->limit != UINT64_MAX) {
        write_size(writer, "size", mount->limit << shift);
    }
    if (mount->minimum != 0) {
        write_size(writer, "min_size", mount->minimum << shift);
    }
}
