/* SPDX-License-Identifier: MIT */
/*
 * Huge pages for programs that did not ask: who gets them, and of what.
 *
 * A huge page is a leaf of the format's first large level: 2 MiB nearly everywhere, 4 MiB on
 * two-level x86, 32 MiB with AArch64's 16 KiB pages.  With 64 KiB pages it would be 512 MiB, which
 * no fault should clear: there are none then.
 *
 * Its frames come from the allocator as one block and are single frames from then on (large.c).
 * Taking the block never touches the reserve: the small page that is used instead is good enough.
 * Whether frames are moved to make room is the policy's word (defrag).
 *
 * Shared memory has huge pages where its object has (object/huge.c), and shows them where its
 * place is aligned like the object's.
 *
 * The huge frame of zeroes is made by the first fault that could show it, and stays.
 *
 * Locks: the policy is atomic; huge_zero is set once, under vm->lock.
 */
#include "region.h"

void
qr_huge_init(struct qr_vm *vm)
{
    struct qr_format_info info;
    unsigned level = 1;

    atomic_init(&vm->huge_zero, NULL);
    atomic_init(&vm->huge_zero_pa, HUGE_ZERO_NONE);
    atomic_init(&vm->huge_mode, QR_HUGE_NEVER);
    atomic_init(&vm->huge_defrag, QR_DEFRAG_ADVISED);
    atomic_init(&vm->huge_zero_page, true);
    qr_format_info(vm->config.format, &info);
    while (level < info.levels && (info.leaf_levels >> level & 1) == 0)
        level++;
    if (level == info.levels)
        return;
    unsigned shift = qr_format_shift(vm->config.format, level);

    if (shift > QR_PAGE_SHIFT && shift - QR_PAGE_SHIFT <= QR_ORDER_MAX &&
        1u << (shift - QR_PAGE_SHIFT) <= HUGE_PAGES_MAX) {
        vm->huge_level = level;
        vm->huge_bytes = (size_t)1 << shift;
    }
}

void
qr_huge_fini(struct qr_vm *vm)
{
    struct qr_frame *zero = atomic_load(&vm->huge_zero);

    if (zero != NULL)
        qr_frame_put(vm->config.frames, zero);
}

/* ---- Policy ---------------------------------------------------------------------- */

void
qr_vm_set_huge_policy(struct qr_vm *vm, const struct qr_huge_policy *policy)
{
    atomic_store_explicit(&vm->huge_mode, (unsigned)policy->mode, memory_order_relaxed);
    atomic_store_explicit(&vm->huge_defrag, (unsigned)policy->defrag, memory_order_relaxed);
    atomic_store_explicit(&vm->huge_zero_page, policy->zero_page, memory_order_relaxed);
}

struct qr_huge_policy
qr_vm_huge_policy(const struct qr_vm *vm)
{
    return (struct qr_huge_policy){
        .mode = (enum qr_huge_mode)atomic_load_explicit(&vm->huge_mode, memory_order_relaxed),
        .defrag = (enum qr_huge_defrag)atomic_load_explicit(&vm->huge_defrag, memory_order_relaxed),
        .zero_page = atomic_load_explicit(&vm->huge_zero_page, memory_order_relaxed),
    };
}

size_t
qr_vm_huge_bytes(const struct qr_vm *vm)
{
    return vm->huge_bytes;
}

void
qr_space_set_huge_disabled(struct qr_space *space, bool disabled)
{
    atomic_store_explicit(&space->huge_disabled, disabled, memory_order_relaxed);
}

bool
qr_space_huge_disabled(const struct qr_space *space)
{
    return atomic_load_explicit(&space->huge_disabled, memory_order_relaxed);
}

/* A shared mapping of shared memory whose blocks lie on borders of blocks. */
static bool
huge_may_be_shared(const struct qr_region *region)
{
    size_t skew = (region->start.v >> QR_PAGE_SHIFT) - region->object_page;

    return qr_region_is_shared(region) && qr_object_may_be_huge(region->object) &&
           (skew & (qr_vm_huge_pages(region->space->vm) - 1)) == 0;
}

bool
qr_region_may_be_huge(const struct qr_region *region)
{
    if (region->listener != NULL) /* it is told of pages one by one */
        return false;
    return region->space->vm->huge_bytes != 0 &&
           (qr_region_is_anonymous(region) || huge_may_be_shared(region)) &&
           (region->flags & (QR_REGION_NO_HUGE | QR_REGION_DROPPABLE)) == 0 &&
           !qr_space_huge_disabled(region->space);
}

/* Does the policy have it so? */
static bool
huge_is_wanted(const struct qr_region *region)
{
    unsigned mode = atomic_load_explicit(&region->space->vm->huge_mode, memory_order_relaxed);
    bool advised = (region->flags & QR_REGION_HUGE) != 0;

    if (!qr_region_is_anonymous(region))
        return qr_region_is_shared(region) && qr_object_wants_huge(region->object, advised);
    return mode == QR_HUGE_ALWAYS || (mode == QR_HUGE_ADVISED && advised);
}

bool
qr_region_is_huge_eligible(const struct qr_region *region)
{
    const struct qr_vm *vm = region->space->vm;

    if (!huge_is_wanted(region) || !qr_region_may_be_huge(region))
        return false;
    uintptr_t first = (region->start.v + vm->huge_bytes - 1) & ~(vm->huge_bytes - 1);

    return first >= region->start.v && first < region->end.v &&
           region->end.v - first >= vm->huge_bytes;
}

/* ---- Frames ---------------------------------------------------------------------- */

static struct qr_frame *
huge_block(struct qr_vm *vm, const struct qr_huge_request *request)
{
    unsigned order = (unsigned)__builtin_ctzl(qr_vm_huge_pages(vm));
    unsigned care = request->effort == QR_HUGE_COMPACT ? 0 : (unsigned)QR_ALLOC_OPPORTUNE;
    struct qr_mempolicy *policy = request->policy;

    return qr_frame_alloc_policy(
        vm->config.frames, policy == NULL ? NULL : &policy->policy, request->place >> order, order,
        request->alloc_flags | care | QR_ALLOC_NO_REPORT | QR_ALLOC_MOVABLE | QR_ALLOC_HIGH);
}

struct qr_frame *
qr_huge_alloc(struct qr_vm *vm, const struct qr_huge_request *request)
{
    struct qr_frame *head = huge_block(vm, request);

    if (head != NULL)
        qr_frame_split_block(vm->config.frames, head);
    return head;
}

bool
qr_huge_zero_ready(struct qr_vm *vm)
{
    if (atomic_load_explicit(&vm->huge_zero, memory_order_acquire) != NULL)
        return true;
    const struct qr_huge_request request = {.alloc_flags = QR_ALLOC_ZERO};
    struct qr_frame *mine = huge_block(vm, &request);

    if (mine == NULL) {
        qr_counter_add(vm->counters, QR_EVENT_THP_ZERO_FAIL, 1);
        return false;
    }
    qr_counter_add(vm->counters, QR_EVENT_THP_ZERO, 1);
    qr_spin_lock(&vm->lock);
    bool first = atomic_load_explicit(&vm->huge_zero, memory_order_relaxed) == NULL;

    if (first) {
        atomic_store_explicit(&vm->huge_zero_pa, qr_frame_pa(vm->config.frames, mine).v,
                              memory_order_relaxed);
        atomic_store_explicit(&vm->huge_zero, mine, memory_order_release);
    }
    qr_spin_unlock(&vm->lock);
    if (!first)
        qr_frame_put(vm->config.frames, mine);
    return true;
}
