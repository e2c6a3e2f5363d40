/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FDT_H
#define KERNEL_FDT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/compiler.h>

/**
 * @file
 * Reads a flattened device tree (version 17) where it lies: no allocation, no
 * recursion, no trust.  fdt_open() checks the header and every token of the
 * tree; whatever comes after it may assume nothing else and still cannot leave
 * the blob.
 *
 * One looks at a node through a struct fdt_walk, which visits the tree in order
 * and remembers the way from the root:
 *
 *      struct fdt_walk at;
 *      if (fdt_find_compatible(&fdt, "arm,pl011", &at) && fdt_reg(&at, 0, &range)) ...
 */

/** Nodes below each other; a deeper tree is refused. */
#define FDT_DEPTH_MAX 16
/** A larger blob is refused. */
#define FDT_BYTES_MAX 0x400000u
/** Cells of one interrupt specifier. */
#define FDT_INTERRUPT_CELLS_MAX 4

enum fdt_error {
    FDT_OK,
    FDT_ERR_MAGIC,   /**< no device tree */
    FDT_ERR_VERSION, /**< not readable as version 17 */
    FDT_ERR_BOUNDS,  /**< a block lies outside the blob, or the blob outside its limit */
    FDT_ERR_TREE,    /**< the tree's tokens make no sense */
    FDT_ERR_DEPTH,   /**< deeper than FDT_DEPTH_MAX */
};

/** A checked blob.  Offsets count from its first byte. */
struct fdt {
    const uint8_t *blob;
    uint32_t bytes;
    uint32_t tree, tree_end;
    uint32_t strings, strings_end;
    uint32_t reservations;
};

/** A property's value. */
struct fdt_value {
    const uint8_t *data; /**< in the blob; any alignment */
    uint32_t bytes;
};

/** Physical addresses [start, start + bytes). */
struct fdt_range {
    uint64_t start;
    uint64_t bytes;
};

/** One interrupt of a device, in the words of its controller's binding. */
struct fdt_interrupt {
    uint32_t controller; /**< its phandle */
    unsigned count;      /**< of cells */
    uint32_t cells[FDT_INTERRUPT_CELLS_MAX];
};

/** One node on the way from the root. */
struct fdt_level {
    uint32_t name;          /**< offset of its name */
    uint32_t properties;    /**< offset of its first token */
    uint32_t address_cells; /**< of its children */
    uint32_t size_cells;
};

/** A node, and how to reach the next one. */
struct fdt_walk {
    const struct fdt *fdt;
    uint32_t next;
    unsigned depth; /**< of the current node: 1 is the root, 0 before the first */
    struct fdt_level path[FDT_DEPTH_MAX];
};

/** The size that the header at @p blob (40 bytes) claims; 0 where it is no device tree. */
size_t fdt_blob_bytes(const void *blob);

/**
 * Check @p blob, of which @p limit bytes may be read.  It must stay where it is
 * and as it is.
 * @return FDT_OK, or why @p out_fdt was left alone
 */
QR_MUST_USE enum fdt_error fdt_open(struct fdt *out_fdt, const void *blob, size_t limit);

/** What went wrong, for a message. */
const char *fdt_error_text(enum fdt_error error);

/** Entry @p index of the memory reservation block; false past the last. */
bool fdt_reservation(const struct fdt *fdt, unsigned index, struct fdt_range *out_range);

/* ---- Nodes --------------------------------------------------------------- */

/** Before the root: fdt_walk_next() visits it first. */
void fdt_walk_begin(struct fdt_walk *walk, const struct fdt *fdt);

/** The next node in the order of the blob, parents before children; false after the last. */
bool fdt_walk_next(struct fdt_walk *walk);

/** The next node below the one where @p walk had depth @p depth; false after the last. */
bool fdt_walk_next_below(struct fdt_walk *walk, unsigned depth);

/** The current node's name, with its unit address: "cpu@1"; "" for the root. */
const char *fdt_name(const struct fdt_walk *walk);

/** Stand on the node @p path: "/cpus", "/soc/uart@9000000"; unit addresses may be left out. */
bool fdt_find_path(const struct fdt *fdt, const char *path, struct fdt_walk *out_walk);

/** The first node whose `compatible` lists @p name and whose status allows its use. */
bool fdt_find_compatible(const struct fdt *fdt, const char *name, struct fdt_walk *out_walk);

/** The next such node after the current one. */
bool fdt_next_compatible(struct fdt_walk *walk, const char *name);

bool fdt_find_phandle(const struct fdt *fdt, uint32_t phandle, struct fdt_walk *out_walk);

/* ---- Properties of the current node --------------------------------------- */

bool fdt_property(const struct fdt_walk *walk, const char *name, struct fdt_value *out_value);

/** A property that is a terminated string; NULL where it is not or does not exist. */
const char *fdt_string(const struct fdt_walk *walk, const char *name);

/** Whether a property is a string list that holds @p wanted. */
bool fdt_string_is(const struct fdt_walk *walk, const char *name, const char *wanted);

/** A property of one or two cells as a number; @p otherwise where it is not. */
uint64_t fdt_number(const struct fdt_walk *walk, const char *name, uint64_t otherwise);

/** Cell @p index of a value; false past its end. */
bool fdt_cell(const struct fdt_value *value, unsigned index, uint32_t *out_cell);

/** False where `status` is neither absent, "okay" nor "ok". */
bool fdt_enabled(const struct fdt_walk *walk);

/**
 * Entry @p index of `reg`, translated by the `ranges` of every bus above.
 * False past the last, where it wraps, or where a bus does not show it to the CPU.
 */
bool fdt_reg(const struct fdt_walk *walk, unsigned index, struct fdt_range *out_range);

/** The same, as it stands: for numbers that are no addresses (cpus). */
bool fdt_reg_raw(const struct fdt_walk *walk, unsigned index, struct fdt_range *out_range);

/** Entry @p index of `interrupts-extended` or else `interrupts`. */
bool fdt_interrupt(const struct fdt_walk *walk, unsigned index,
                   struct fdt_interrupt *out_interrupt);

#endif
