/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_WALK_H
#define QUIRE_TABLE_WALK_H

/*
 * The walker's instances; walk_base.h has the theory.
 */

#include "table/walk_copy.h"

/* Defines qr_format_<name> from its traits, a constant of this file. */
#define WALK_INSTANTIATE(name, traits_)                                                            \
    static void name##_open(struct qr_cursor *c, struct qr_tables *tables,                         \
                            struct qr_va_range range, struct qr_tlb_batch *batch)                  \
    {                                                                                              \
        walk_open(&traits_, c, tables, range, batch);                                              \
    }                                                                                              \
    static QR_NOINLINE struct qr_entry name##_query_far(struct qr_cursor *c, qr_va va)             \
    {                                                                                              \
        return walk_query_far(&traits_, c, va);                                                    \
    }                                                                                              \
    static struct qr_entry name##_query(struct qr_cursor *c, qr_va va)                             \
    {                                                                                              \
        return walk_is_near(c, 0) ? walk_query_near(&traits_, c, va) : name##_query_far(c, va);    \
    }                                                                                              \
    static bool name##_find(struct qr_cursor *c, qr_va from, struct qr_entry *out_entry)           \
    {                                                                                              \
        return walk_find(&traits_, c, from, out_entry);                                            \
    }                                                                                              \
    static QR_NOINLINE enum qr_status name##_prepare_far(struct qr_cursor *c, qr_va va,            \
                                                         unsigned level)                           \
    {                                                                                              \
        return walk_prepare(&traits_, c, va, level);                                               \
    }                                                                                              \
    static enum qr_status name##_prepare(struct qr_cursor *c, qr_va va, unsigned level)            \
    {                                                                                              \
        return walk_is_near(c, level) ? QR_OK : name##_prepare_far(c, va, level);                  \
    }                                                                                              \
    static QR_NOINLINE void name##_map_far(struct qr_cursor *c, qr_va va,                          \
                                           const struct qr_leaf *leaf)                             \
    {                                                                                              \
        walk_map_far(&traits_, c, va, leaf);                                                       \
    }                                                                                              \
    static void name##_map(struct qr_cursor *c, qr_va va, const struct qr_leaf *leaf)              \
    {                                                                                              \
        if (walk_is_near(c, leaf->level))                                                          \
            walk_map_near(&traits_, c, va, leaf);                                                  \
        else                                                                                       \
            name##_map_far(c, va, leaf);                                                           \
    }                                                                                              \
    static void name##_mark(struct qr_cursor *c, qr_va va, unsigned level, struct qr_mark mark)    \
    {                                                                                              \
        walk_mark(&traits_, c, va, level, mark);                                                   \
    }                                                                                              \
    static struct qr_entry name##_unmap(struct qr_cursor *c, qr_va va)                             \
    {                                                                                              \
        return walk_unmap(&traits_, c, va);                                                        \
    }                                                                                              \
    static struct qr_entry name##_replace(struct qr_cursor *c, qr_va va,                           \
                                          const struct qr_leaf *leaf)                              \
    {                                                                                              \
        return walk_replace(&traits_, c, va, leaf);                                                \
    }                                                                                              \
    static void name##_update(struct qr_cursor *c, qr_va va, unsigned prot, unsigned set_flags,    \
                              unsigned clear_flags)                                                \
    {                                                                                              \
        walk_update(&traits_, c, va, prot, set_flags, clear_flags);                                \
    }                                                                                              \
    static enum qr_status name##_split(struct qr_cursor *c, qr_va va)                              \
    {                                                                                              \
        return walk_split(&traits_, c, va);                                                        \
    }                                                                                              \
    static void name##_unmap_range(struct qr_cursor *c, struct qr_va_range range, qr_unmap_fn fn,  \
                                   void *context)                                                  \
    {                                                                                              \
        walk_unmap_range(&traits_, c, range, fn, context);                                         \
    }                                                                                              \
    static void name##_protect_range(struct qr_cursor *c, struct qr_va_range range, unsigned prot, \
                                     uint8_t pkey, qr_may_write_fn may_write, void *context)       \
    {                                                                                              \
        walk_protect_range(&traits_, c, range, prot, pkey, may_write, context);                    \
    }                                                                                              \
    static enum qr_status name##_copy_range(struct qr_cursor *from, struct qr_cursor *to,          \
                                            struct qr_va_range range,                              \
                                            const struct qr_copy_ops *ops, void *context)          \
    {                                                                                              \
        return walk_copy_range(&traits_, from, to, range, ops, context);                           \
    }                                                                                              \
    static enum qr_status name##_move_prepare(struct qr_tables *tables, struct qr_va_range range,  \
                                              qr_va to)                                            \
    {                                                                                              \
        return walk_move_prepare(&traits_, tables, range, to);                                     \
    }                                                                                              \
    static void name##_move(struct qr_tables *tables, struct qr_va_range range, qr_va to,          \
                            struct qr_tlb_batch *batch, qr_move_fn fn, void *context)              \
    {                                                                                              \
        walk_move_range(&traits_, tables, range, to, batch, fn, context);                          \
    }                                                                                              \
    WALK_VARIANT(name, name, traits_)

/* Defines qr_format_<name> with the code of <base>, whose traits differ in nothing that it folds. */
#define WALK_VARIANT(name, base, traits_)       \
    const struct qr_format qr_format_##name = { \
        .traits = &traits_,                     \
        .open = base##_open,                    \
        .query = base##_query,                  \
        .find = base##_find,                    \
        .prepare = base##_prepare,              \
        .map = base##_map,                      \
        .mark = base##_mark,                    \
        .unmap = base##_unmap,                  \
        .replace = base##_replace,              \
        .update = base##_update,                \
        .split = base##_split,                  \
        .unmap_range = base##_unmap_range,      \
        .protect_range = base##_protect_range,  \
        .copy_range = base##_copy_range,        \
        .move_prepare = base##_move_prepare,    \
        .move = base##_move,                    \
    };

#endif
