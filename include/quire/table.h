/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_H
#define QUIRE_TABLE_H

/**
 * @file
 * Page tables: trees of any hardware format, and the cursor, which is the one
 * way to read or change them.
 *
 * A cursor is a transaction on a range [start, end) of one tree.  It walks down
 * without locks, locks the lowest table that covers more than the range, checks
 * that the table is still attached, and owns the subtree for its range from then
 * on: every table below is locked as the cursor enters it and unlocked as it leaves.
 * Cursors on ranges under different tables run in parallel.  While a cursor is
 * open interrupts are off: open it late, close it soon, cover at most some
 * megabytes, and neither sleep nor allocate with anything but QR_ALLOC_ATOMIC.
 *
 * Prepare may fail and changes nothing that anyone can see; everything after it
 * cannot fail.  What an operation takes out of the hardware's sight is noted in
 * the batch, which flushes it.
 */

#ifndef __cplusplus
#include <quire/batch.h>
#include <quire/epoch.h>
#include <quire/frame.h>
#include <quire/status.h>

struct qr_format; /* one hardware format; src/table/format.h */
struct qr_group;

/**
 * The formats: X(name) for each qr_format_<name>; docs/formats/ has a page for each family.
 * _bbm2: for CPUs with FEAT_BBM at level 2; _basic: for CPUs without NX or Svpbmt.
 */
#define QR_FORMATS(X)                                       \
    X(x86_32)  /* 2 levels, 4 MiB pages, no NX */           \
    X(x86_pae) /* 3 levels, 52 physical bits, NX */         \
    X(x86_pae_basic)                                        \
    X(x86_64)         /* 4 levels, 48 bits */               \
    X(x86_64_la57)    /* 5 levels, 57 bits */               \
    X(aarch64_4k)     /* 4 levels, 48 bits */               \
    X(aarch64_4k_39)  /* 3 levels, 39 bits */               \
    X(aarch64_4k_52)  /* 5 levels, 52 bits (LPA2) */        \
    X(aarch64_16k)    /* 3 levels, 47 bits */               \
    X(aarch64_16k_48) /* 4 levels, 48 bits */               \
    X(aarch64_16k_52) /* 4 levels, 52 bits (LPA2) */        \
    X(aarch64_64k)    /* 3 levels, 48 bits */               \
    X(aarch64_64k_42) /* 2 levels, 42 bits */               \
    X(aarch64_64k_52) /* 3 levels, 52 bits (LVA and LPA) */ \
    X(aarch64_4k_bbm2)                                      \
    X(aarch64_4k_39_bbm2)                                   \
    X(aarch64_4k_52_bbm2)                                   \
    X(aarch64_16k_bbm2)                                     \
    X(aarch64_16k_48_bbm2)                                  \
    X(aarch64_16k_52_bbm2)                                  \
    X(aarch64_64k_bbm2)                                     \
    X(aarch64_64k_42_bbm2)                                  \
    X(aarch64_64k_52_bbm2)                                  \
    X(riscv64_sv39) /* 3 levels */                          \
    X(riscv64_sv48) /* 4 levels */                          \
    X(riscv64_sv57) /* 5 levels */                          \
    X(riscv64_sv39_basic)                                   \
    X(riscv64_sv48_basic)                                   \
    X(riscv64_sv57_basic)                                   \
    X(scrambled) /* no hardware: for tests */

#define QR_FORMAT_DECLARE(name) extern const struct qr_format qr_format_##name;
QR_FORMATS(QR_FORMAT_DECLARE)

/** What MAIR_EL1 holds while tables of an aarch64 format are in use: write-back, write-through,
 *  write-combining, device, and write-back again for QR_PROT_TAGGED.  A CPU with MTE takes
 *  QR_AARCH64_MAIR_TAGGED. */
#define QR_AARCH64_MAIR        ((uint64_t)0x000000ff0444bbff)
#define QR_AARCH64_MAIR_TAGGED ((uint64_t)0x000000f00444bbff)

#define QR_LEVELS_MAX 5

/** How the addresses of users and of the kernel share roots. */
enum qr_roots {
    QR_ROOTS_SIGNED, /**< one root: a lower half and a sign-extended upper half */
    QR_ROOTS_FLAT,   /**< one root, no sign: the kernel's part starts at a split (3 GiB) */
    QR_ROOTS_TWO,    /**< a root each, of va_bits each: users from 0 up, the kernel at the top */
};

/** What callers may know of a format. */
struct qr_format_info {
    const char *name;
    unsigned levels;      /**< of tables; level 0 maps the smallest page */
    unsigned page_shift;  /**< of level 0 */
    unsigned leaf_levels; /**< bit L set: a leaf may stand at level L */
    unsigned va_bits, pa_bits;
    unsigned mark_bits;  /**< bits of a mark's value that survive */
    unsigned prot_mask;  /**< enum qr_prot bits that survive */
    unsigned cache_mask; /**< bit C set: cacheability C exists; another becomes a weaker one */
    enum qr_roots roots;
    uint8_t group_bits[QR_LEVELS_MAX]; /**< by level: log2 of a group's leaves; 0: no groups */
    bool no_execute, protection_keys;
    bool hardware_access_dirty; /**< false: only some CPUs set them, for others a fault handler */
};
void qr_format_info(const struct qr_format *format, struct qr_format_info *out_info);

/** log2 of the bytes that one entry at @p level maps. */
unsigned qr_format_shift(const struct qr_format *format, unsigned level);

/** Bits that hardware or upper layers keep in a leaf. */
enum qr_leaf_flag {
    QR_LEAF_ACCESSED = 1 << 0,
    QR_LEAF_DIRTY = 1 << 1,
    QR_LEAF_SOFT_1 = 1 << 2, /**< soft-dirty */
    QR_LEAF_SOFT_2 = 1 << 3, /**< write-protected for userfaultfd */

    QR_LEAF_WRITTEN = QR_LEAF_DIRTY | QR_LEAF_SOFT_1, /**< what a store leaves behind */
};

struct qr_leaf {
    qr_pa pa;
    unsigned prot;  /**< enum qr_prot bits */
    unsigned flags; /**< enum qr_leaf_flag bits */
    uint8_t level;  /**< 0: smallest page */
    uint8_t cache;  /**< enum qr_cacheability */
    uint8_t pkey;   /**< protection key; 0 where the format has none */
};

/** Typed software entries: what a not-present entry means. */
enum qr_mark_kind {
    QR_MARK_NONE = 0,
    QR_MARK_GUARD,         /**< any access is an error */
    QR_MARK_SWAP,          /**< value: swap slot */
    QR_MARK_MIGRATING,     /**< value: frame number; wait until it is replaced */
    QR_MARK_POISON,        /**< the frame had a memory error */
    QR_MARK_WRITE_PROTECT, /**< no page yet; userfaultfd wants to know of writes */
    QR_MARK_KIND_COUNT,
};

struct qr_mark {
    enum qr_mark_kind kind;
    uint64_t value;
};

enum qr_entry_kind { QR_ENTRY_NONE, QR_ENTRY_LEAF, QR_ENTRY_MARK };

struct qr_entry {
    enum qr_entry_kind kind;
    unsigned level; /**< of the entry that answers; NONE: the empty entry's level */
    qr_va start;    /**< first address that this entry covers */
    struct qr_leaf leaf;
    struct qr_mark mark;
};

/** One tree of tables.  Embedded in its owner (a space, the kernel). */
struct qr_tables {
    const struct qr_format *format; /* fixed */
    struct qr_frames *frames;       /* fixed */
    struct qr_epoch *epoch;         /* fixed; retired tables go through it */
    struct qr_frame *root;          /* fixed */
    qr_pa root_pa;                  /* fixed */
    bool upper_shared;              /* fixed; the root's upper half is the kernel's */
    uintptr_t lower_end;            /* fixed; end of the users' addresses; 0: it has none */
    uintptr_t upper_start;          /* fixed; start of the kernel's addresses; 0: it has none */
    _Atomic size_t table_count;     /* tables of this tree, root included */
    /* Whom new tables are charged to: NULL, nobody, until the owner says so before others see the tree. */
    struct qr_group *_Atomic *group;
    _Atomic bool refused; /* that group did not take one, or something else of the owner's */
    _Atomic bool starved; /* there was no frame for one */
    struct qr_spin retired_lock;
    struct qr_frame *retired_head; /* [retired_lock] unlinked, perhaps still being read */
    struct qr_frame *retired_tail; /* [retired_lock] */
};

/**
 * An empty tree.  With @p kernel, the upper half of the new root is the
 * kernel's: the kernel's own top-level entries must all be present before the
 * first such call and never change afterwards.  Where users and the kernel have
 * a root each (QR_ROOTS_TWO), the tree is the users' and shares nothing.
 * @return QR_OK; QR_ERR_NO_MEMORY
 */
QR_MUST_USE enum qr_status qr_tables_init(struct qr_tables *tables, const struct qr_format *format,
                                          struct qr_frames *frames, struct qr_epoch *epoch,
                                          const struct qr_tables *kernel);
/** Charge the root to qr_tables.group, unless it is charged already. @return QR_OK; QR_ERR_LIMIT */
QR_MUST_USE enum qr_status qr_tables_charge_root(struct qr_tables *tables);
/** Adopt a root built by boot code; counts and locks start from what stands there.  Of two
 *  roots, it is the kernel's. */
QR_MUST_USE enum qr_status qr_tables_adopt(struct qr_tables *tables, const struct qr_format *format,
                                           struct qr_frames *frames, struct qr_epoch *epoch,
                                           qr_pa root);
/**
 * Allocate every top-level table of the upper half, so that spaces can share them.  Of two roots,
 * make this, which is empty, the kernel's.  A 32-bit CPU with PAE must load the root again
 * afterwards if it is in use.
 * @return QR_OK; QR_ERR_NO_MEMORY
 */
QR_MUST_USE enum qr_status qr_tables_fill_upper_half(struct qr_tables *tables);
/**
 * Where a kernel's tree of a flat format (QR_ROOTS_FLAT) is split between users and the kernel:
 * a multiple of what a top-level entry maps; 3 GiB unless it is set.  Before anything shares it.
 */
void qr_tables_set_split(struct qr_tables *tables, qr_va split);
/** Give back unlinked tables that no walker reads any more; whether some are left.  Every
 *  batch does so for its own tree; a host may call it from its tick for the kernel's. */
bool qr_tables_collect(struct qr_tables *tables);
/** Free all tables of an empty tree that no CPU uses any more; leaves and marks are an error. */
void qr_tables_fini(struct qr_tables *tables);

struct qr_cursor {
    struct qr_tables *tables;
    struct qr_tlb_batch *batch;
    struct qr_va_range range;
    struct qr_cpu *cpu;
    struct qr_frame *path[QR_LEVELS_MAX]; /* locked tables, by level */
    qr_pa pa[QR_LEVELS_MAX];              /* their addresses */
    qr_va at;                             /* some address under the lowest locked table */
    unsigned top;                         /* level of the covering table */
    unsigned level;                       /* level of the lowest locked table */
    bool noted;                           /* something was noted in the batch */
};

/**
 * Open a transaction on @p range (page-aligned, not empty, within one half).
 * @p batch collects what must be flushed; NULL where the cursor only reads, or adds where nobody
 * unmaps at the same time.
 * Locks: table locks, until qr_cursor_close().  Context: any; interrupts stay off.  A CPU that
 * opens a second cursor on the same tree holds a lock that keeps others from doing the same (the
 * space's, for writing).
 */
void qr_cursor_open(struct qr_cursor *cursor, struct qr_tables *tables, struct qr_va_range range,
                    struct qr_tlb_batch *batch);
void qr_cursor_close(struct qr_cursor *cursor);

/** The entry that decides about @p va, which lies in the range. */
struct qr_entry qr_cursor_query(struct qr_cursor *cursor, qr_va va);

/** The first leaf or mark at or after @p from and before the range's end; false where none. */
bool qr_cursor_find(struct qr_cursor *cursor, qr_va from, struct qr_entry *out_entry);

/**
 * Make sure that an entry for @p va at @p level can be set: allocate the tables
 * above it, or drop an empty table that stands there (which needs a batch).  A larger leaf in the
 * way is not split.  The entry is set before the cursor moves to another table: tables that were
 * left empty may be dropped by others.
 * @return QR_OK; QR_ERR_EXISTS something is mapped there at another level; QR_ERR_NO_MEMORY
 *         nothing changed
 */
QR_MUST_USE enum qr_status qr_cursor_prepare(struct qr_cursor *cursor, qr_va va, unsigned level);

/** Entries that are not empty in the lowest table of the cursor's path. */
static inline uint32_t
qr_cursor_table_entries(const struct qr_cursor *cursor)
{
    return atomic_load_explicit(&cursor->path[cursor->level]->maps, memory_order_relaxed);
}

/** Set a leaf where prepare succeeded and nothing or a mark stands. */
void qr_cursor_map(struct qr_cursor *cursor, qr_va va, const struct qr_leaf *leaf);

/**
 * Set a group of leaves at once: from @p va on as many as the format's group_bits say, the first
 * with @p leaf's address.  The TLB can keep the group as one entry (the contiguous hint of
 * AArch64, Svnapot of RISC-V, which the CPUs must have).  Prepare succeeded for the first, nothing
 * or marks stand in all of them, and both addresses are multiples of the group's size.  Leaves
 * without any right, which no TLB holds, are plain ones.
 *
 * Each member is queried and changed as any leaf.  The first change of one breaks the group up,
 * which flushes at once, so even qr_cursor_update() needs a batch then.  What hardware noted
 * (accessed, dirty) of one member holds for all of them.
 */
void qr_cursor_map_group(struct qr_cursor *cursor, qr_va va, const struct qr_leaf *leaf);

/**
 * Take out what stands in the @p level entries of the aligned run of a group's size that begins at
 * @p va, at once, and note the flush; whether they are a group, or plain leaves since one of them
 * was changed.  Tables stay.  @return the first entry, with what hardware noted of any of them
 */
struct qr_entry qr_cursor_unmap_group(struct qr_cursor *cursor, qr_va va, unsigned level);

/**
 * Give the leaves of that run the protection and key of @p leaf, and its flags beside their own, and
 * make them a group (again): taken out, flushed at once and set, so for a moment nothing is mapped
 * there.  Nothing is done where they are so already.
 */
void qr_cursor_change_group(struct qr_cursor *cursor, qr_va va, const struct qr_leaf *leaf);

/** Whether the leaf at @p va is one of a group. */
bool qr_cursor_is_grouped(struct qr_cursor *cursor, qr_va va);

/** Set a mark where prepare succeeded and nothing or another mark stands. */
void qr_cursor_mark(struct qr_cursor *cursor, qr_va va, unsigned level, struct qr_mark mark);

/**
 * Take the leaf or mark at @p va out, atomically against the hardware's A/D
 * updates, and note the flush.  The caller hands the frame to the batch.
 */
struct qr_entry qr_cursor_unmap(struct qr_cursor *cursor, qr_va va);

/**
 * Put another leaf in the place of the one at @p va (same level); notes the
 * flush, break-before-make included where the format needs it.
 * @return what stood there
 */
struct qr_entry qr_cursor_replace(struct qr_cursor *cursor, qr_va va, const struct qr_leaf *leaf);

/** Change flags and protection of the leaf at @p va in place; notes a flush where rights shrink
 *  or where a cleared flag must be seen to be set again. */
void qr_cursor_update(struct qr_cursor *cursor, qr_va va, unsigned prot, unsigned set_flags,
                      unsigned clear_flags);

/** A leaf above level 0 becomes a table of leaves with the same meaning. */
QR_MUST_USE enum qr_status qr_cursor_split(struct qr_cursor *cursor, qr_va va);

/** Called for each leaf or mark taken out (by its own address where it was one of a group); adds the leaf's frame to the batch where it owned one. */
typedef void (*qr_unmap_fn)(void *context, const struct qr_entry *entry);

/**
 * Take everything out of @p range (inside the cursor's), and free tables that
 * become empty.  Leaves that stick out of the range must have been split.
 */
void qr_cursor_unmap_range(struct qr_cursor *cursor, struct qr_va_range range, qr_unmap_fn fn,
                           void *context);

/** May a leaf that lacks WRITE be given it?  (Not while others share the frame.) */
typedef bool (*qr_may_write_fn)(void *context, const struct qr_entry *entry);

/**
 * Give every leaf in @p range protection @p prot and key @p pkey; WRITE is added
 * to a leaf that lacks it only where @p may_write (NULL: never) agrees.
 */
void qr_cursor_protect_range(struct qr_cursor *cursor, struct qr_va_range range, unsigned prot,
                             uint8_t pkey, qr_may_write_fn may_write, void *context);

/** What qr_cursor_copy_range() asks and tells; the locks of both cursors are held. */
struct qr_copy_ops {
    /** Whether to copy @p entry.  Changes nothing: an answer may not be followed by a copy. */
    bool (*wanted)(void *context, const struct qr_entry *entry);
    /** @p entry was copied: take what the second entry refers to.  Cannot fail. */
    void (*copied)(void *context, const struct qr_entry *entry);
};

/**
 * Copy the wanted entries of @p range (inside both cursors') of @p from's tree to the same
 * addresses of @p to's: another tree of the same format, empty there, which no CPU uses and
 * nobody else reaches.  A copied leaf loses WRITE on both sides, which @p from's batch flushes.
 * @return QR_OK; QR_ERR_NO_MEMORY some first entries were copied
 */
QR_MUST_USE enum qr_status qr_cursor_copy_range(struct qr_cursor *from, struct qr_cursor *to,
                                                struct qr_va_range range,
                                                const struct qr_copy_ops *ops, void *context);

/**
 * Build the tables that qr_tables_move() needs for @p range at @p to.  The two
 * ranges do not overlap, and nothing but empty tables stands at the second.
 * @return QR_OK; QR_ERR_NO_MEMORY some tables were built and are empty
 */
QR_MUST_USE enum qr_status qr_tables_move_prepare(struct qr_tables *tables,
                                                  struct qr_va_range range, qr_va to);

/** Called for each entry of level 0 moved, as it stood, with its new address; table locks are held. */
typedef void (*qr_move_fn)(void *context, const struct qr_entry *entry, qr_va to);

/**
 * Take every entry of @p range (some megabytes) out and set it at the same offset from @p to, which
 * was prepared; notes the flush of the old place, and writes into each frame of type ANON where it
 * is mapped now.  @p fn may be NULL.  Cannot fail.  Leaves above level 0 must be of level 1, lie in
 * the range whole, and be aligned at both places: others were split before.
 * Locks: the caller keeps other movers, and whoever could map or unmap at either place and then
 * drop tables, off the tree (holds its space's lock for writing).
 */
void qr_tables_move(struct qr_tables *tables, struct qr_va_range range, qr_va to,
                    struct qr_tlb_batch *batch, qr_move_fn fn, void *context);

/** Every entry of the tree from @p from on, for dumps and validators: as find, without a range. */
bool qr_tables_next(struct qr_tables *tables, qr_va from, struct qr_entry *out_entry);

bool qr_tables_validate(struct qr_tables *tables, char *out_message, size_t bytes);

#endif
#endif
