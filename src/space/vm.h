/* SPDX-License-Identifier: MIT */
#ifndef QR_SPACE_VM_H
#define QR_SPACE_VM_H

/* What all spaces of a machine share. */

#include <quire/assert.h>
#include <quire/shrink.h>
#include <quire/space.h>

struct qr_vm {
    struct qr_vm_config config;   /* fixed */
    struct qr_counters *counters; /* fixed */
    struct qr_cache *regions;     /* fixed: struct qr_region */
    struct qr_cache *spaces;      /* fixed: struct qr_space */
    struct qr_frame *zero;        /* fixed: what untouched private memory reads as */
    qr_pa zero_pa;                /* fixed */
    _Atomic uint64_t
        huge_zero_pa; /* of the huge frame of zeroes; HUGE_ZERO_NONE before there is one */
    struct qr_file_ops file_ops; /* fixed after start-up */
    qr_fault_hook fault_hook;    /* fixed after start-up; may be NULL */
    qr_limits_hook limits_hook;  /* fixed after start-up; may be NULL */
    unsigned huge_level;         /* fixed: of the leaves that are huge pages; 0: there are none */
    size_t huge_bytes;           /* fixed */
    struct qr_frame *_Atomic huge_zero;
    _Atomic unsigned huge_mode;   /* enum qr_huge_mode */
    _Atomic unsigned huge_defrag; /* enum qr_huge_defrag */
    _Atomic bool huge_zero_page;
    _Atomic size_t max_regions;
    _Atomic unsigned overcommit; /* enum qr_overcommit */
    _Atomic unsigned commit_ratio;
    _Atomic size_t commit_limit_bytes;
    _Atomic size_t user_reserve, admin_reserve; /* bytes; see struct qr_commit_policy */
    _Atomic uintptr_t floor;                    /* see qr_vm_set_floor() */
    _Atomic unsigned swappiness;
    struct qr_spin lock;      /* V: the list of spaces */
    struct qr_list all;       /* V */
    size_t space_count;       /* V */
    struct qr_list shrinkers; /* fixed after start-up: struct qr_shrinker */
    struct qr_shrinker lazy_shrinker, swap_shrinker;
    _Atomic uint64_t swap_space; /* id of the space where swapping out goes on */
};

#define HUGE_ZERO_NONE UINT64_MAX

/* Whether equal pages may be merged at all. */
#ifdef CONFIG_MERGE
#define QR_HAS_MERGE true
#else
#define QR_HAS_MERGE false
#endif

/* Which of qr_space.resident[] a frame counts in. */
enum { QR_RESIDENT_ANON, QR_RESIDENT_FILE, QR_RESIDENT_SHMEM };

#define QR_PROT_RWX ((unsigned)QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC)

/* As qr_space_create(), but nobody finds the space until qr_space_publish(). */
QR_MUST_USE enum qr_status qr_space_make(struct qr_vm *vm, struct qr_space **out_space);
void qr_space_publish(struct qr_space *space);

/* A reference, unless the last one has gone: for who holds vm->lock. */
bool qr_space_try_get(struct qr_space *space);

/*
 * Where a scan of all spaces, in the order of their ids, goes on: the space *@io_id with what lies from
 * *@io_at on, or the one after it where that is 0 or it has gone.  With a reference; NULL: that was all.
 */
struct qr_space *qr_space_scan(struct qr_vm *vm, uint64_t *io_id, qr_va *io_at);
/* The living space of that id with a reference, or NULL. */
struct qr_space *qr_space_by_id(struct qr_vm *vm, uint64_t id);

static inline struct qr_space *
qr_space_of_link(struct qr_list *link)
{
    return qr_list_entry(link, struct qr_space, link);
}

/* What binds the running thread in @space. */
static inline const struct qr_space_limits *
qr_space_limits(const struct qr_space *space)
{
    qr_limits_hook hook = space->vm->limits_hook;
    const struct qr_space_limits *limits = hook == NULL ? NULL : hook();

    return limits == NULL ? &space->limits : limits;
}

static inline size_t
qr_vm_guard_bytes(const struct qr_vm *vm)
{
    return vm->config.stack_guard_pages << QR_PAGE_SHIFT;
}

static inline size_t
qr_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t
qr_max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline struct qr_va_range
qr_range_of(uintptr_t start, uintptr_t end)
{
    return (struct qr_va_range){qr_va_of(start), qr_va_of(end)};
}

/* The largest huge page, in frames: what a fault clears at once and a cursor covers. 512 MiB of 64 KiB. */
#define HUGE_PAGES_MAX 8192u

static inline size_t
qr_vm_huge_pages(const struct qr_vm *vm)
{
    return vm->huge_bytes >> QR_PAGE_SHIFT;
}

/* Whether @leaf shows zeroes that belong to nobody. */
static inline bool
qr_leaf_is_zero(const struct qr_vm *vm, const struct qr_leaf *leaf)
{
    return leaf->pa.v == vm->zero_pa.v ||
           (leaf->level > 0 &&
            leaf->pa.v == atomic_load_explicit(&vm->huge_zero_pa, memory_order_relaxed));
}

/* The address behind @entry. */
static inline uintptr_t
qr_entry_end(const struct qr_tables *tables, const struct qr_entry *entry)
{
    if (qr_likely(entry->level == 0))
        return entry->start.v + QR_PAGE_SIZE;
    return entry->start.v + ((uintptr_t)1 << qr_format_shift(tables->format, entry->level));
}

/* Charge @space's group for a structure of @bytes; true, and nothing, without one.  Any context. */
QR_MUST_USE bool qr_space_charge(struct qr_space *space, size_t bytes,
                                 struct qr_charge *out_charge);
/* Has the group refused something since this was asked last? */
bool qr_space_was_refused(struct qr_space *space);
/* @from goes, which a call on @to has made: what it was refused counts for that. */
void qr_space_pass_refusals(struct qr_space *from, struct qr_space *to);
static inline void
qr_space_refused(struct qr_space *space)
{
    atomic_store_explicit(&space->tables.refused, true, memory_order_relaxed);
}

void qr_space_add_stat_slowly(struct qr_space *space, enum qr_group_stat stat, size_t count);

/* Count what happened in @space for its group, where it has one. */
static inline void
qr_space_add_stat(struct qr_space *space, enum qr_group_stat stat, size_t count)
{
    if (qr_unlikely(atomic_load_explicit(&space->group, memory_order_relaxed) != NULL))
        qr_space_add_stat_slowly(space, stat, count);
}

/* Sample the resident pages into the peak, before they shrink. */
void qr_space_note_peak(struct qr_space *space);

#endif
