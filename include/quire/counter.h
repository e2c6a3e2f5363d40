/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_COUNTER_H
#define QUIRE_COUNTER_H

/**
 * @file
 * Machine-wide counters: gauges (pages in some state now) and events since
 * boot, kept per CPU and summed on reading.  A sum is exact when nobody counts
 * at the same time.  Names follow Linux's vmstat, where the texts come from.
 */

#ifndef __cplusplus
#include <quire/cpu.h>

enum qr_counter {
    /* Gauges, in pages. */
    QR_PAGES_ANON,        /**< private anonymous frames mapped by some table */
    QR_PAGES_FILE,        /**< frames in file objects: the page cache */
    QR_PAGES_SHMEM,       /**< frames in anonymous shared objects (tmpfs, shared memory) */
    QR_PAGES_MAPPED,      /**< object frames that some table maps */
    QR_PAGES_DIRTY,       /**< file frames that differ from their backing */
    QR_PAGES_WRITEBACK,   /**< file frames on their way out */
    QR_PAGES_TABLE,       /**< frames that hold user or kernel page tables */
    QR_PAGES_SLAB,        /**< frames in slab caches */
    QR_PAGES_STACK,       /**< kernel stacks; counted by the host */
    QR_PAGES_VMALLOC,     /**< frames mapped in the vmalloc area */
    QR_PAGES_LOCKED,      /**< mlocked */
    QR_PAGES_HUGE_ANON,   /**< pages in transparent huge mappings */
    QR_PAGES_THP_SHMEM,   /**< pages of shared memory in huge pages */
    QR_PAGES_THP_MAPS,    /**< ... by what large leaves map of them, each leaf counted */
    QR_PAGES_COMMITTED,   /**< promised address space (Committed_AS) */
    QR_PAGES_HUGETLB,     /**< in pools of huge pages, free ones too */
    QR_PAGES_ACTIVE_FILE, /**< pages of files that reclaim saves once: see QR_FRAME_ACTIVE */
    QR_SHADOW_NODES,      /**< index nodes that remember pages which went */
    QR_PAGES_CORRUPTED,   /**< frames taken out of use: qr_space_retire_page() */
    QR_PAGES_MERGED,      /**< merged frames that some table maps: see quire/merge.h */
    QR_PAGES_MERGE_MAPS,  /**< ... and the entries that map them */
    QR_PAGES_SWAP_CACHED, /**< frames in the swap cache */
    /* Events. */
    QR_EVENT_ALLOC,        /**< frames allocated */
    QR_EVENT_FREE,         /**< frames freed */
    QR_EVENT_ALLOC_FAIL,   /**< requests that failed */
    QR_EVENT_FAULT,        /**< faults handled */
    QR_EVENT_MAJOR_FAULT,  /**< faults that waited for backing store */
    QR_EVENT_COW,          /**< copies made for copy-on-write */
    QR_EVENT_COW_MERGED,   /**< ... of merged frames */
    QR_EVENT_COW_REUSE,    /**< write faults that took the frame over instead */
    QR_EVENT_ZERO_FILL,    /**< frames cleared for a fault */
    QR_EVENT_FAULT_AROUND, /**< pages mapped beside the one that faulted */
    QR_EVENT_FORK,
    QR_EVENT_THP_FAULT,       /**< faults that mapped a huge page */
    QR_EVENT_THP_FALLBACK,    /**< ... that could not have one */
    QR_EVENT_THP_ZERO,        /**< huge frames of zeroes made */
    QR_EVENT_THP_ZERO_FAIL,   /**< ... that could not be made */
    QR_EVENT_THP_COLLAPSE,    /**< blocks that became huge pages */
    QR_EVENT_THP_NO_COLLAPSE, /**< ... for which there were no frames */
    QR_EVENT_THP_SPLIT_LEAF,  /**< large leaves that became tables */
    QR_EVENT_THP_SPLIT_PAGE,  /**< of these, those of frames rather than of zeroes */
    QR_EVENT_THP_SHARED,      /**< huge pages of shared memory that faults made */
    QR_EVENT_THP_NO_SHARED,   /**< ... and could not make */
    QR_EVENT_THP_SHARED_MAP,  /**< large leaves set for such */
    QR_EVENT_MIGRATE,         /**< frames in use that moved */
    QR_EVENT_MIGRATE_FAIL,    /**< ... that were to move and stayed */
    QR_EVENT_COMPACT,         /**< compactions */
    QR_EVENT_COMPACT_BLOCK,   /**< blocks of 2 MiB that they made whole */
    QR_EVENT_HUGE_ALLOC,      /**< pages that huge page pools got from the frame allocator */
    QR_EVENT_HUGE_ALLOC_FAIL, /**< ... and did not get */
    QR_EVENT_LAZY_FREE,       /**< frames that programs freed lazily (MADV_FREE) */
    QR_EVENT_LAZY_FREED,      /**< ... that were thrown away later */
    QR_EVENT_IPI,             /**< shootdown interrupts sent */
    QR_EVENT_FLUSH_PAGE,      /**< single-page flush instructions */
    QR_EVENT_FLUSH_SPACE,     /**< flushes of all non-global entries of a space */
    QR_EVENT_FLUSH_ALL,       /**< full flushes, global entries included */
    QR_EVENT_SWITCH,          /**< root switches */
    QR_EVENT_SWITCH_NO_FLUSH, /**< of these, with the entries kept (PCID/ASID) */
    QR_EVENT_ASID_ROUND,      /**< roll-overs of the identifiers */
    QR_EVENT_OOM_KILL,        /**< processes that the host ended for their memory */
    QR_EVENT_ALLOC_STALL,     /**< allocations that had to reclaim first; counted by the host */
    QR_EVENT_RECLAIM_DIRECT,  /**< pages that qr_reclaim() got for who waited */
    QR_EVENT_RECLAIM_BEHIND,  /**< ... and in the background */
    QR_EVENT_SCAN_DIRECT,     /**< pages that it looked at for who waited */
    QR_EVENT_SCAN_BEHIND,     /**< ... and in the background */
    QR_EVENT_SCAN_ANON,       /**< of both, memory of programs */
    QR_EVENT_SCAN_FILE,       /**< ... and pages of files */
    QR_EVENT_REFILL,          /**< active ones that became others */
    QR_EVENT_REFAULT_FILE,    /**< pages of files that came back after reclaim had dropped them */
    QR_EVENT_ACTIVATE_FILE,   /**< ... so soon that they became active */
    QR_EVENT_RESTORE_FILE,    /**< ... and had been when they went */
    QR_EVENT_NODE_RECLAIM,    /**< QR_SHADOW_NODES that were dropped to bound them */
    QR_EVENT_RECLAIM_ANON,    /**< pages that qr_reclaim() got, memory of programs */
    QR_EVENT_RECLAIM_FILE,    /**< ... and pages of files */
    QR_EVENT_DIRTIED,         /**< pages of files that became dirty */
    QR_EVENT_WRITTEN,         /**< ... and that were written to their backing */
    QR_EVENT_DROP_CACHE,      /**< caches dropped by hand; counted by the host */
    QR_EVENT_DROP_SLAB,       /**< slabs likewise */
    QR_EVENT_DISK_IN,         /**< KiB that the host's disks read */
    QR_EVENT_DISK_OUT,        /**< KiB that they wrote */
    QR_EVENT_SWAP_IN,         /**< pages read from swap */
    QR_EVENT_SWAP_OUT,        /**< ... and written there */
    QR_COUNTER_COUNT,
};

struct qr_counters {
    unsigned cpu_count; /**< slots behind it */
    struct {
        _Atomic long value[QR_COUNTER_COUNT];
    } QR_CACHE_ALIGNED cpu[];
};

/** Bytes of counters for @p cpu_count CPUs. */
size_t qr_counters_size(unsigned cpu_count);
/** Make them of memory that is zero. */
void qr_counters_init(struct qr_counters *counters, unsigned cpu_count);

/** Add @p delta; any context.  Relaxed: two CPUs never share a slot, a migration is harmless. */
void qr_counter_add(struct qr_counters *counters, enum qr_counter which, long delta);

/** The sum over all CPUs; a gauge read while others count may be off, never negative. */
long qr_counter_read(const struct qr_counters *counters, enum qr_counter which);

#endif
#endif
