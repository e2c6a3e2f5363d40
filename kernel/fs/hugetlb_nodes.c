/* SPDX-License-Identifier: MIT */
/*
 * What /sys and /proc/sys say of the huge page pools, and take:
 *
 *      /sys/kernel/mm/hugepages/hugepages-2048kB/{nr,free,resv,surplus,nr_overcommit}_hugepages
 *      /sys/devices/system/node/node0/hugepages/hugepages-2048kB/{nr,free,surplus}_hugepages
 *      /proc/sys/vm/nr_hugepages, nr_overcommit_hugepages      of the default size
 *      /proc/sys/vm/hugetlb_shm_group
 *
 * An inode's key says which pool, and which node where it is about one.
 */
#include "hugetlb.h"

#include <quire/hugetlb.h>

#include "memory.h"
#include "text.h"

atomic_uint hugetlb_shm_group;

/* ---- Keys ------------------------------------------------------------------------------ */

enum { KEY_NODE_SHIFT = 8 };

static uint64_t
key_of(unsigned pool, int node)
{
    return (uint64_t)(unsigned)(node + 1) << KEY_NODE_SHIFT | pool;
}

static struct qr_hugetlb_pool *
pool_of(const struct text_target *target)
{
    return qr_hugetlb_at(memory.hugetlb, (unsigned)target->inode->key_more & 0xff);
}

static int
node_of(const struct text_target *target)
{
    return (int)(target->inode->key_more >> KEY_NODE_SHIFT) - 1;
}

/* ---- Numbers ------------------------------------------------------------------------------- */

/* A decimal number alone. */
static int64_t
number_parse(const char *text, size_t length, size_t *out)
{
    uint64_t value;
    size_t used = decimal_parse(text, length, &value);

    if (used == 0 || (used < length && text[used] != '\n')) {
        return -EINVAL;
    }
    *out = value > SIZE_MAX ? SIZE_MAX : (size_t)value;
    return 0;
}

static int64_t
pool_store_size(struct qr_hugetlb_pool *pool, int node, const char *text, size_t length)
{
    size_t pages;
    int64_t error = number_parse(text, length, &pages);

    if (error == 0) {
        qr_hugetlb_pool_resize(pool, node, pages);
    }
    return error;
}

static int64_t
pool_store_overcommit(struct qr_hugetlb_pool *pool, const char *text, size_t length)
{
    size_t pages;
    int64_t error = number_parse(text, length, &pages);

    if (error == 0) {
        qr_hugetlb_pool_set_overcommit(pool, pages);
    }
    return error;
}

#define STAT_NODE(stat)                                                                 \
    static void show_##stat(const struct text_target *target, struct qr_writer *writer) \
    {                                                                                   \
        struct qr_hugetlb_stats stats;                                                  \
                                                                                        \
        qr_hugetlb_pool_stats(pool_of(target), node_of(target), &stats);                \
        qr_writer_printf(writer, "%zu\n", stats.stat);                                  \
    }

STAT_NODE(total)
STAT_NODE(free)
STAT_NODE(reserved)
STAT_NODE(surplus)
STAT_NODE(overcommit)

static int64_t
store_size(const struct text_target *target, const char *text, size_t length)
{
    return pool_store_size(pool_of(target), node_of(target), text, length);
}

static int64_t
store_overcommit(const struct text_target *target, const char *text, size_t length)
{
    return pool_store_overcommit(pool_of(target), text, length);
}

static const struct text_node pool_nodes[] = {
    {.name = "nr_hugepages", .mode = 0644, .show = show_total, .store = store_size},
    {.name = "nr_overcommit_hugepages",
     .mode = 0644,
     .show = show_overcommit,
     .store = store_overcommit},
    {.name = "free_hugepages", .mode = 0444, .show = show_free},
    {.name = "resv_hugepages", .mode = 0444, .show = show_reserved},
    {.name = "surplus_hugepages", .mode = 0444, .show = show_surplus},
};

static const struct text_node node_nodes[] = {
    {.name = "nr_hugepages", .mode = 0644, .show = show_total, .store = store_size},
    {.name = "free_hugepages", .mode = 0444, .show = show_free},
    {.name = "surplus_hugepages", .mode = 0444, .show = show_surplus},
};

/* A directory for each pool below @parent. */
static bool
pool_directories_add(struct dentry *parent, int node, const struct text_node *nodes, size_t count)
{
    char name[40];

    for (unsigned i = 0; i < qr_hugetlb_count(memory.hugetlb); i++) {
        size_t bytes = qr_hugetlb_pool_bytes(qr_hugetlb_at(memory.hugetlb, i));

        snprintf(name, sizeof name, "hugepages-%zukB", bytes >> 10);
        struct dentry *directory = text_directory_add(parent, name);

        for (size_t n = 0; n < count; n++) {
            if (directory == NULL ||
                !text_node_add(directory, nodes[n].name, &nodes[n], key_of(i, node))) {
                return false;
            }
        }
    }
    return true;
}

bool
hugetlb_nodes_add(struct dentry *root)
{
    static const char *const path[] = {"kernel", "mm", "hugepages"};
    struct dentry *directory = text_path_add(root, path, QR_ARRAY_COUNT(path));

    return directory != NULL &&
           pool_directories_add(directory, -1, pool_nodes, QR_ARRAY_COUNT(pool_nodes));
}

bool
hugetlb_node_nodes_add(struct dentry *directory, unsigned node)
{
    struct dentry *pools = text_directory_add(directory, "hugepages");

    return pools != NULL &&
           pool_directories_add(pools, (int)node, node_nodes, QR_ARRAY_COUNT(node_nodes));
}

/* ---- /proc/sys/vm: the default pool ---------------------------------------------------------- */

static void
show_nr_hugepages(const struct text_target *target, struct qr_writer *writer)
{
    struct qr_hugetlb_pool *pool = qr_hugetlb_find(memory.hugetlb, 0);
    struct qr_hugetlb_stats stats = {.total = 0};

    (void)target;
    if (pool != NULL) {
        qr_hugetlb_pool_stats(pool, -1, &stats);
    }
    qr_writer_printf(writer, "%zu\n", stats.total);
}

static int64_t
store_nr_hugepages(const struct text_target *target, const char *text, size_t length)
{
    struct qr_hugetlb_pool *pool = qr_hugetlb_find(memory.hugetlb, 0);

    (void)target;
    return pool == NULL ? -EOPNOTSUPP : pool_store_size(pool, -1, text, length);
}

static void
show_nr_overcommit(const struct text_target *target, struct qr_writer *writer)
{
    struct qr_hugetlb_pool *pool = qr_hugetlb_find(memory.hugetlb, 0);
    struct qr_hugetlb_stats stats = {.overcommit = 0};

    (void)target;
    if (pool != NULL) {
        qr_hugetlb_pool_stats(pool, -1, &stats);
    }
    qr_writer_printf(writer, "%zu\n", stats.overcommit);
}

static int64_t
store_nr_overcommit(const struct text_target *target, const char *text, size_t length)
{
    struct qr_hugetlb_pool *pool = qr_hugetlb_find(memory.hugetlb, 0);

    (void)target;
    return pool == NULL ? -EOPNOTSUPP : pool_store_overcommit(pool, text, length);
}

static void
show_shm_group(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%u\n", atomic_load(&hugetlb_shm_group));
}

static int64_t
store_shm_group(const struct text_target *target, const char *text, size_t length)
{
    size_t group;
    int64_t error = number_parse(text, length, &group);

    (void)target;
    if (error == 0 && group > INT32_MAX) {
        error = -EINVAL;
    }
    if (error == 0) {
        atomic_store(&hugetlb_shm_group, (unsigned)group);
    }
    return error;
}

static const struct text_node sysctls[] = {
    {.name = "hugetlb_shm_group", .mode = 0644, .show = show_shm_group, .store = store_shm_group},
    {.name = "nr_hugepages", .mode = 0644, .show = show_nr_hugepages, .store = store_nr_hugepages},
    {.name = "nr_overcommit_hugepages",
     .mode = 0644,
     .show = show_nr_overcommit,
     .store = store_nr_overcommit},
};

bool
hugetlb_sysctls_add(struct dentry *vm)
{
    return text_nodes_add(vm, sysctls, QR_ARRAY_COUNT(sysctls));
}
