/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_DRIVERS_VIRTIO_H
#define KERNEL_DRIVERS_VIRTIO_H

/**
 * @file
 * Virtio 1.0 devices: the transport under a driver, and the ring between it and the device.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/types.h>

/* Device status. */
enum {
    VIRTIO_ACKNOWLEDGE = 1,
    VIRTIO_DRIVER = 2,
    VIRTIO_DRIVER_OK = 4,
    VIRTIO_FEATURES_OK = 8,
    VIRTIO_NEEDS_RESET = 64,
    VIRTIO_FAILED = 128,
};

#define VIRTIO_F_VERSION_1 ((uint64_t)1 << 32)

enum { VIRTIO_ID_BLOCK = 2 };

/** Physical places of a ring's three parts. */
struct vring_place {
    qr_pa descriptors, available, used;
    uint16_t size;
};

struct virtio_device;

/** What differs between PCI and memory-mapped devices.  Queue 0 is the only one used. */
struct virtio_transport {
    const char *name;
    uint32_t (*status)(struct virtio_device *device);
    void (*set_status)(struct virtio_device *device, uint32_t status);
    uint64_t (*features)(struct virtio_device *device);
    void (*accept)(struct virtio_device *device, uint64_t features);
    /** The longest that queue 0 can be; 0: there is none. */
    unsigned (*queue_size_max)(struct virtio_device *device);
    /** @return false where the device refuses its place or its interrupt */
    bool (*queue_start)(struct virtio_device *device, const struct vring_place *place);
    void (*notify)(struct virtio_device *device);
    /** Take back the interrupt that came.  Interrupts off. */
    void (*acknowledge)(struct virtio_device *device);
    /** Byte @p offset of the device's own configuration; 0 past its end. */
    uint8_t (*config)(struct virtio_device *device, unsigned offset);
};

struct virtio_device {
    const struct virtio_transport *transport;
    volatile uint8_t *common;        /**< PCI: common configuration; else all registers */
    volatile uint8_t *notify_at;     /**< PCI: where queue 0 is notified */
    volatile uint8_t *device_config; /**< the device's own configuration */
    size_t config_bytes;
    unsigned interrupt; /**< number for interrupt_attach() */
};

uint64_t virtio_config(struct virtio_device *device, unsigned offset, unsigned bytes);

/** A block device was found; @p device is adopted.  @return false: it is not used */
bool virtio_blk_add(struct virtio_device *device);

/* ---- virtio_ring.c ---------------------------------------------------------------------- */

enum { VRING_SIZE_MAX = 128 };

struct vring_descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags, next;
};

struct vring_used_entry {
    uint32_t id, bytes;
};

struct vring_available {
    uint16_t flags, index;
    uint16_t ring[];
};

struct vring_used {
    uint16_t flags;
    _Atomic uint16_t index;
    struct vring_used_entry ring[];
};

/** The driver's side of a split virtqueue.  Guarded by the driver's lock. */
struct vring {
    struct vring_descriptor *descriptors; /* shared with the device */
    struct vring_available *available;    /* shared */
    struct vring_used *used;              /* shared */
    uint16_t size;                        /* a power of two */
    uint16_t free_head, free_count;
    uint16_t available_index, used_index;
    uint16_t in_flight;            /* chains that the device has */
    uint16_t next[VRING_SIZE_MAX]; /* what the device cannot write */
    void *cookies[VRING_SIZE_MAX]; /* by head; NULL: the device does not have it */
};

/** Bytes of shared memory for a ring of @p size, from a page boundary. */
size_t vring_bytes(unsigned size);
/** Lay a ring of @p size out in cleared @p memory. */
void vring_init(struct vring *ring, void *memory, unsigned size);
/** Where its parts lie, given that its memory is at @p pa. */
void vring_place_of(const struct vring *ring, qr_pa pa, struct vring_place *out_place);

struct vring_piece {
    qr_pa pa;
    uint32_t bytes;
    bool device_writes;
};

/** Hand a chain of pieces to the device.  @return false where the ring is too full */
bool vring_add(struct vring *ring, const struct vring_piece *pieces, unsigned count, void *cookie);

enum vring_answer {
    VRING_NONE,   /**< nothing new */
    VRING_TAKEN,  /**< a chain came back */
    VRING_BROKEN, /**< the device wrote nonsense */
};

/** Take one chain back. */
enum vring_answer vring_take(struct vring *ring, void **out_cookie, uint32_t *out_bytes);

/** After the device was reset: any chain that it still had.  @return NULL: none left */
void *vring_abandon(struct vring *ring);

#endif
