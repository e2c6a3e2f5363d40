/* SPDX-License-Identifier: MIT */
/*
 * The heap in the kernel's terms.
 *
 * kmem_*() is the library's kmalloc with the refusal hook in front.  Blocks whose
 * size a program chooses may be megabytes: kvmem_*() takes those out of scattered
 * frames, in the address range of the kernel heap, so that they need no run of
 * free frames.  A block's address says which of the two it is.
 *
 * kmem_charged_*() gives blocks that are charged to the group of the thread that asks.  A word in front
 * of the block says to whom and for how much, so whoever frees it takes back exactly that:
 *
 *      [ struct qr_charge | the caller's block ]
 */
#include "arch.h"
#include "memory.h"
#include "mm.h"
#include "proc.h"
#include "refuse.h"

/* Slab classes end here: up to it a block costs no address range. */
#define KVMEM_SMALL_BYTES ((size_t)16 << 10)

/* Allocations are counted to the caller, not to this file. */
#define CALLER() ((uintptr_t)__builtin_return_address(0))

/* With interrupts off nothing may be reclaimed, but a part of the reserve is open. */
static unsigned
heap_flags(void)
{
    return irq_enabled() ? 0 : QR_ALLOC_ATOMIC;
}

void *
kmem_alloc(size_t bytes)
{
    if (refuse_now())
        return NULL;
    return qr_kmalloc_sited(memory.heap, bytes, heap_flags(), CALLER());
}

void *
kmem_zalloc(size_t bytes)
{
    if (refuse_now())
        return NULL;
    return qr_kmalloc_sited(memory.heap, bytes, heap_flags() | QR_ALLOC_ZERO, CALLER());
}

void *
kmem_calloc(size_t count, size_t bytes)
{
    size_t total;

    if (refuse_now() || __builtin_mul_overflow(count, bytes, &total))
        return NULL;
    return qr_kmalloc_sited(memory.heap, total, heap_flags() | QR_ALLOC_ZERO, CALLER());
}

void
kmem_free(void *block)
{
    qr_kfree(memory.heap, block);
}

void *
kvmem_zalloc(size_t bytes)
{
    if (refuse_now())
        return NULL;
    if (bytes <= KVMEM_SMALL_BYTES)
        return qr_kmalloc_sited(memory.heap, bytes, heap_flags() | QR_ALLOC_ZERO, CALLER());
    return qr_vmalloc(memory.areas[KERNEL_AREA_HEAP], bytes, QR_ALLOC_ZERO, "kernel heap");
}

void
kvmem_free(void *block)
{
    if (qr_va_range_contains(platform_area(KERNEL_AREA_HEAP), qr_va_of((uintptr_t)block)))
        qr_vfree(memory.areas[KERNEL_AREA_HEAP], block);
    else
        kmem_free(block);
}

/* ---- charged to groups ----------------------------------------------------------- */

enum { CHARGE_WAITS = 16 }; /* times that one allocation asks for room */

_Static_assert(sizeof(struct qr_charge) == 8, "keeps a block behind it aligned");

/* The space whose group pays; NULL: nobody does. */
static struct qr_space *
payer(void)
{
    const struct thread *thread = thread_current();
    struct qr_space *space = thread == NULL ? NULL : thread->space;

    if (space == NULL || atomic_load_explicit(&space->group, memory_order_relaxed) == NULL)
        return NULL;
    return irq_enabled() ? space : NULL;
}

/* @frame: charge that, or (NULL) @bytes. */
static QR_NOINLINE bool
charge_slowly(struct qr_space *space, enum qr_group_kind kind, size_t bytes,
              struct qr_charge *out_charge, struct qr_frame *frame)
{
    struct qr_group *group = qr_space_group_get(space);
    enum qr_status status = QR_OK;

    for (unsigned waits = 0; group != NULL && waits < CHARGE_WAITS; waits++) {
        status = frame != NULL ? qr_group_charge_kernel(group, frame, 1)
                               : qr_charge_take(group, kind, bytes, out_charge);
        if (status == QR_OK || !qr_group_make_room(group, bytes / QR_PAGE_SIZE + 1))
            break;
    }
    qr_group_put(group);
    return status == QR_OK;
}

bool
kmem_charge(enum qr_group_kind kind, size_t bytes, struct qr_charge *out_charge)
{
    struct qr_space *space = payer();

    *out_charge = (struct qr_charge){0};
    return qr_likely(space == NULL) || charge_slowly(space, kind, bytes, out_charge, NULL);
}

void
kmem_uncharge(struct qr_charge *charge)
{
    qr_charge_drop(memory.groups, charge);
}

struct qr_frame *
kmem_charged_frame(void)
{
    struct qr_frame *frame = refuse_now() ? NULL : qr_frame_alloc(memory.frames, 0);
    struct qr_space *space = payer();

    if (frame != NULL && space != NULL && !charge_slowly(space, QR_GROUP_SLAB, 0, NULL, frame)) {
        qr_frame_put(memory.frames, frame);
        frame = NULL;
    }
    return frame;
}

/* What the heap takes for a block of @bytes. */
static size_t
footprint(size_t bytes)
{
    size_t step = bytes <= 64 ? 8 : (size_t)1 << (QR_KMALLOC_LOG(bytes) - 2);

    if (bytes > KVMEM_SMALL_BYTES)
        step = QR_PAGE_SIZE;
    return (bytes + step - 1) & ~(step - 1);
}

static QR_NOINLINE void *
charged_alloc_large(size_t whole)
{
    struct qr_charge charge, *block;

    if (!kmem_charge(QR_GROUP_VMALLOC, footprint(whole), &charge))
        return NULL;
    block = qr_vmalloc(memory.areas[KERNEL_AREA_HEAP], whole, QR_ALLOC_ZERO, "kernel heap");
    if (block == NULL) {
        kmem_uncharge(&charge);
        return NULL;
    }
    *block = charge;
    return block + 1;
}

static QR_ALWAYS_INLINE void *
charged_alloc(size_t bytes, unsigned alloc_flags, uintptr_t site)
{
    size_t whole = bytes + sizeof(struct qr_charge);
    struct qr_charge charge = {0}, *block;
    struct qr_space *space = payer();

    if (bytes == 0 || whole < bytes || refuse_now())
        return NULL;
    if (qr_unlikely(whole > KVMEM_SMALL_BYTES))
        return charged_alloc_large(whole);
    if (qr_unlikely(space != NULL) &&
        !charge_slowly(space, QR_GROUP_SLAB, footprint(whole), &charge, NULL))
        return NULL;
    block = qr_kmalloc_sited(memory.heap, whole, heap_flags() | alloc_flags, site);
    if (qr_unlikely(block == NULL)) {
        kmem_uncharge(&charge);
        return NULL;
    }
    *block = charge;
    return block + 1;
}

void *
kmem_charged_alloc(size_t bytes)
{
    return charged_alloc(bytes, 0, CALLER());
}

void *
kmem_charged_zalloc(size_t bytes)
{
    return charged_alloc(bytes, QR_ALLOC_ZERO, CALLER());
}

void *
kmem_charged_calloc(size_t count, size_t bytes)
{
    size_t total;

    if (__builtin_mul_overflow(count, bytes, &total))
        return NULL;
    return charged_alloc(total, QR_ALLOC_ZERO, CALLER());
}

void
kmem_charged_free(void *block)
{
    struct qr_charge *charge = block;

    if (block == NULL)
        return;
    kmem_uncharge(--charge);
    kvmem_free(charge);
}
