/* SPDX-License-Identifier: MIT */
/*
 * Merging of equal pages, as Linux lets it be steered (Documentation/admin-guide/mm/ksm.rst): the
 * nodes below /sys/kernel/mm/ksm, and ksmd, the thread that looks for such pages.
 *
 * The library knows what to do (docs/merge.md); here are its numbers, with Linux's defaults.  ksmd
 * starts when `run` first becomes 1; it looks at pages_to_scan pages, then sleeps for sleep_millisecs, and
 * for good while `run` is not 1 or nobody has mergeable memory.
 *
 * Locks: M keeps ksmd, changes of settings and undoing apart; it is held while the latter reclaims.
 */
#include <quire/merge.h>

#include <abi_errno.h>
#include <kstring.h>
#include <memory.h>
#include <mm.h>
#include <printk.h>
#include <proc.h>

#include "merge.h"
#include "nap.h"

#ifdef CONFIG_MERGE

enum { RUN_STOP, RUN_MERGE, RUN_UNMERGE };

static struct qr_merge *merge; /* fixed after start-up */
static struct qr_mutex lock;   /* M */
static bool started;           /* M: ksmd was */
static _Atomic uint32_t run;   /* M to write */
static struct nap nap;         /* ksmd's */
static _Atomic uint32_t pages_to_scan = 100, sleep_ms = 20;
static _Atomic uint32_t prune_ms = 2000; /* of no effect: what is not mapped is not kept */

static void
ksmd_wake(void)
{
    nap_end(&nap);
}

/* Scan once. @return whether there may be more to do */
static bool
ksmd_scan(void)
{
    qr_mutex_lock(&lock);
    bool wanted = atomic_load(&run) == RUN_MERGE && qr_merge_wanted(merge);

    if (wanted)
        (void)qr_merge_scan(merge, atomic_load(&pages_to_scan));
    qr_mutex_unlock(&lock);
    return wanted;
}

static void
ksmd_main(void *argument)
{
    (void)argument;
    for (;;) {
        uint32_t seen = nap_seen(&nap);
        bool wanted = ksmd_scan();
        uint64_t ms = atomic_load(&sleep_ms);

        /* Where no time is to pass between scans, others still run. */
        nap_begin(&nap, seen, !wanted ? 0 : ms != 0 ? ms : 1);
    }
}

void
merge_advised(void)
{
    if (atomic_load(&run) == RUN_MERGE)
        ksmd_wake();
}

/* ---- nodes ---------------------------------------------------------------------------------- */

/* Become what the node says. M. */
static int64_t
run_change(uint32_t value)
{
    if (value == RUN_MERGE && !started) {
        if (kernel_thread_start("ksmd", ksmd_main, NULL) == NULL)
            return -ENOMEM;
        started = true;
    }
    atomic_store(&run, value);
    if (value != RUN_UNMERGE || qr_merge_undo(merge) == QR_OK)
        return 0;
    atomic_store(&run, RUN_STOP);
    return -ENOMEM;
}

static void
show_run(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%u\n", (unsigned)atomic_load(&run));
}

static int64_t
store_run(const struct text_target *target, const char *text, size_t length)
{
    uint64_t value;
    int64_t error = text_number(text, length, RUN_UNMERGE, &value);

    (void)target;
    if (error != 0)
        return error;
    qr_mutex_lock(&lock);
    if (atomic_load(&run) != value)
        error = run_change((uint32_t)value);
    qr_mutex_unlock(&lock);
    ksmd_wake();
    return error;
}

NUMBER_NODE(pages_to_scan, pages_to_scan, UINT32_MAX, ksmd_wake)
NUMBER_NODE(sleep, sleep_ms, UINT32_MAX, ksmd_wake)
NUMBER_NODE(prune, prune_ms, UINT32_MAX, ksmd_wake)

static int64_t
configure(const struct qr_merge_settings *settings)
{
    enum qr_status status = qr_merge_configure(merge, settings);

    return status == QR_OK ? 0 : status == QR_ERR_BUSY ? -EBUSY : -EINVAL;
}

#define SETTING_NODE(name, field, parse)                                                           \
    static void show_##name(const struct text_target *target, struct qr_writer *writer)            \
    {                                                                                              \
        (void)target;                                                                              \
        qr_writer_printf(writer, "%u\n", (unsigned)qr_merge_settings(merge).field);                \
    }                                                                                              \
    static int64_t store_##name(const struct text_target *target, const char *text, size_t length) \
    {                                                                                              \
        uint64_t value;                                                                            \
        int64_t error = parse(text, length, &value);                                               \
                                                                                                   \
        (void)target;                                                                              \
        if (error != 0)                                                                            \
            return error;                                                                          \
        qr_mutex_lock(&lock);                                                                      \
        struct qr_merge_settings settings = qr_merge_settings(merge);                              \
                                                                                                   \
        settings.field = (__typeof__(settings.field))value;                                        \
        error = configure(&settings);                                                              \
        qr_mutex_unlock(&lock);                                                                    \
        return error;                                                                              \
    }

static int64_t
parse_bit(const char *text, size_t length, uint64_t *out)
{
    return text_number(text, length, 1, out);
}

static int64_t
parse_count(const char *text, size_t length, uint64_t *out)
{
    return text_number(text, length, INT32_MAX, out);
}

/* Linux's kstrtobool: what the first letters say. */
static int64_t
parse_bool(const char *text, size_t length, uint64_t *out)
{
    bool on = length > 1 && (text[0] | 32) == 'o' && (text[1] | 32) == 'n';
    bool off = length > 1 && (text[0] | 32) == 'o' && (text[1] | 32) == 'f';

    if (length > 0 && text[0] != '\0' && strchr("yYtT1", text[0]) != NULL)
        on = true;
    if (length > 0 && text[0] != '\0' && strchr("nNfF0", text[0]) != NULL)
        off = true;
    *out = on;
    return on || off ? 0 : -EINVAL;
}

SETTING_NODE(across_nodes, across_nodes, parse_bit)
SETTING_NODE(use_zero_pages, use_zero_pages, parse_bool)
SETTING_NODE(max_sharing, max_sharing, parse_count)

#define FIGURE_NODE(name, field)                                                        \
    static void show_##name(const struct text_target *target, struct qr_writer *writer) \
    {                                                                                   \
        struct qr_merge_stats stats;                                                    \
                                                                                        \
        (void)target;                                                                   \
        qr_merge_stats(merge, &stats);                                                  \
        qr_writer_printf(writer, "%zu\n", stats.field);                                 \
    }

FIGURE_NODE(shared, shared)
FIGURE_NODE(sharing, sharing)
FIGURE_NODE(unshared, unshared)
FIGURE_NODE(changing, changing)
FIGURE_NODE(full_scans, full_scans)
FIGURE_NODE(copies, copies)
FIGURE_NODE(chains, chains)

static const struct text_node nodes[] = {
    {.name = "sleep_millisecs", .mode = 0644, .show = show_sleep, .store = store_sleep},
    {.name = "pages_to_scan",
     .mode = 0644,
     .show = show_pages_to_scan,
     .store = store_pages_to_scan},
    {.name = "run", .mode = 0644, .show = show_run, .store = store_run},
    {.name = "pages_shared", .mode = 0444, .show = show_shared},
    {.name = "pages_sharing", .mode = 0444, .show = show_sharing},
    {.name = "pages_unshared", .mode = 0444, .show = show_unshared},
    {.name = "pages_volatile", .mode = 0444, .show = show_changing},
    {.name = "full_scans", .mode = 0444, .show = show_full_scans},
#ifdef CONFIG_NUMA
    {.name = "merge_across_nodes",
     .mode = 0644,
     .show = show_across_nodes,
     .store = store_across_nodes},
#endif
    {.name = "max_page_sharing",
     .mode = 0644,
     .show = show_max_sharing,
     .store = store_max_sharing},
    {.name = "stable_node_chains", .mode = 0444, .show = show_chains},
    {.name = "stable_node_dups", .mode = 0444, .show = show_copies},
    {.name = "stable_node_chains_prune_millisecs",
     .mode = 0644,
     .show = show_prune,
     .store = store_prune},
    {.name = "use_zero_pages",
     .mode = 0644,
     .show = show_use_zero_pages,
     .store = store_use_zero_pages},
};

bool
merge_nodes_add(struct dentry *root)
{
    static const char *const path[] = {"kernel", "mm", "ksm"};
    struct dentry *ksm = text_path_add(root, path, 3);

    return ksm != NULL && text_nodes_add(ksm, nodes, QR_ARRAY_COUNT(nodes));
}

void
merge_start(void)
{
    nap_init(&nap);
    if (qr_merge_create(memory.vm, &merge) != QR_OK)
        panic("memory: no room to merge pages");
}

/* ---- processes -------------------------------------------------------------------------------- */

void
proc_show_ksm_merging_pages(const struct text_target *target, struct qr_writer *writer)
{
    struct mm *mm = mm_of_process(target->process);

    if (mm == NULL)
        return;
    qr_writer_printf(writer, "%zu\n", qr_space_merged_pages(mm->space));
    mm_put(mm);
}

void
proc_show_ksm_stat(const struct text_target *target, struct qr_writer *writer)
{
    struct mm *mm = mm_of_process(target->process);

    if (mm == NULL)
        return;
    size_t pages = qr_space_merged_pages(mm->space);

    qr_mutex_lock(&lock);
    pages += qr_merge_seen_pages(merge, mm->space);
    qr_mutex_unlock(&lock);
    qr_writer_printf(writer, "ksm_rmap_items %zu\n", pages);
    mm_put(mm);
}

#else

bool
merge_nodes_add(struct dentry *root)
{
    (void)root;
    return true; /* as a Linux that is built without it */
}

void
merge_start(void)
{
}

void
merge_advised(void)
{
}

#endif
