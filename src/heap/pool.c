/* SPDX-License-Identifier: MIT */
/*
 * Pools: objects that are set aside so that work which frees memory can always go on.
 *
 * The cache is asked first, so that the reserve is whole when it is needed; what comes back
 * fills the reserve first.  As long as no more objects are out than the reserve had
 * when it was whole, those that are missing from it are at most those that are out: the next
 * request finds one.
 *
 * Locks: pool->lock; the cache is called without it.
 */
#include "heap.h"

struct qr_pool {
    struct qr_spin lock; /* rank LEAF */
    struct qr_cache *cache;
    size_t count, reserve;
    _Atomic size_t out; /* with callers */
    void *object[];
};

/* The reserve's objects, and the pool. */
static void
pool_free(struct qr_pool *pool)
{
    struct qr_heap *heap = pool->cache->heap;

    qr_cache_free_bulk(pool->cache, pool->count, pool->object);
    qr_kfree(heap, pool);
}

enum qr_status
qr_pool_create(struct qr_cache *cache, size_t reserve, struct qr_pool **out_pool)
{
    struct qr_pool *pool;
    size_t bytes;

    if (reserve == 0 || __builtin_mul_overflow(reserve, sizeof(void *), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(*pool), &bytes))
        return QR_ERR_INVALID;
    pool = qr_kmalloc(cache->heap, bytes, QR_ALLOC_ZERO);
    if (pool == NULL)
        return QR_ERR_NO_MEMORY;
    qr_spin_init(&pool->lock, QR_RANK_LEAF);
    pool->cache = cache;
    pool->reserve = reserve;
    pool->count = qr_cache_alloc_bulk(cache, reserve, pool->object, 0);
    if (pool->count < reserve) {
        pool_free(pool);
        return QR_ERR_NO_MEMORY;
    }
    *out_pool = pool;
    return QR_OK;
}

void
qr_pool_destroy(struct qr_pool *pool)
{
    size_t out = atomic_load_explicit(&pool->out, memory_order_relaxed);

    if (out != 0)
        qr_panic("heap: a pool of cache %s is destroyed while %zu of its objects are out; free "
                 "them first",
                 pool->cache->name, out);
    pool_free(pool);
}

static void *
reserve_take(struct qr_pool *pool)
{
    void *object = NULL;

    qr_spin_lock(&pool->lock);
    if (pool->count > 0)
        object = pool->object[--pool->count];
    qr_spin_unlock(&pool->lock);
    return object;
}

void *
qr_pool_alloc(struct qr_pool *pool, unsigned alloc_flags)
{
    void *object = qr_cache_alloc(pool->cache, alloc_flags | QR_ALLOC_NO_REPORT);

    if (object == NULL) {
        object = reserve_take(pool);
        if (object != NULL && (alloc_flags & QR_ALLOC_ZERO) != 0)
            __builtin_memset(object, 0, pool->cache->object_bytes);
    }
    if (object != NULL)
        atomic_fetch_add_explicit(&pool->out, 1, memory_order_relaxed);
    return object;
}

void
qr_pool_free(struct qr_pool *pool, void *object)
{
    bool kept;

    if (atomic_fetch_sub_explicit(&pool->out, 1, memory_order_relaxed) == 0)
        qr_panic("heap: %p is freed to a pool of cache %s that has nothing out", object,
                 pool->cache->name);
    qr_spin_lock(&pool->lock);
    kept = pool->count < pool->reserve;
    for (size_t i = 0; kept && i < pool->count; i++) {
        if (pool->object[i] == object)
            qr_heap_double_free(pool->cache, object);
    }
    if (kept)
        pool->object[pool->count++] = object;
    qr_spin_unlock(&pool->lock);
    if (!kept)
        qr_cache_free(pool->cache, object);
}

size_t
qr_pool_reserve(struct qr_pool *pool)
{
    size_t count;

    qr_spin_lock(&pool->lock);
    count = pool->count;
    qr_spin_unlock(&pool->lock);
    return count;
}
