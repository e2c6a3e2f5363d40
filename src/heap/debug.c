/* SPDX-License-Identifier: MIT */
/*
 * CONFIG_MEMORY_DEBUGGING: what surrounds an object, and what is checked when.
 *
 *   [ object, as asked for | red zone, at least 16 bytes | record ]
 *
 * Red zones hold a fixed pattern; a free object holds poison (unless a constructor made
 * it: then its state is its owner's).  The record says who allocated or freed the object, and
 * carries a checksum over itself, the object's address and the cache's secret key.  Every
 * allocation checks that the object is free and its poison unharmed, every free that it is
 * allocated and its red zone unharmed; qr_heap_validate() checks all of them at any time.
 *
 * Poison, red zones, quarantine and backtraces are switched at run time.  A record says which fills
 * its object carries, so that a check follows only what was filled.
 *
 * Quarantine: a ring of freed objects.  A free puts its object in and takes the oldest out,
 * which goes the usual way; so a stale pointer meets poison for a while longer, not somebody
 * else's object.
 */
#include "heap.h"

#define STATE_FREE  0x46524545u
#define STATE_USED  0x55534544u
#define RED_BYTE    0xbbu
#define POISON_BYTE 0x6bu

struct object_record *
qr_heap_record(const struct qr_cache *cache, const void *object)
{
    return (struct object_record *)(uintptr_t)((const char *)object + cache->cookie_offset);
}

static bool
bytes_are(const unsigned char *bytes, size_t count, unsigned char value)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != value)
            return false;
    }
    return true;
}

static uintptr_t
record_checksum(const struct qr_cache *cache, const void *object)
{
    const struct object_record *record = qr_heap_record(cache, object);
    uint64_t sum = cache->key ^ (uintptr_t)object;

    sum = (sum ^ record->state) * 0x9e3779b97f4a7c15u;
    sum = (sum ^ record->requested ^ sum >> 32) * 0x9e3779b97f4a7c15u;
    sum = (sum ^ record->site ^ sum >> 32) * 0x9e3779b97f4a7c15u;
    sum = (sum ^ record->trace ^ (uint64_t)record->filled << 32 ^ sum >> 32) * 0x9e3779b97f4a7c15u;
    return (uintptr_t)(sum ^ sum >> 32);
}

bool
qr_heap_object_live(const struct qr_cache *cache, const void *object)
{
    return qr_heap_record(cache, object)->state == STATE_USED;
}

const char *
qr_heap_object_check(struct qr_cache *cache, void *object, bool is_free)
{
    const struct object_record *record = qr_heap_record(cache, object);
    const unsigned char *bytes = object;

    if (record->checksum != record_checksum(cache, object))
        return "its record was overwritten: something wrote far past its end";
    if ((record->state != STATE_FREE && record->state != STATE_USED) ||
        record->requested > cache->object_bytes)
        return "its state was overwritten: something wrote past its end";
    if ((record->filled & QR_HEAP_RED_ZONES) != 0 &&
        !bytes_are(bytes + record->requested, cache->cookie_offset - record->requested, RED_BYTE))
        return "its red zone was written to: something wrote past its end";
    if (!is_free && record->state != STATE_USED)
        return "it is used after it was freed";
    if (is_free && record->state != STATE_FREE)
        return "it is marked as allocated while it is free";
    if (is_free && (record->filled & QR_HEAP_POISON) != 0 &&
        !bytes_are(bytes, record->requested, POISON_BYTE))
        return "it was written to after it was freed";
    return NULL;
}

static void
object_require(struct qr_cache *cache, void *object, bool is_free)
{
    const char *wrong = qr_heap_object_check(cache, object, is_free);
    const struct object_record *record = qr_heap_record(cache, object);
    struct site_text site;

    if (wrong != NULL)
        qr_panic("heap: object %p of cache %s (%u bytes, last used at %s): %s", object, cache->name,
                 (unsigned)record->requested, qr_site_text(cache->heap, record->site, &site),
                 wrong);
}

static void
object_reset(struct qr_cache *cache, void *object, uint32_t state, size_t requested, uintptr_t site)
{
    struct object_record *record = qr_heap_record(cache, object);
    uint32_t filled = 0;

    if (heap_switched(cache->heap, QR_HEAP_RED_ZONES)) {
        filled |= QR_HEAP_RED_ZONES;
        __builtin_memset((char *)object + requested, RED_BYTE, cache->cookie_offset - requested);
    }
    if (state == STATE_FREE && cache->construct == NULL &&
        heap_switched(cache->heap, QR_HEAP_POISON)) {
        filled |= QR_HEAP_POISON;
        __builtin_memset(object, POISON_BYTE, requested);
    }
    record->state = state;
    record->requested = (uint32_t)requested;
    record->site = site;
    record->trace = site == 0 ? 0 : qr_trace_take(cache->heap, site);
    record->filled = filled;
    record->checksum = record_checksum(cache, object);
}

void
qr_heap_object_made(struct qr_cache *cache, void *object)
{
    object_reset(cache, object, STATE_FREE, cache->object_bytes, 0);
}

void
qr_heap_mark_used(struct qr_cache *cache, void *object, size_t requested, uintptr_t site)
{
    object_require(cache, object, true);
    object_reset(cache, object, STATE_USED, requested, site);
}

void
qr_heap_mark_free(struct qr_cache *cache, void *object, uintptr_t site)
{
    const struct object_record *record = qr_heap_record(cache, object);
    struct site_text now, before;

    if (record->state == STATE_FREE && record->checksum == record_checksum(cache, object))
        qr_panic("heap: %p of cache %s is freed twice, now at %s, before at %s", object,
                 cache->name, qr_site_text(cache->heap, site, &now),
                 qr_site_text(cache->heap, record->site, &before));
    object_require(cache, object, false);
    object_reset(cache, object, STATE_FREE, cache->object_bytes, site);
}

size_t
qr_heap_requested(struct qr_cache *cache, const void *object)
{
    return qr_heap_record(cache, object)->requested;
}

void
qr_heap_requested_set(struct qr_cache *cache, void *object, size_t requested, uintptr_t site)
{
    object_require(cache, object, false);
    object_reset(cache, object, STATE_USED, requested, site);
}

/* ---- quarantine ------------------------------------------------------------------- */

void *
qr_quarantine_swap(struct qr_cache *cache, void *object, struct qr_cache **out_cache)
{
    struct heap_quarantine *ring = &cache->heap->quarantine;
    struct quarantined oldest;

    qr_spin_lock(&ring->lock);
    oldest = ring->slot[ring->next];
    ring->slot[ring->next] = (struct quarantined){.cache = cache, .object = object};
    ring->next = (ring->next + 1) % QUARANTINE_SLOTS;
    qr_spin_unlock(&ring->lock);
    if (oldest.object != NULL)
        *out_cache = oldest.cache;
    return oldest.object;
}

void
qr_quarantine_flush(struct qr_heap *heap, struct qr_cache *cache)
{
    struct heap_quarantine *ring = &heap->quarantine;

    for (unsigned i = 0; i < QUARANTINE_SLOTS; i++) {
        struct quarantined found = {0};

        qr_spin_lock(&ring->lock);
        if (ring->slot[i].object != NULL && (cache == NULL || ring->slot[i].cache == cache)) {
            found = ring->slot[i];
            ring->slot[i] = (struct quarantined){0};
        }
        qr_spin_unlock(&ring->lock);
        if (found.object != NULL)
            qr_slabs_give(found.cache, 1, &found.object);
    }
}

size_t
qr_quarantine_count(struct qr_cache *cache)
{
    struct heap_quarantine *ring = &cache->heap->quarantine;
    size_t count = 0;

    qr_spin_lock(&ring->lock);
    for (unsigned i = 0; i < QUARANTINE_SLOTS; i++)
        count += ring->slot[i].object != NULL && ring->slot[i].cache == cache;
    qr_spin_unlock(&ring->lock);
    return count;
}

void
qr_heap_debug_init(struct qr_heap *heap)
{
    qr_spin_init(&heap->quarantine.lock, QR_RANK_LEAF);
}
