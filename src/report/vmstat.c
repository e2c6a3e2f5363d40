/* SPDX-License-Identifier: MIT */
/*
 * /proc/vmstat, and the per-node part of /proc/zoneinfo, which is a stretch of it.
 *
 * The names and their order are those of Linux 6.1 (mm/vmstat.c); what Quire does
 * not count is there with 0.  Our own counters follow with names of their own.
 */
#include "report_internal.h"

/* Values that are no single counter. */
enum stat {
    STAT_NONE = QR_COUNTER_COUNT, /* not counted: 0 */
    STAT_FREE,
    STAT_CACHED, /* file pages and shared ones */
    STAT_ACTIVE, /* anonymous and shared pages */
    STAT_INACTIVE_FILE,
    STAT_TABLES, /* of users */
    STAT_HUGE,   /* in huge pages, as the two below */
    STAT_HUGE_SHMEM,
    STAT_HUGE_MAPPED,
    STAT_STACK_KB,
    STAT_NUMA, /* + enum qr_numa_event: over all nodes */
    STAT_COUNT = STAT_NUMA + QR_NUMA_EVENTS,
};

static const struct stat_line {
    const char *name;
    unsigned stat; /* enum qr_counter or enum stat */
} stat_lines[] = {
    {"nr_free_pages", STAT_FREE},
    {"nr_zone_inactive_anon", STAT_NONE},
    {"nr_zone_active_anon", STAT_NONE},
    {"nr_zone_inactive_file", STAT_NONE},
    {"nr_zone_active_file", STAT_NONE},
    {"nr_zone_unevictable", STAT_NONE},
    {"nr_zone_write_pending", STAT_NONE},
    {"nr_mlock", QR_PAGES_LOCKED},
    {"nr_bounce", STAT_NONE},
    {"nr_zspages", STAT_NONE},
    {"nr_free_cma", STAT_NONE},
    {"numa_hit", STAT_NUMA + QR_NUMA_HIT},
    {"numa_miss", STAT_NUMA + QR_NUMA_MISS},
    {"numa_foreign", STAT_NUMA + QR_NUMA_FOREIGN},
    {"numa_interleave", STAT_NUMA + QR_NUMA_INTERLEAVE},
    {"numa_local", STAT_NUMA + QR_NUMA_LOCAL},
    {"numa_other", STAT_NUMA + QR_NUMA_OTHER},
    {"nr_inactive_anon", STAT_NONE},
    {"nr_active_anon", STAT_ACTIVE},
    {"nr_inactive_file", STAT_INACTIVE_FILE},
    {"nr_active_file", QR_PAGES_ACTIVE_FILE},
    {"nr_unevictable", QR_PAGES_LOCKED},
    {"nr_slab_reclaimable", STAT_NONE},
    {"nr_slab_unreclaimable", QR_PAGES_SLAB},
    {"nr_isolated_anon", STAT_NONE},
    {"nr_isolated_file", STAT_NONE},
    {"workingset_nodes", QR_SHADOW_NODES},
    {"workingset_refault_anon", STAT_NONE},
    {"workingset_refault_file", QR_EVENT_REFAULT_FILE},
    {"workingset_activate_anon", STAT_NONE},
    {"workingset_activate_file", QR_EVENT_ACTIVATE_FILE},
    {"workingset_restore_anon", STAT_NONE},
    {"workingset_restore_file", QR_EVENT_RESTORE_FILE},
    {"workingset_nodereclaim", QR_EVENT_NODE_RECLAIM},
    {"nr_anon_pages", QR_PAGES_ANON},
    {"nr_mapped", QR_PAGES_MAPPED},
    {"nr_file_pages", STAT_CACHED},
    {"nr_dirty", QR_PAGES_DIRTY},
    {"nr_writeback", QR_PAGES_WRITEBACK},
    {"nr_writeback_temp", STAT_NONE},
    {"nr_shmem", QR_PAGES_SHMEM},
    {"nr_shmem_hugepages", STAT_HUGE_SHMEM},
    {"nr_shmem_pmdmapped", STAT_HUGE_MAPPED},
    {"nr_file_hugepages", STAT_NONE},
    {"nr_file_pmdmapped", STAT_NONE},
    {"nr_anon_transparent_hugepages", STAT_HUGE},
    {"nr_vmscan_write", STAT_NONE},
    {"nr_vmscan_immediate_reclaim", STAT_NONE},
    {"nr_dirtied", QR_EVENT_DIRTIED},
    {"nr_written", QR_EVENT_WRITTEN},
    {"nr_throttled_written", STAT_NONE},
    {"nr_kernel_misc_reclaimable", STAT_NONE},
    {"nr_foll_pin_acquired", STAT_NONE},
    {"nr_foll_pin_released", STAT_NONE},
    {"nr_kernel_stack", STAT_STACK_KB},
    {"nr_page_table_pages", STAT_TABLES},
    {"nr_sec_page_table_pages", STAT_NONE},
    {"nr_swapcached", QR_PAGES_SWAP_CACHED},
    {"pgpromote_success", STAT_NONE},
    {"pgpromote_candidate", STAT_NONE},
    {"nr_dirty_threshold", STAT_NONE},
    {"nr_dirty_background_threshold", STAT_NONE},
    {"pgpgin", QR_EVENT_DISK_IN},
    {"pgpgout", QR_EVENT_DISK_OUT},
    {"pswpin", QR_EVENT_SWAP_IN},
    {"pswpout", QR_EVENT_SWAP_OUT},
    {"pgalloc_dma", STAT_NONE},
    {"pgalloc_dma32", STAT_NONE},
    {"pgalloc_normal", QR_EVENT_ALLOC},
    {"pgalloc_movable", STAT_NONE},
    {"pgalloc_device", STAT_NONE},
    {"allocstall_dma", STAT_NONE},
    {"allocstall_dma32", STAT_NONE},
    {"allocstall_normal", QR_EVENT_ALLOC_STALL},
    {"allocstall_movable", STAT_NONE},
    {"allocstall_device", STAT_NONE},
    {"pgskip_dma", STAT_NONE},
    {"pgskip_dma32", STAT_NONE},
    {"pgskip_normal", STAT_NONE},
    {"pgskip_movable", STAT_NONE},
    {"pgskip_device", STAT_NONE},
    {"pgfree", QR_EVENT_FREE},
    {"pgactivate", STAT_NONE},
    {"pgdeactivate", QR_EVENT_REFILL},
    {"pglazyfree", QR_EVENT_LAZY_FREE},
    {"pgfault", QR_EVENT_FAULT},
    {"pgmajfault", QR_EVENT_MAJOR_FAULT},
    {"pglazyfreed", QR_EVENT_LAZY_FREED},
    {"pgrefill", QR_EVENT_REFILL},
    {"pgreuse", STAT_NONE},
    {"pgsteal_kswapd", QR_EVENT_RECLAIM_BEHIND},
    {"pgsteal_direct", QR_EVENT_RECLAIM_DIRECT},
    {"pgdemote_kswapd", STAT_NONE},
    {"pgdemote_direct", STAT_NONE},
    {"pgscan_kswapd", QR_EVENT_SCAN_BEHIND},
    {"pgscan_direct", QR_EVENT_SCAN_DIRECT},
    {"pgscan_direct_throttle", STAT_NONE},
    {"pgscan_anon", QR_EVENT_SCAN_ANON},
    {"pgscan_file", QR_EVENT_SCAN_FILE},
    {"pgsteal_anon", QR_EVENT_RECLAIM_ANON},
    {"pgsteal_file", QR_EVENT_RECLAIM_FILE},
    {"zone_reclaim_failed", STAT_NONE},
    {"pginodesteal", STAT_NONE},
    {"slabs_scanned", STAT_NONE},
    {"kswapd_inodesteal", STAT_NONE},
    {"kswapd_low_wmark_hit_quickly", STAT_NONE},
    {"kswapd_high_wmark_hit_quickly", STAT_NONE},
    {"pageoutrun", STAT_NONE},
    {"pgrotated", STAT_NONE},
    {"drop_pagecache", QR_EVENT_DROP_CACHE},
    {"drop_slab", QR_EVENT_DROP_SLAB},
    {"oom_kill", QR_EVENT_OOM_KILL},
    {"numa_pte_updates", STAT_NONE},
    {"numa_huge_pte_updates", STAT_NONE},
    {"numa_hint_faults", STAT_NONE},
    {"numa_hint_faults_local", STAT_NONE},
    {"numa_pages_migrated", STAT_NONE},
    {"pgmigrate_success", QR_EVENT_MIGRATE},
    {"pgmigrate_fail", QR_EVENT_MIGRATE_FAIL},
    {"thp_migration_success", STAT_NONE},
    {"thp_migration_fail", STAT_NONE},
    {"thp_migration_split", STAT_NONE},
    {"compact_migrate_scanned", STAT_NONE},
    {"compact_free_scanned", STAT_NONE},
    {"compact_isolated", STAT_NONE},
    {"compact_stall", QR_EVENT_COMPACT},
    {"compact_fail", STAT_NONE},
    {"compact_success", QR_EVENT_COMPACT_BLOCK},
    {"compact_daemon_wake", STAT_NONE},
    {"compact_daemon_migrate_scanned", STAT_NONE},
    {"compact_daemon_free_scanned", STAT_NONE},
    {"htlb_buddy_alloc_success", QR_EVENT_HUGE_ALLOC},
    {"htlb_buddy_alloc_fail", QR_EVENT_HUGE_ALLOC_FAIL},
    {"unevictable_pgs_culled", STAT_NONE},
    {"unevictable_pgs_scanned", STAT_NONE},
    {"unevictable_pgs_rescued", STAT_NONE},
    {"unevictable_pgs_mlocked", STAT_NONE},
    {"unevictable_pgs_munlocked", STAT_NONE},
    {"unevictable_pgs_cleared", STAT_NONE},
    {"unevictable_pgs_stranded", STAT_NONE},
    {"thp_fault_alloc", QR_EVENT_THP_FAULT},
    {"thp_fault_fallback", QR_EVENT_THP_FALLBACK},
    {"thp_fault_fallback_charge", STAT_NONE},
    {"thp_collapse_alloc", QR_EVENT_THP_COLLAPSE},
    {"thp_collapse_alloc_failed", QR_EVENT_THP_NO_COLLAPSE},
    {"thp_file_alloc", QR_EVENT_THP_SHARED},
    {"thp_file_fallback", QR_EVENT_THP_NO_SHARED},
    {"thp_file_fallback_charge", STAT_NONE},
    {"thp_file_mapped", QR_EVENT_THP_SHARED_MAP},
    {"thp_split_page", QR_EVENT_THP_SPLIT_PAGE},
    {"thp_split_page_failed", STAT_NONE},
    {"thp_deferred_split_page", STAT_NONE},
    {"thp_split_pmd", QR_EVENT_THP_SPLIT_LEAF},
    {"thp_scan_exceed_none_pte", STAT_NONE},
    {"thp_scan_exceed_swap_pte", STAT_NONE},
    {"thp_scan_exceed_share_pte", STAT_NONE},
    {"thp_split_pud", STAT_NONE},
    {"thp_zero_page_alloc", QR_EVENT_THP_ZERO},
    {"thp_zero_page_alloc_failed", QR_EVENT_THP_ZERO_FAIL},
    {"thp_swpout", STAT_NONE},
    {"thp_swpout_fallback", STAT_NONE},
    {"balloon_inflate", STAT_NONE},
    {"balloon_deflate", STAT_NONE},
    {"balloon_migrate", STAT_NONE},
    {"swap_ra", STAT_NONE},
    {"swap_ra_hit", STAT_NONE},
    {"ksm_swpin_copy", STAT_NONE},
    {"cow_ksm", QR_EVENT_COW_MERGED},
    {"direct_map_level2_splits", STAT_NONE},
    {"direct_map_level3_splits", STAT_NONE},
    {"nr_unstable", STAT_NONE},
};

static const struct stat_line own_lines[] = {
    {"quire_alloc_fail", QR_EVENT_ALLOC_FAIL},
    {"quire_cow", QR_EVENT_COW},
    {"quire_cow_reuse", QR_EVENT_COW_REUSE},
    {"quire_zero_fill", QR_EVENT_ZERO_FILL},
    {"quire_fault_around", QR_EVENT_FAULT_AROUND},
    {"quire_fork", QR_EVENT_FORK},
    {"quire_flush_all", QR_EVENT_FLUSH_ALL},
    {"quire_switch", QR_EVENT_SWITCH},
    {"quire_switch_no_flush", QR_EVENT_SWITCH_NO_FLUSH},
    {"quire_asid_rollover", QR_EVENT_ASID_ROUND},
};

/* The per-node lines in stat_lines: from nr_inactive_anon to pgpromote_candidate. */
#define NODE_FIRST 17
#define NODE_COUNT 43

static size_t
numa_value(const struct qr_report *report, unsigned event)
{
    size_t sum = 0;

    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        struct qr_node_stats stats;

        qr_frames_node_stats(report->frames, node, &stats);
        sum += stats.event[event];
    }
    return sum;
}

static size_t
stat_value(const struct qr_report *report, unsigned stat)
{
    struct qr_frames_stats frames;
    size_t file;

    if (stat >= STAT_NUMA)
        return numa_value(report, stat - STAT_NUMA);

    switch (stat) {
    case STAT_NONE:
        return 0;
    case STAT_FREE:
        qr_frames_stats(report->frames, &frames);
        return frames.free;
    case STAT_CACHED:
        return gauge(report, QR_PAGES_FILE) + gauge(report, QR_PAGES_SHMEM);
    case STAT_ACTIVE:
        return gauge(report, QR_PAGES_ANON) + gauge(report, QR_PAGES_SHMEM);
    case STAT_TABLES:
        return user_tables(report, gauge(report, QR_PAGES_TABLE));
    case STAT_INACTIVE_FILE:
        file = gauge(report, QR_PAGES_FILE);
        return file - active_of(report, file);
    case STAT_HUGE:
        return pages_in_huge(report, gauge(report, QR_PAGES_HUGE_ANON));
    case STAT_HUGE_SHMEM:
        return pages_in_huge(report, gauge(report, QR_PAGES_THP_SHMEM));
    case STAT_HUGE_MAPPED:
        return pages_in_huge(report, gauge(report, QR_PAGES_THP_MAPS));
    case STAT_STACK_KB:
        return pages_to_kb(gauge(report, QR_PAGES_STACK));
    default:
        return gauge(report, (enum qr_counter)stat);
    }
}

void
qr_report_vmstat(const struct qr_report *report, struct qr_writer *writer)
{
    for (size_t i = 0; i < QR_ARRAY_COUNT(stat_lines); i++)
        qr_writer_printf(writer, "%s %zu\n", stat_lines[i].name,
                         stat_value(report, stat_lines[i].stat));
    for (size_t i = 0; i < QR_ARRAY_COUNT(own_lines); i++)
        qr_writer_printf(writer, "%s %zu\n", own_lines[i].name,
                         stat_value(report, own_lines[i].stat));
}

/* One node's part of a line, by its frames. */
static size_t
node_value(const struct qr_report *report, const struct node_gauges *node, unsigned stat)
{
    switch (stat) {
    case QR_PAGES_ANON:
        return node->anon;
    case STAT_INACTIVE_FILE:
        return node->file - node->active_file;
    case QR_PAGES_ACTIVE_FILE:
        return node->active_file;
    case QR_PAGES_SHMEM:
        return node->shmem;
    case QR_PAGES_MAPPED:
        return node->mapped;
    case QR_PAGES_DIRTY:
        return node->dirty;
    case QR_PAGES_WRITEBACK:
        return node->writeback;
    case STAT_TABLES:
        return node->tables;
    case QR_PAGES_SLAB:
        return node->slab;
    case QR_PAGES_LOCKED:
        return node->locked;
    case STAT_CACHED:
        return node->file + node->shmem;
    case STAT_ACTIVE:
        return node->anon + node->shmem;
    case STAT_HUGE:
        return pages_in_huge(report, node->huge);
    case STAT_HUGE_SHMEM:
        return pages_in_huge(report, node->huge_shmem);
    case STAT_HUGE_MAPPED:
        return pages_in_huge(report, node->huge_mapped);
    case STAT_STACK_KB:
        return pages_to_kb(node->stacks);
    default:
        return 0;
    }
}

void
qr_report_node_stats(const struct qr_report *report, unsigned node, struct qr_writer *writer)
{
    struct node_gauges gauges;

    qr_report_node_gauges(report, node, &gauges);
    qr_writer_printf(writer, "  per-node stats\n");
    for (size_t i = NODE_FIRST; i < NODE_FIRST + NODE_COUNT; i++)
        qr_writer_printf(writer, "      %-12s %zu\n", stat_lines[i].name,
                         node_value(report, &gauges, stat_lines[i].stat));
}

/* Lines before the per-node ones: of zones, summed up, and where frames were wanted. */
static size_t
node_zone_value(const struct qr_node_stats *stats, const struct node_gauges *node, unsigned stat)
{
    if (stat >= STAT_NUMA)
        return stats->event[stat - STAT_NUMA];
    return stat == STAT_FREE ? stats->free : stat == QR_PAGES_LOCKED ? node->locked : 0;
}

void
qr_report_node_vmstat(const struct qr_report *report, unsigned node, struct qr_writer *writer)
{
    struct node_gauges gauges;
    struct qr_node_stats stats;

    qr_frames_node_stats(report->frames, node, &stats);
    qr_report_node_gauges(report, node, &gauges);
    for (size_t i = 0; i < NODE_FIRST + NODE_COUNT; i++)
        qr_writer_printf(writer, "%s %zu\n", stat_lines[i].name,
                         i < NODE_FIRST ? node_zone_value(&stats, &gauges, stat_lines[i].stat)
                                        : node_value(report, &gauges, stat_lines[i].stat));
}

void
qr_report_numastat(const struct qr_report *report, unsigned node, struct qr_writer *writer)
{
    static const char *const names[QR_NUMA_EVENTS] = {
        [QR_NUMA_HIT] = "numa_hit",         [QR_NUMA_MISS] = "numa_miss",
        [QR_NUMA_FOREIGN] = "numa_foreign", [QR_NUMA_INTERLEAVE] = "interleave_hit",
        [QR_NUMA_LOCAL] = "local_node",     [QR_NUMA_OTHER] = "other_node",
    };
    struct qr_node_stats stats;

    qr_frames_node_stats(report->frames, node, &stats);
    for (unsigned event = 0; event < QR_NUMA_EVENTS; event++)
        qr_writer_printf(writer, "%s %zu\n", names[event], stats.event[event]);
}
