/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_BLOCK_H
#define KERNEL_BLOCK_H

/**
 * @file
 * Disks: requests to them, and the list of them.
 *
 * A driver makes a struct disk and serves requests; file systems and /dev/vda make requests.
 * The page cache of a disk is `disk->object`: what /dev/vda reads and maps, and what a file
 * system keeps its metadata in.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/list.h>
#include <quire/lock.h>
#include <quire/status.h>
#include <quire/types.h>

struct qr_object;

#define SECTOR_SHIFT 9
#define SECTOR_BYTES (1u << SECTOR_SHIFT)

enum {
    BLOCK_SEGMENTS = 32, /**< most pieces of memory of one request */
    DISKS_MAX = 4,
    DISK_MAJOR = 254, /**< virtblk's, as Linux hands it out first */
    DISK_MINORS = 16, /**< per disk; partitions are not looked for */
};

/** A device number as inodes have them. */
#define MAKE_DISK_NUMBER(index) ((uint32_t)DISK_MAJOR << 20 | (uint32_t)(index)*DISK_MINORS)

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH };

/** Physically contiguous memory; a multiple of SECTOR_BYTES long. */
struct block_segment {
    qr_pa pa;
    uint32_t bytes;
};

/** One request.  The disk's from disk_submit() until done() is called, then its owner's again. */
struct block_request {
    enum block_op op;
    uint64_t sector; /**< first; unused by BLOCK_FLUSH */
    unsigned segment_count;
    struct block_segment segments[BLOCK_SEGMENTS];
    /** Called once, in any context (interrupts may be off), with no lock of the disk held. */
    void (*done)(struct block_request *request);
    void *context;       /**< the owner's */
    int64_t status;      /**< for done(): 0 or -EIO */
    struct qr_list link; /**< the driver's */
    uint64_t deadline;   /**< the driver's */
};

/** All that it moves. */
static inline uint64_t
block_request_bytes(const struct block_request *request)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < request->segment_count; i++)
        bytes += request->segments[i].bytes;
    return bytes;
}

struct disk;

struct disk_ops {
    /** Start @p request or queue it; never sleeps.  The request has been checked. */
    void (*submit)(struct disk *disk, struct block_request *request);
};

struct disk {
    char name[8];  /**< "vda" */
    uint32_t rdev; /**< device number */
    uint64_t sectors;
    bool read_only;
    unsigned segments_max; /**< of one request, at most BLOCK_SEGMENTS */
    const struct disk_ops *ops;
    struct qr_object *object; /**< its page cache; constant after start-up */
    atomic_uint holders;      /**< mounted file systems: 0 or 1 */
    /* What /sys/block shows. */
    atomic_ullong requests[3], sectors_moved[3];
    atomic_uint in_flight;
};

/**
 * Make @p disk known: name, number and page cache.  Boot CPU, memory is there.
 * @return false where there are too many disks or no memory
 */
bool disk_add(struct disk *disk);

/** kernel/fs/disk_file.c: the page cache of a disk whose size is known. */
QR_MUST_USE enum qr_status disk_cache_create(struct disk *disk);

/** Disk @p index in the order in which they were found, or NULL. */
struct disk *disk_at(size_t index);
struct disk *disk_of_number(uint32_t rdev);

static inline uint64_t
disk_bytes(const struct disk *disk)
{
    return disk->sectors << SECTOR_SHIFT;
}

/**
 * Start a request.  One that is out of the disk's bounds, or writes to a read-only disk, fails
 * with -EIO at once.  Any context.
 */
void disk_submit(struct disk *disk, struct block_request *request);

/** The driver's half: @p request is over. */
void disk_complete(struct disk *disk, struct block_request *request, int64_t status);

/**
 * Memory for a request, cleared; never NULL: without memory it waits for the one that is kept
 * in reserve.  Context: thread, may sleep.
 */
struct block_request *block_request_get(void);
/** Any context. */
void block_request_put(struct block_request *request);

/** Submit and wait.  Thread.  @return 0 or -EIO */
int64_t disk_run(struct disk *disk, struct block_request *request);

/** Have everything that the disk has acknowledged on stable storage.  Thread.  @return 0 or -EIO */
int64_t disk_flush(struct disk *disk);

/** Look for disks on the machine's buses; boot CPU, after platform_init(). */
void platform_find_disks(void);

/** kernel/fs/writeback.c: the thread that writes back; likewise. */
void writeback_start(void);

/** The thread that notices requests without an answer; once the scheduler runs threads. */
void disks_start(void);

#endif
