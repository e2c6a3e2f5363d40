/* SPDX-License-Identifier: MIT */
/*
 * What the tests of tables share: a machine of frames, a tree of any format, and
 * a batch whose flush is the test's own, because the tlb layer is above.
 */
#ifndef TABLE_RIG_H
#define TABLE_RIG_H

#include "harness.h"
#include "table/scan.h"
#include "tests/unit/frame/test_port.h"

extern const struct qr_format *const rig_formats[];
extern const size_t rig_format_count;

/* Run the body once for each format, as `format`. */
#define EVERY_FORMAT(format)                                                            \
    for (size_t format##_at = 0; format##_at < rig_format_count; format##_at++)         \
        for (const struct qr_format *format = rig_formats[format##_at]; format != NULL; \
             format = NULL)

struct rig {
    struct machine *machine;
    const struct qr_format *format;
    walk_format f;
    struct qr_epoch *epoch;
    struct qr_tables tables;
    struct qr_tlb_space space; /* of no tlb */
    struct qr_tlb_batch batch;
    uintptr_t page;     /* bytes of the format's smallest page */
    size_t base_tables; /* that an empty tree has */
    size_t free_frames; /* before the tree was made */
    _Atomic unsigned flushes;
    /* Called for every run that is flushed; NULL: nobody cares. */
    void (*flushed)(struct rig *rig, qr_va start, qr_va last);
    void *context;
};

struct rig *rig_boot(const struct qr_format *format, unsigned cpus);
/* Ends the tree, which must be empty, and looks for leaks. */
void rig_shutdown(struct rig *rig);
void rig_validate(struct rig *rig);
/* Make @batch an empty batch of the rig. */
void rig_batch(struct rig *rig, struct qr_tlb_batch *batch);

/* Whether the format has leaves at @level. */
bool rig_has_leaf(const struct rig *rig, unsigned level);
/* What hardware grants where @prot is asked for. */
unsigned rig_granted(walk_format f, unsigned prot);
/* What becomes of a cacheability and a key. */
uint8_t rig_cache(walk_format f, unsigned cache);
uint8_t rig_key(walk_format f, unsigned pkey);
/* How many tables a tree has with one entry at @level. */
size_t rig_tables(const struct rig *rig, unsigned level);
/* The bytes that an entry of @level maps. */
uintptr_t rig_size(const struct rig *rig, unsigned level);
struct qr_va_range rig_range(uintptr_t start, uintptr_t bytes);
struct qr_leaf rig_leaf(uint64_t pa, unsigned prot, unsigned level);

/* One-operation cursors on the page or entry at @va. */
struct qr_entry rig_query(struct rig *rig, uintptr_t va);
enum qr_status rig_map(struct rig *rig, uintptr_t va, struct qr_leaf leaf);
void rig_unmap(struct rig *rig, struct qr_va_range range);
/* Everything below the kernel's half. */
void rig_unmap_all(struct rig *rig);

void rig_ignore(void *context, const struct qr_entry *entry);

#endif
