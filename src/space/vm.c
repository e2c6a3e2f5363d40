/* SPDX-License-Identifier: MIT */
/*
 * What all address spaces of a machine share: the caches of descriptors, the
 * frame of zeroes, the list of spaces, and the hooks.
 *
 * The zero frame is mapped read-only wherever private memory was read and never
 * written.  It is neither counted nor referenced by those entries, so that they
 * cost no shared cache line; it dies with the machine.
 */
#include "region.h"

size_t
qr_vm_size(void)
{
    return sizeof(struct qr_vm);
}

static enum qr_status
vm_create_caches(struct qr_vm *vm)
{
    const struct qr_cache_config regions = {
        .name = "region",
        .object_bytes = sizeof(struct qr_region),
    };
    const struct qr_cache_config spaces = {
        .name = "space",
        .object_bytes = sizeof(struct qr_space),
    };
    enum qr_status status = qr_cache_create(vm->config.heap, &regions, &vm->regions);

    if (status != QR_OK)
        return status;
    status = qr_cache_create(vm->config.heap, &spaces, &vm->spaces);
    if (status != QR_OK)
        (void)qr_cache_destroy(vm->regions);
    return status;
}

void
qr_vm_set_floor(struct qr_vm *vm, qr_va floor)
{
    uintptr_t lowest = vm->config.layout.user_start.v;

    atomic_store_explicit(&vm->floor, qr_max_size(qr_va_page_up(floor.v), lowest),
                          memory_order_relaxed);
}

qr_va
qr_vm_floor(const struct qr_vm *vm)
{
    return qr_va_of(atomic_load_explicit(&vm->floor, memory_order_relaxed));
}

qr_va
qr_space_floor(const struct qr_space *space)
{
    return qr_space_limits(space)->low_addresses ? space->layout.user_start
                                                 : qr_vm_floor(space->vm);
}

enum qr_status
qr_vm_init(struct qr_vm *vm, const struct qr_vm_config *config)
{
    unsigned around = config->fault_around_pages;

    if (config->layout.user_start.v >= config->layout.user_end.v ||
        config->layout.stack_top.v > config->layout.user_end.v || (around & (around - 1)) != 0)
        return QR_ERR_INVALID;
    *vm = (struct qr_vm){.config = *config, .counters = qr_frames_counters(config->frames)};
    qr_huge_init(vm);
    atomic_init(&vm->max_regions, config->max_regions);
    atomic_init(&vm->overcommit, QR_OVERCOMMIT_GUESS);
    atomic_init(&vm->commit_ratio, 50);
    atomic_init(&vm->user_reserve, (size_t)128 << 20);
    atomic_init(&vm->floor, config->layout.user_start.v);
    atomic_init(&vm->swappiness, 60);
    qr_spin_init(&vm->lock, QR_RANK_REGISTRY);
    qr_list_init(&vm->all);
    qr_list_init(&vm->shrinkers);
    vm->zero = qr_frame_alloc(config->frames, QR_ALLOC_ZERO);
    if (vm->zero == NULL)
        return QR_ERR_NO_MEMORY;
    vm->zero_pa = qr_frame_pa(config->frames, vm->zero);

    enum qr_status status = vm_create_caches(vm);

    if (status != QR_OK) {
        qr_frame_put(config->frames, vm->zero);
        return status;
    }
    qr_objects_set_mapping_ops(config->objects, &qr_region_mapping_ops);
    qr_objects_set_promise_check(config->objects, qr_commit_allows_page, vm);
    qr_objects_set_swap(config->objects, config->swap);
    return QR_OK;
}

size_t
qr_vm_fini(struct qr_vm *vm)
{
    size_t alive = vm->space_count;

    if (alive > 0)
        return alive;
    (void)qr_cache_destroy(vm->regions);
    (void)qr_cache_destroy(vm->spaces);
    qr_frame_put(vm->config.frames, vm->zero);
    qr_huge_fini(vm);
    return 0;
}

void
qr_vm_set_fault_hook(struct qr_vm *vm, qr_fault_hook hook)
{
    vm->fault_hook = hook;
}

void
qr_vm_set_limits_hook(struct qr_vm *vm, qr_limits_hook hook)
{
    vm->limits_hook = hook;
}

void
qr_vm_set_file_ops(struct qr_vm *vm, const struct qr_file_ops *ops)
{
    vm->file_ops = *ops;
}
