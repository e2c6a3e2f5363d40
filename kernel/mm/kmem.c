/* SPDX-License-Identifier: MIT */
/*
 * The heap in the kernel's terms.
 *
 * kmem_*() is the library's kmalloc with the refusal hook in front.  Blocks whose
 * size a program chooses may be megabytes: kvmem_*() takes those out of scattered
 * frames, in the address range of the kernel heap, so that they need no run of
 * free frames.  A block's address says which of the two it is.
 */
#include "arch.h"
#include "memory.h"
#include "mm.h"
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
