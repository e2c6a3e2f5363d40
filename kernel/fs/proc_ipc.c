/* SPDX-License-Identifier: MIT */
/*
 * System V shared memory in /proc: /proc/sysvipc/shm and the limits in /proc/sys/kernel.
 */

#include "proc_ipc.h"

#include "proc_vm.h"
#include "shm.h"
#include "text.h"

static void
show_sysvipc_shm(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    shm_write_table(writer);
}

static int64_t
store_limit(enum shm_limit which, const char *text, size_t length)
{
    uint64_t value = 0;
    size_t used = 0;

    for (; used < length && text[used] >= '0' && text[used] <= '9'; used++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[used] - '0'), &value)) {
            return -EINVAL;
        }
    }
    bool number = used > 0;
    while (used < length && text[used] == '\n') {
        used++;
    }
    return !number || used < length ? -EINVAL : shm_set_limit(which, value);
}

#define LIMIT_NODE(name, which)                                                                    \
    static void show_##name(const struct text_target *target, struct qr_writer *writer)            \
    {                                                                                              \
        (void)target;                                                                              \
        qr_writer_printf(writer, "%llu\n", (unsigned long long)shm_limit(which));                  \
    }                                                                                              \
    static int64_t store_##name(const struct text_target *target, const char *text, size_t length) \
    {                                                                                              \
        (void)target;                                                                              \
        return store_limit(which, text, length);                                                   \
    }

LIMIT_NODE(shmmax, SHM_LIMIT_BYTES)
LIMIT_NODE(shmall, SHM_LIMIT_PAGES)
LIMIT_NODE(shmmni, SHM_LIMIT_COUNT)

static const struct text_node sysvipc_nodes[] = {
    {.name = "shm", .mode = 0444, .show = show_sysvipc_shm},
};

static const struct text_node limit_nodes[] = {
    {.name = "shmmax", .mode = 0644, .show = show_shmmax, .store = store_shmmax},
    {.name = "shmall", .mode = 0644, .show = show_shmall, .store = store_shmall},
    {.name = "shmmni", .mode = 0644, .show = show_shmmni, .store = store_shmmni},
};

#define get_forced shm_is_forced
#define set_forced shm_set_forced

static void
show_next_id(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%d\n", shm_next_id());
}

static const struct proc_number numbers[] = {
    PROC_NUMBER("shm_rmid_forced", 0, 1, forced),
    {.node =
         {.name = "shm_next_id", .mode = 0644, .show = show_next_id, .store = proc_number_store},
     .most = INT32_MAX,
     .set = shm_set_next_id},
};

bool
proc_ipc_add(struct dentry *root, struct dentry *kernel)
{
    struct dentry *sysvipc = text_directory_add(root, "sysvipc");

    return sysvipc != NULL &&
           text_nodes_add(sysvipc, sysvipc_nodes, QR_ARRAY_COUNT(sysvipc_nodes)) &&
           text_nodes_add(kernel, limit_nodes, QR_ARRAY_COUNT(limit_nodes)) &&
           proc_numbers_add(kernel, numbers, QR_ARRAY_COUNT(numbers));
}
