/* SPDX-License-Identifier: MIT */
/*
 * The driver's side of a split virtqueue.
 *
 *      descriptors   address, length, next: chains of pieces of memory
 *      available     heads of chains that the device may take; the driver writes
 *      used          heads of chains that the device is done with; the device writes
 *
 * The device is not trusted: what the driver needs to know about a chain it keeps where the device
 * cannot write (next, cookies), and a head that it did not hand out, or handed out and got back,
 * ends the device's use.  So each chain comes back once at most.
 *
 * Pure: memory and numbers only.  The caller has a lock and notifies the device.
 */
#include "virtio.h"

#include <stdatomic.h>

#include <quire/assert.h>

enum { DESCRIPTOR_NEXT = 1, DESCRIPTOR_DEVICE_WRITES = 2 };

#define PART_ALIGN 64u

static size_t
available_offset(unsigned size)
{
    return size * sizeof(struct vring_descriptor);
}

static size_t
used_offset(unsigned size)
{
    size_t end = available_offset(size) + sizeof(struct vring_available) + (size + 1) * 2;

    return (end + PART_ALIGN - 1) & ~(size_t)(PART_ALIGN - 1);
}

size_t
vring_bytes(unsigned size)
{
    size_t end =
        used_offset(size) + sizeof(struct vring_used) + size * sizeof(struct vring_used_entry) + 2;

    return (end + PART_ALIGN - 1) & ~(size_t)(PART_ALIGN - 1);
}

void
vring_init(struct vring *ring, void *memory, unsigned size)
{
    char *base = memory;

    qr_assert(size > 0 && size <= VRING_SIZE_MAX && (size & (size - 1)) == 0);
    *ring = (struct vring){
        .descriptors = (struct vring_descriptor *)base,
        .available = (struct vring_available *)(base + available_offset(size)),
        .used = (struct vring_used *)(base + used_offset(size)),
        .size = (uint16_t)size,
        .free_count = (uint16_t)size,
    };
    for (unsigned i = 0; i < size; i++)
        ring->next[i] = (uint16_t)((i + 1) % size);
}

void
vring_place_of(const struct vring *ring, qr_pa pa, struct vring_place *out_place)
{
    *out_place = (struct vring_place){
        .descriptors = pa,
        .available = qr_pa_of(pa.v + available_offset(ring->size)),
        .used = qr_pa_of(pa.v + used_offset(ring->size)),
        .size = ring->size,
    };
}

bool
vring_add(struct vring *ring, const struct vring_piece *pieces, unsigned count, void *cookie)
{
    uint16_t head = ring->free_head;
    uint16_t at = head;

    qr_assert(count > 0 && cookie != NULL);
    if (count > ring->free_count)
        return false;
    for (unsigned i = 0; i < count; i++) {
        bool last = i + 1 == count;

        ring->descriptors[at] = (struct vring_descriptor){
            .address = pieces[i].pa.v,
            .bytes = pieces[i].bytes,
            .flags = (uint16_t)((last ? 0 : DESCRIPTOR_NEXT) |
                                (pieces[i].device_writes ? DESCRIPTOR_DEVICE_WRITES : 0)),
            .next = last ? 0 : ring->next[at],
        };
        if (last) {
            ring->free_head = ring->next[at];
            ring->next[at] = UINT16_MAX; /* end of the chain */
        } else {
            at = ring->next[at];
        }
    }
    ring->free_count = (uint16_t)(ring->free_count - count);
    ring->cookies[head] = cookie;
    ring->in_flight++;
    ring->available->ring[ring->available_index % ring->size] = head;
    ring->available_index++;
    atomic_thread_fence(memory_order_seq_cst); /* the entry before the index */
    *(volatile uint16_t *)&ring->available->index = ring->available_index;
    return true;
}

/* The chain of @head is free again. */
static void *
chain_release(struct vring *ring, uint16_t head)
{
    void *cookie = ring->cookies[head];
    uint16_t at = head;

    ring->cookies[head] = NULL;
    ring->in_flight--;
    ring->free_count++;
    while (ring->next[at] != UINT16_MAX) {
        at = ring->next[at];
        ring->free_count++;
    }
    ring->next[at] = ring->free_head;
    ring->free_head = head;
    return cookie;
}

enum vring_answer
vring_take(struct vring *ring, void **out_cookie, uint32_t *out_bytes)
{
    uint16_t index = atomic_load_explicit(&ring->used->index, memory_order_acquire);
    uint16_t ahead = (uint16_t)(index - ring->used_index);

    if (ahead == 0)
        return VRING_NONE;
    if (ahead > ring->in_flight)
        return VRING_BROKEN;
    /* Read once: the device may change it under our eyes. */
    volatile struct vring_used_entry *entry = &ring->used->ring[ring->used_index % ring->size];
    uint32_t id = entry->id;
    uint32_t bytes = entry->bytes;

    if (id >= ring->size || ring->cookies[id] == NULL)
        return VRING_BROKEN;
    ring->used_index++;
    *out_cookie = chain_release(ring, (uint16_t)id);
    *out_bytes = bytes;
    return VRING_TAKEN;
}

void *
vring_abandon(struct vring *ring)
{
    for (uint16_t head = 0; head < ring->size; head++) {
        if (ring->cookies[head] != NULL)
            return chain_release(ring, head);
    }
    return NULL;
}
