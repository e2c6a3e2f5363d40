/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_MEMORY_H
#define KERNEL_MEMORY_H

/**
 * @file
 * The kernel's one instance of the library: made by memory_init() in this
 * order, and reached through here by everyone else.
 */

#include <quire/quire.h>
#include <quire/vmalloc.h>

#include <platform.h>

struct memory {
    struct qr_frames *frames;
    struct qr_heap *heap;
    struct qr_epoch epoch;
    struct qr_tlb *tlb;
    struct qr_tables kernel_tables; /**< upper half: shared by every space */
    struct qr_tlb_space kernel_space;
    struct qr_vmalloc *areas[KERNEL_AREA_COUNT];
    struct qr_groups *groups;
    struct qr_swap *swap;
    struct qr_objects *objects;
    struct qr_vm *vm;
    struct qr_hugetlb *hugetlb; /**< pools of huge pages */
};

extern struct memory memory;

/** Frames, heap, kernel tables, objects, spaces; boot CPU, panics where it cannot work. */
void memory_init(void);

/** Return slabs without objects and unused kernel stacks.  Thread context.  @return frames */
size_t memory_give_back_idle(void);

/** The running CPU takes part in shootdowns from now on. */
void memory_cpu_online(void);

/** The kernel address of physical memory. */
static inline void *
direct_map(uint64_t pa)
{
    return qr_port_window_open(qr_pa_of(pa));
}

/** From the timer interrupt: release what lock-free readers can no longer see. */
void memory_tick(void);

/** From the same, on the boot CPU: kernel/mm/heap_watch.c. */
void memory_tick_heap(void);

/** Names for the heap's reports, and guarded blocks; once the kernel's areas are there. */
void memory_watch_heap(void);

/** What the heap knows about an address at which the kernel faulted, into the log. */
void memory_explain_fault(uintptr_t va);

/** Threads that look after memory; once the scheduler runs threads. */
void memory_start_background(void);

/** How far node @p to is from node @p from, as in ACPI's SLIT. */
unsigned memory_distance(unsigned from, unsigned to);

/** The dense node number of a proximity domain of the ACPI tables; 0 for one without memory. */
unsigned memory_node_of_domain(uint32_t domain);

/** The proximity domain that became @p node.  @return false where none did */
bool memory_domain_of_node(unsigned node, uint32_t *out_domain);

/** The node of the CPU with the firmware's identifier @p id; 0 where nobody said. */
unsigned memory_node_of_cpu(uint64_t id);

/** Whether @p domain has memory, and so a node. */
bool memory_domain_exists(uint32_t domain);

#endif
