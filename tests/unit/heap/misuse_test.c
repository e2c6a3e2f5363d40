/* SPDX-License-Identifier: MIT */
/*
 * Programs that misuse the heap (T9): each must stop, and say what was wrong.  What lies
 * outside CONFIG_MEMORY_DEBUGGING is caught in release builds too.
 */
#include "rig.h"

#include <quire/writer.h>

#include "heap/heap.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

struct bench death;
char *victim;

MISUSE(double_free, 64, "freed twice")
{
    qr_kfree(death.heap, victim);
    qr_kfree(death.heap, victim);
}

/* The victim ends up deep in the depot or in its slab. */
MISUSE(double_free_much_later, 64, "freed twice")
{
    void *others[500];

    for (unsigned i = 0; i < 500; i++)
        others[i] = qr_kmalloc(death.heap, 64, 0);
    qr_kfree(death.heap, victim);
    for (unsigned i = 0; i < 500; i++)
        qr_kfree(death.heap, others[i]);
    qr_kfree(death.heap, victim);
}

MISUSE(double_free_of_a_large_block, 70000, "no block of this heap")
{
    qr_kfree(death.heap, victim);
    qr_kfree(death.heap, victim);
}

MISUSE(free_of_the_inside, 64, "inside")
{
    qr_kfree(death.heap, victim + 8);
}

MISUSE(free_of_the_inside_of_a_large_block, 70000, "no block of this heap")
{
    qr_kfree(death.heap, victim + 4096);
}

MISUSE(free_of_a_frame_that_is_no_block, 64, "no block of this heap")
{
    struct qr_frame *frame = qr_frame_alloc(death.machine->frames, 0);

    qr_kfree(death.heap, qr_port_window_open(qr_frame_pa(death.machine->frames, frame)));
}

MISUSE(free_of_a_pointer_from_elsewhere, 64, "no block of this heap")
{
    qr_kfree(death.heap, (char *)death.machine->frames + 64);
}

MISUSE(free_to_the_wrong_cache, 64, "belongs to")
{
    struct qr_cache *cache = NULL;
    struct qr_cache_config config = {.name = "other", .object_bytes = 64};

    if (qr_cache_create(death.heap, &config, &cache) == QR_OK)
        qr_cache_free(cache, victim);
    (void)qr_cache_destroy(cache);
}

#ifdef CONFIG_MEMORY_DEBUGGING
MISUSE(overflow_by_one, 61, "past its end")
{
    victim[61] = 1;
    qr_kfree(death.heap, victim);
}

MISUSE(overflow_into_the_record, 64, "past its end")
{
    memset(victim, 1, 64 + 24);
    qr_kfree(death.heap, victim);
}

MISUSE(use_after_free, 64, "after it was freed")
{
    qr_kfree(death.heap, victim);
    victim[5] = 1;
    (void)qr_kmalloc(death.heap, 64, 0);
}

#endif

/* ---- further ways ------------------------------------------------------------ */

MISUSE(double_free_by_another_cpu, 64, "freed twice")
{
    qr_kfree(death.heap, victim);
    machine_enter(death.machine, 1);
    qr_kfree(death.heap, victim);
}

MISUSE(double_free_with_a_size, 64, "freed twice")
{
    qr_kfree_sized(death.heap, victim, 64);
    qr_kfree_sized(death.heap, victim, 64);
}

MISUSE(double_free_in_one_bulk, 64, "freed twice")
{
    void *blocks[3] = {victim, qr_kmalloc(death.heap, 64, 0), victim};

    qr_kfree_bulk(death.heap, 3, blocks);
}

MISUSE(double_free_of_half_a_page, 2048, "freed twice")
{
    qr_kfree(death.heap, victim);
    qr_kfree(death.heap, victim);
}

MISUSE(double_free_of_a_dma_block, 64, "freed twice")
{
    void *block = qr_kmalloc_dma(death.heap, 100, 0);

    qr_kfree(death.heap, block);
    qr_kfree(death.heap, block);
}

static struct qr_cache *
death_cache(size_t bytes, void (*construct)(void *))
{
    struct qr_cache *cache = NULL;
    struct qr_cache_config config = {
        .name = "victims", .object_bytes = bytes, .construct = construct};

    return qr_cache_create(death.heap, &config, &cache) == QR_OK ? cache : NULL;
}

MISUSE(double_free_of_an_object, 64, "freed twice")
{
    struct qr_cache *cache = death_cache(40, NULL);
    void *object = qr_cache_alloc(cache, 0);

    qr_cache_free(cache, object);
    qr_cache_free(cache, object);
}

static void
construct_nothing(void *object)
{
    *(char *)object = 1;
}

MISUSE(double_free_of_a_constructed_object, 64, "freed twice")
{
    struct qr_cache *cache = death_cache(40, construct_nothing);
    void *object = qr_cache_alloc(cache, 0);

    qr_cache_free(cache, object);
    qr_cache_free(cache, object);
}

MISUSE(double_free_of_objects_in_bulk, 64, "freed twice")
{
    struct qr_cache *cache = death_cache(40, NULL);
    void *objects[2] = {qr_cache_alloc(cache, 0), NULL};

    objects[1] = objects[0];
    qr_cache_free_bulk(cache, 2, objects);
}

/* 100 bytes are of class 112: its blocks are aligned to 16 only. */
MISUSE(free_of_the_inside_by_its_alignment, 100, "inside")
{
    qr_kfree(death.heap, victim + 16);
}

MISUSE(free_of_the_inside_of_many_pages, 10000, "inside")
{
    qr_kfree(death.heap, victim + 4096);
}

MISUSE(free_of_the_inside_with_a_size, 100, "inside")
{
    qr_kfree_sized(death.heap, victim + 32, 60);
}

MISUSE(free_of_the_inside_in_bulk, 100, "inside")
{
    void *blocks[2] = {qr_kmalloc(death.heap, 100, 0), victim + 48};

    qr_kfree_bulk(death.heap, 2, blocks);
}

MISUSE(size_of_a_freed_large_block, 70000, "no block of this heap")
{
    qr_kfree(death.heap, victim);
    (void)qr_ksize(death.heap, victim);
}

MISUSE(resize_of_the_inside, 100, "inside")
{
    (void)qr_krealloc(death.heap, victim + 16, 50, 0);
}

MISUSE(resize_of_a_freed_large_block, 70000, "no block of this heap")
{
    qr_kfree(death.heap, victim);
    (void)qr_krealloc(death.heap, victim, 100, 0);
}

MISUSE(a_size_too_large, 100, "is freed as a block of 200 bytes")
{
    qr_kfree_sized(death.heap, victim, 200);
}

MISUSE(a_size_too_large_for_a_large_block, 70000, "is freed as a block of 80000 bytes")
{
    qr_kfree_sized(death.heap, victim, 80000);
}

MISUSE(an_alignment_that_is_none, 64, "align")
{
    (void)qr_kmalloc_aligned(death.heap, 64, 24, 0);
}

MISUSE(a_cache_of_the_heap_is_destroyed, 64, "in_heap")
{
    (void)qr_cache_destroy(&death.heap->classes[3]);
}

MISUSE(a_pool_is_destroyed_while_objects_are_out, 64, "of its objects are out")
{
    struct qr_pool *pool = NULL;

    if (qr_pool_create(death_cache(64, NULL), 4, &pool) != QR_OK)
        return;
    (void)qr_pool_alloc(pool, 0);
    qr_pool_destroy(pool);
}

MISUSE(too_many_frees_to_a_pool, 64, "nothing out")
{
    struct qr_cache *cache = death_cache(64, NULL);
    struct qr_pool *pool = NULL;

    if (qr_pool_create(cache, 4, &pool) != QR_OK)
        return;
    qr_pool_free(pool, qr_cache_alloc(cache, 0));
}

/* ---- guarded objects: every kind of build -------------------------------------- */

static void
page_protect(void *context, void *page, bool accessible)
{
    (void)context;
    if (mprotect(page, QR_PAGE_SIZE, accessible ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        abort();
}

/* As a kernel's fault handler: ask the heap, then stop. */
static void
on_fault(int number, siginfo_t *info, void *context)
{
    char text[400];
    struct qr_buffer_writer writer;

    (void)number, (void)context;
    qr_buffer_writer_init(&writer, text, sizeof(text));
    if (qr_guard_fault(death.heap, (uintptr_t)info->si_addr, &writer.writer))
        qr_port_panic(text);
    qr_port_panic("a fault that is nobody's");
}

/* A guarded block of @bytes at the end of its page (@at_end) or at the start. */
static char *
guarded(size_t bytes, bool at_end)
{
    const struct qr_guard_config config = {.slots = 8, .interval = 1, .protect = page_protect};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    char *block;

    sigaction(SIGSEGV, &action, NULL);
    if (qr_guard_start(death.heap, &config) != QR_OK)
        abort();
    do {
        /* Each is sampled as soon as it leaves the fast path. */
        size_t before = qr_guard_samples(death.heap);

        do {
            block = qr_kmalloc_flags(death.heap, bytes, 0);
        } while (qr_guard_samples(death.heap) == before);
    } while ((((uintptr_t)block & QR_PAGE_MASK) != 0) != at_end);
    return block;
}

MISUSE(guarded_read_past_the_end, 64, "access out of bounds")
{
    char *block = guarded(64, true);

    (void)*(volatile char *)(block + 64);
}

MISUSE(guarded_write_before_the_start, 64, "access out of bounds")
{
    char *block = guarded(64, false);

    *(volatile char *)(block - 1) = 1;
}

MISUSE(guarded_use_after_free, 64, "use after free")
{
    char *block = guarded(100, true);

    qr_kfree(death.heap, block);
    *(volatile char *)block = 1;
}

MISUSE(guarded_write_behind_the_object, 64, "something wrote past its end")
{
    char *block = guarded(100, false);

    block[100] = 1;
    qr_kfree(death.heap, block);
}

/* Release builds meet the protected page, debug builds the slot's state first. */
#if FREE_BY_PAGE
#define TWICE "use after free"
#else
#define TWICE "freed twice"
#endif
MISUSE(guarded_double_free, 64, TWICE)
{
    char *block = guarded(100, true);

    qr_kfree(death.heap, block);
    qr_kfree(death.heap, block);
}

MISUSE(guarded_free_of_the_inside, 64, "inside the guarded object")
{
    qr_kfree(death.heap, guarded(104, true) + 8);
}

/* ---- debug builds alone ----------------------------------------------------------- */

#ifdef CONFIG_MEMORY_DEBUGGING
MISUSE(a_size_that_is_not_the_one_asked_for, 100, "is freed as a block of 90 bytes")
{
    qr_kfree_sized(death.heap, victim, 90);
}

MISUSE(resize_after_free, 100, "after it was freed")
{
    qr_kfree(death.heap, victim);
    (void)qr_krealloc(death.heap, victim, 110, 0);
}

MISUSE(overflow_of_a_cache_object, 64, "past its end")
{
    struct qr_cache *cache = death_cache(40, NULL);
    char *object = qr_cache_alloc(cache, 0);

    object[40] = 0;
    qr_cache_free(cache, object);
}

MISUSE(a_bent_record, 64, "its record was overwritten")
{
    struct object_record *record =
        qr_heap_record(&death.heap->classes[QR_KMALLOC_CLASS(64)], victim);

    record->site = 1; /* plausible, but the checksum knows */
    qr_kfree(death.heap, victim);
}

MISUSE(use_after_free_of_what_is_in_quarantine, 64, "after it was freed")
{
    (void)qr_heap_debug(death.heap, QR_HEAP_POISON | QR_HEAP_RED_ZONES | QR_HEAP_QUARANTINE);
    qr_kfree(death.heap, victim);
    victim[9] = 1;
    for (unsigned i = 0; i < 2 * QUARANTINE_SLOTS; i++)
        qr_kfree(death.heap, qr_kmalloc(death.heap, 64, 0));
}
#endif
