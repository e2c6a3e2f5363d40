/* SPDX-License-Identifier: MIT */
/*
 * Transparent huge pages, as Linux lets them be steered: the nodes below
 * /sys/kernel/mm/transparent_hugepage, and khugepaged, the thread that collapses blocks of small
 * pages in the background.
 *
 * The library knows what to do (docs/space.md); here are its numbers, with Linux's defaults.
 * khugepaged looks at pages_to_scan pages, then sleeps; longer where there were no frames.
 * It sleeps for good while the policy is `never`.
 *
 * Shared memory has a policy of its own, shmem_enabled: of shared anonymous memory, memfd and System V
 * segments; files of a tmpfs have their mount's (`huge=`), which `deny` and `force` overrule.  No
 * huge page reaches past the end of its file, so `always` and `within_size` are one.
 */

#include <quire/reclaim.h>

#include <arch.h>
#include <abi_errno.h>
#include <kstring.h>
#include <memory.h>
#include <printk.h>
#include <sched.h>

#include "huge.h"
#include "nap.h"
#include "fs/text.h"

#define MODEST_BYTES ((size_t)64 << 20)

/* Words and numbers of the nodes. */
static atomic_uint_least32_t scan_sleep_ms = 10000, alloc_sleep_ms = 60000;
static atomic_uint_least32_t pages_to_scan, max_none, max_shared, max_swap;
static atomic_uint_least32_t scan_defrag = 1;
static atomic_uint_least32_t collapsed, full_scans; /* written by khugepaged alone */
static struct nap nap;                              /* khugepaged's */

static void
khugepaged_wake(void)
{
    nap_end(&nap);
}

/* ---- words ---------------------------------------------------------------------------------- */

/* One of several words, as "always [madvise] never". */
static void
words_show(struct qr_writer *writer, const char *const *words, size_t count, size_t chosen)
{
    for (size_t i = 0; i < count; i++)
        qr_writer_printf(writer, i == chosen ? "%s[%s]" : "%s%s", i == 0 ? "" : " ", words[i]);
    qr_writer_printf(writer, "\n");
}

/* Which of them @text is, white space behind it left out; @count where none. */
static size_t
words_find(const char *text, size_t length, const char *const *words, size_t count)
{
    size_t which = 0;

    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
        length--;
    while (which < count &&
           (strlen(words[which]) != length || memcmp(words[which], text, length) != 0))
        which++;
    return which;
}

static const char *const mode_words[] = {"always", "madvise", "never"};
static const enum qr_huge_mode modes[] = {QR_HUGE_ALWAYS, QR_HUGE_ADVISED, QR_HUGE_NEVER};

static void
show_enabled(const struct text_target *target, struct qr_writer *writer)
{
    struct qr_huge_policy policy = qr_vm_huge_policy(memory.vm);
    size_t which = 0;

    (void)target;
    while (which + 1 < QR_ARRAY_COUNT(modes) && modes[which] != policy.mode)
        which++;
    words_show(writer, mode_words, QR_ARRAY_COUNT(mode_words), which);
}

static int64_t
store_enabled(const struct text_target *target, const char *text, size_t length)
{
    struct qr_huge_policy policy = qr_vm_huge_policy(memory.vm);
    size_t which = words_find(text, length, mode_words, QR_ARRAY_COUNT(mode_words));

    (void)target;
    if (which == QR_ARRAY_COUNT(mode_words))
        return -EINVAL;
    policy.mode = modes[which];
    qr_vm_set_huge_policy(memory.vm, &policy);
    khugepaged_wake();
    return 0;
}

static const char *const defrag_words[] = {"always", "defer", "defer+madvise", "madvise", "never"};
static const enum qr_huge_defrag defrags[] = {
    QR_DEFRAG_ALWAYS, QR_DEFRAG_DEFER, QR_DEFRAG_DEFER_ADVISED, QR_DEFRAG_ADVISED, QR_DEFRAG_NEVER};

static void
show_defrag(const struct text_target *target, struct qr_writer *writer)
{
    struct qr_huge_policy policy = qr_vm_huge_policy(memory.vm);
    size_t which = 0;

    (void)target;
    while (which + 1 < QR_ARRAY_COUNT(defrags) && defrags[which] != policy.defrag)
        which++;
    words_show(writer, defrag_words, QR_ARRAY_COUNT(defrag_words), which);
}

static int64_t
store_defrag(const struct text_target *target, const char *text, size_t length)
{
    struct qr_huge_policy policy = qr_vm_huge_policy(memory.vm);
    size_t which = words_find(text, length, defrag_words, QR_ARRAY_COUNT(defrag_words));

    (void)target;
    if (which == QR_ARRAY_COUNT(defrag_words))
        return -EINVAL;
    policy.defrag = defrags[which];
    qr_vm_set_huge_policy(memory.vm, &policy);
    return 0;
}

static const char *const shmem_words[] = {"always", "within_size", "advise",
                                          "never",  "deny",        "force"};
static const enum qr_shared_huge shmem_modes[] = {QR_SHARED_HUGE_ALWAYS,  QR_SHARED_HUGE_ALWAYS,
                                                  QR_SHARED_HUGE_ADVISED, QR_SHARED_HUGE_NEVER,
                                                  QR_SHARED_HUGE_DENY,    QR_SHARED_HUGE_FORCE};
static atomic_uint_least32_t shmem_word = 3; /* as it was written last */

static void
show_shmem(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    words_show(writer, shmem_words, QR_ARRAY_COUNT(shmem_words), atomic_load(&shmem_word));
}

static int64_t
store_shmem(const struct text_target *target, const char *text, size_t length)
{
    size_t which = words_find(text, length, shmem_words, QR_ARRAY_COUNT(shmem_words));

    (void)target;
    if (which == QR_ARRAY_COUNT(shmem_words))
        return -EINVAL;
    atomic_store(&shmem_word, (uint32_t)which);
    qr_objects_set_huge(memory.objects, shmem_modes[which]);
    khugepaged_wake();
    return 0;
}

bool
huge_parse_mount(const char *word, size_t length, enum qr_shared_huge *out_mode)
{
    const size_t count = 4; /* of a mount: neither deny nor force */
    size_t which = words_find(word, length, shmem_words, count);

    if (which < count)
        *out_mode = shmem_modes[which];
    return which < count;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void
show_zero_page(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%d\n", qr_vm_huge_policy(memory.vm).zero_page);
}

static int64_t
store_zero_page(const struct text_target *target, const char *text, size_t length)
{
    struct qr_huge_policy policy = qr_vm_huge_policy(memory.vm);
    uint64_t value;
    int64_t error = text_number(text, length, 1, &value);

    (void)target;
    if (error != 0)
        return error;
    policy.zero_page = value != 0;
    qr_vm_set_huge_policy(memory.vm, &policy);
    return 0;
}

static void
show_size(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%zu\n", qr_vm_huge_bytes(memory.vm));
}

static uint64_t
most_pages(void)
{
    return qr_vm_huge_bytes(memory.vm) / QR_PAGE_SIZE - 1;
}

NUMBER_NODE(scan_sleep, scan_sleep_ms, UINT32_MAX, khugepaged_wake)
NUMBER_NODE(alloc_sleep, alloc_sleep_ms, UINT32_MAX, khugepaged_wake)
NUMBER_NODE(to_scan, pages_to_scan, UINT32_MAX, khugepaged_wake)
NUMBER_NODE(max_none, max_none, most_pages(), khugepaged_wake)
NUMBER_NODE(max_shared, max_shared, most_pages(), khugepaged_wake)
NUMBER_NODE(max_swap, max_swap, most_pages(), khugepaged_wake)
NUMBER_NODE(scan_defrag, scan_defrag, 1, khugepaged_wake)

static void
show_collapsed(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%u\n", (unsigned)atomic_load(&collapsed));
}

static void
show_full_scans(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%u\n", (unsigned)atomic_load(&full_scans));
}

static const struct text_node huge_nodes[] = {
    {.name = "enabled", .mode = 0644, .show = show_enabled, .store = store_enabled},
    {.name = "defrag", .mode = 0644, .show = show_defrag, .store = store_defrag},
    {.name = "use_zero_page", .mode = 0644, .show = show_zero_page, .store = store_zero_page},
    {.name = "hpage_pmd_size", .mode = 0444, .show = show_size},
    {.name = "shmem_enabled", .mode = 0644, .show = show_shmem, .store = store_shmem},
};

static const struct text_node khugepaged_nodes[] = {
    {.name = "scan_sleep_millisecs",
     .mode = 0644,
     .show = show_scan_sleep,
     .store = store_scan_sleep},
    {.name = "alloc_sleep_millisecs",
     .mode = 0644,
     .show = show_alloc_sleep,
     .store = store_alloc_sleep},
    {.name = "pages_to_scan", .mode = 0644, .show = show_to_scan, .store = store_to_scan},
    {.name = "max_ptes_none", .mode = 0644, .show = show_max_none, .store = store_max_none},
    {.name = "max_ptes_shared", .mode = 0644, .show = show_max_shared, .store = store_max_shared},
    {.name = "max_ptes_swap", .mode = 0644, .show = show_max_swap, .store = store_max_swap},
    {.name = "defrag", .mode = 0644, .show = show_scan_defrag, .store = store_scan_defrag},
    {.name = "pages_collapsed", .mode = 0444, .show = show_collapsed},
    {.name = "full_scans", .mode = 0444, .show = show_full_scans},
};

bool
huge_nodes_add(struct dentry *root)
{
    static const char *const path[] = {"kernel", "mm", "transparent_hugepage", "khugepaged"};

    if (qr_vm_huge_bytes(memory.vm) == 0)
        return true; /* as a Linux that is built without them */
    struct dentry *huge = text_path_add(root, path, 3);
    struct dentry *thread = text_path_add(root, path, 4);

    return huge != NULL && thread != NULL &&
           text_nodes_add(huge, huge_nodes, QR_ARRAY_COUNT(huge_nodes)) &&
           text_nodes_add(thread, khugepaged_nodes, QR_ARRAY_COUNT(khugepaged_nodes));
}

/* ---- khugepaged ------------------------------------------------------------------------------ */

static long
failures(void)
{
    return qr_counter_read(qr_frames_counters(memory.frames), QR_EVENT_THP_NO_COLLAPSE);
}

static void
khugepaged_main(void *argument)
{
    struct qr_collapse_scan scan = {.limits = {.reason = QR_HUGE_POLICY}};

    (void)argument;
    for (;;) {
        uint32_t seen = nap_seen(&nap);
        long before = failures();
        bool never = qr_vm_huge_policy(memory.vm).mode == QR_HUGE_NEVER;

        scan.limits.max_none = atomic_load(&max_none);
        scan.limits.max_shared = atomic_load(&max_shared);
        scan.limits.max_swapped = atomic_load(&max_swap);
        scan.limits.effort = atomic_load(&scan_defrag) != 0 ? QR_HUGE_COMPACT : QR_HUGE_OPPORTUNE;
        if (!never)
            qr_collapse_scan(memory.vm, &scan, atomic_load(&pages_to_scan));
        atomic_store(&collapsed, (uint32_t)scan.collapsed);
        atomic_store(&full_scans, (uint32_t)scan.full_scans);
        /* Where no time is to pass between scans, others still run. */
        uint64_t ms = atomic_load(failures() != before ? &alloc_sleep_ms : &scan_sleep_ms);

        nap_begin(&nap, seen, never ? 0 : ms != 0 ? ms : 1);
    }
}

void
huge_start(void)
{
    /* Half a gibibyte is not for everybody who touches a byte of it. */
    bool modest = qr_vm_huge_bytes(memory.vm) <= MODEST_BYTES;
    const struct qr_huge_policy policy = {modest ? QR_HUGE_ALWAYS : QR_HUGE_ADVISED,
                                          QR_DEFRAG_ADVISED, true};
    uint32_t pages = (uint32_t)(qr_vm_huge_bytes(memory.vm) / QR_PAGE_SIZE);

    if (pages == 0)
        return;
    atomic_store(&pages_to_scan, 8 * pages);
    atomic_store(&max_none, pages - 1);
    atomic_store(&max_shared, pages / 2);
    atomic_store(&max_swap, pages / 8);
    nap_init(&nap);
    if (kernel_thread_start("khugepaged", khugepaged_main, NULL) == NULL)
        panic("memory: no room for khugepaged");
    qr_vm_set_huge_policy(memory.vm, &policy);
}
