/* SPDX-License-Identifier: MIT */
/*
 * CONFIG_MEMORY_DEBUGGING: what surrounds an object, and what is checked when.
 *
 *   [ object, as asked for | red zone, at least 16 bytes | record: state, size, site, guard ]
 *
 * Red zones and guards hold fixed patterns; a free object holds poison (unless a
 * constructor made it: then its state is its owner's).  Every allocation checks that the
 * object is free and its poison unharmed, every free that it is allocated and its red
 * zone unharmed; qr_heap_validate() checks all of them at any time.
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
guard_of(const struct qr_cache *cache, const void *object)
{
    return cache->key ^ (uintptr_t)object;
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

    if (record->guard != guard_of(cache, object))
        return "its record was overwritten: something wrote far past its end";
    if ((record->state != STATE_FREE && record->state != STATE_USED) ||
        record->requested > cache->object_bytes)
        return "its state was overwritten: something wrote past its end";
    if (!bytes_are(bytes + record->requested, cache->cookie_offset - record->requested, RED_BYTE))
        return "its red zone was written to: something wrote past its end";
    if (is_free && record->state != STATE_FREE)
        return "it is marked as allocated while it is free";
    if (is_free && cache->construct == NULL && !bytes_are(bytes, record->requested, POISON_BYTE))
        return "it was written to after it was freed";
    return NULL;
}

static void
object_require(struct qr_cache *cache, void *object, bool is_free)
{
    const char *wrong = qr_heap_object_check(cache, object, is_free);
    const struct object_record *record = qr_heap_record(cache, object);

    if (wrong != NULL)
        qr_panic("heap: object %p of cache %s (%u bytes, last used at 0x%lx): %s", object,
                 cache->name, (unsigned)record->requested, (unsigned long)record->site, wrong);
}

static void
object_reset(struct qr_cache *cache, void *object, uint32_t state, size_t requested, uintptr_t site)
{
    struct object_record *record = qr_heap_record(cache, object);

    record->state = state;
    record->requested = (uint32_t)requested;
    record->site = site;
    record->guard = guard_of(cache, object);
    __builtin_memset((char *)object + requested, RED_BYTE, cache->cookie_offset - requested);
}

static void
object_poison(struct qr_cache *cache, void *object)
{
    if (cache->construct == NULL)
        __builtin_memset(object, POISON_BYTE, cache->object_bytes);
}

void
qr_heap_object_made(struct qr_cache *cache, void *object)
{
    object_poison(cache, object);
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

    if (record->state == STATE_FREE && record->guard == guard_of(cache, object))
        qr_panic("heap: %p of cache %s is freed twice, now at 0x%lx, before at 0x%lx", object,
                 cache->name, (unsigned long)site, (unsigned long)record->site);
    object_require(cache, object, false);
    object_poison(cache, object);
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
