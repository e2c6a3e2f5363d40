/* SPDX-License-Identifier: MIT */
/*
 * Flattened device trees.
 *
 * A blob has three blocks: reservations, the tree as a list of tokens, and the
 * names of properties.  All of it is read byte by byte (the loader may put it
 * anywhere) through offsets that are checked against the block they belong to:
 *
 *      token_read()   the only reader of the tree: a token that it returns lies
 *                     inside the tree, with its value, and its names are terminated
 *      fdt_open()     reads every token once and checks the nesting, so that
 *                     a walk over an opened tree never meets a bad one
 *
 * Numbers out of values (cell counts, phandles, offsets in `ranges`) are not
 * checked by fdt_open(); each use bounds them itself.  Every loop moves forward in
 * the blob, so all of them end.
 */
#include <fdt.h>
#include <kstring.h>

#define MAGIC        0xd00dfeedu
#define HEADER_BYTES 40u
#define VERSION      17u

#define TOKEN_BEGIN_NODE 1u
#define TOKEN_END_NODE   2u
#define TOKEN_PROPERTY   3u
#define TOKEN_NOP        4u
#define TOKEN_END        9u

/** The specification's values where a node does not say. */
#define ADDRESS_CELLS_DEFAULT 2u
#define SIZE_CELLS_DEFAULT    1u

enum header_field {
    HEADER_MAGIC = 0,
    HEADER_TOTAL_BYTES = 4,
    HEADER_TREE = 8,
    HEADER_STRINGS = 12,
    HEADER_RESERVATIONS = 16,
    HEADER_VERSION = 20,
    HEADER_COMPATIBLE_VERSION = 24,
    HEADER_STRINGS_BYTES = 32,
    HEADER_TREE_BYTES = 36,
};

struct token {
    uint32_t kind;
    uint32_t name; /* offset of a terminated string: of a node or a property */
    uint32_t value, value_bytes;
    uint32_t next;
};

static uint32_t
be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint64_t
be64(const uint8_t *at)
{
    return (uint64_t)be32(at) << 32 | be32(at + 4);
}

/** A number of 0, 1 or 2 cells. */
static uint64_t
cells_read(const uint8_t *at, uint32_t cells)
{
    return cells == 0 ? 0 : cells == 1 ? be32(at) : be64(at);
}

/* ---- Tokens ----------------------------------------------------------------------- */

/** The bytes of the string at @p at with its terminator; 0 where it does not end before @p end. */
static uint32_t
string_bytes(const struct fdt *fdt, uint32_t at, uint32_t end)
{
    const uint8_t *zero = at < end ? memchr(fdt->blob + at, 0, end - at) : NULL;

    return zero ? (uint32_t)(zero - (fdt->blob + at)) + 1 : 0;
}

/** The tree is word-aligned in itself, wherever the blob lies. */
static uint32_t
word_up(uint32_t at)
{
    return (at + 3) & ~3u; /* at most FDT_BYTES_MAX + 3 */
}

static bool
property_read(const struct fdt *fdt, uint32_t at, struct token *out)
{
    uint32_t name;

    if (fdt->tree_end - at < 8)
        return false;
    out->value_bytes = be32(fdt->blob + at);
    name = be32(fdt->blob + at + 4);
    out->value = at + 8;
    if (out->value_bytes > fdt->tree_end - out->value || name >= fdt->strings_end - fdt->strings)
        return false;
    out->name = fdt->strings + name;
    out->next = word_up(out->value + out->value_bytes);
    return string_bytes(fdt, out->name, fdt->strings_end) > 0;
}

/** The token at @p at, which is at most tree_end + 3. */
static bool
token_read(const struct fdt *fdt, uint32_t at, struct token *out)
{
    uint32_t bytes;

    if (at > fdt->tree_end || fdt->tree_end - at < 4)
        return false;
    *out = (struct token){.kind = be32(fdt->blob + at), .next = at + 4};
    switch (out->kind) {
    case TOKEN_BEGIN_NODE:
        bytes = string_bytes(fdt, at + 4, fdt->tree_end);
        out->name = at + 4;
        out->next = word_up(at + 4 + bytes);
        return bytes > 0;
    case TOKEN_PROPERTY:
        return property_read(fdt, at + 4, out);
    case TOKEN_END_NODE:
    case TOKEN_NOP:
    case TOKEN_END:
        return true;
    default:
        return false;
    }
}

/* ---- Opening ------------------------------------------------------------------------ */

static uint32_t
header(const uint8_t *blob, enum header_field field)
{
    return be32(blob + field);
}

size_t
fdt_blob_bytes(const void *blob)
{
    uint32_t bytes;

    if (header(blob, HEADER_MAGIC) != MAGIC)
        return 0;
    bytes = header(blob, HEADER_TOTAL_BYTES);
    return bytes >= HEADER_BYTES && bytes <= FDT_BYTES_MAX ? bytes : 0;
}

static bool
block_fits(uint32_t start, uint32_t bytes, uint32_t total)
{
    return start >= HEADER_BYTES && start <= total && bytes <= total - start;
}

/** The reservations end with an entry of zeroes. */
static bool
reservations_end(const struct fdt *fdt)
{
    uint32_t at = fdt->reservations;

    for (; fdt->bytes - at >= 16; at += 16) {
        if (be64(fdt->blob + at) == 0 && be64(fdt->blob + at + 8) == 0)
            return true;
    }
    return false;
}

/** Every token, and the nesting: one root, properties before children, an end. */
static enum fdt_error
tree_check(const struct fdt *fdt)
{
    uint32_t at = fdt->tree;
    unsigned depth = 0;
    bool rooted = false;
    bool in_properties = false;
    struct token token;

    while (token_read(fdt, at, &token)) {
        at = token.next;
        switch (token.kind) {
        case TOKEN_BEGIN_NODE:
            if (depth == 0 && rooted)
                return FDT_ERR_TREE;
            if (depth++ == FDT_DEPTH_MAX)
                return FDT_ERR_DEPTH;
            rooted = in_properties = true;
            break;
        case TOKEN_PROPERTY:
            if (!in_properties)
                return FDT_ERR_TREE;
            break;
        case TOKEN_END_NODE:
            if (depth-- == 0)
                return FDT_ERR_TREE;
            in_properties = false;
            break;
        case TOKEN_END:
            return depth == 0 && rooted ? FDT_OK : FDT_ERR_TREE;
        default:
            break;
        }
    }
    return FDT_ERR_TREE;
}

enum fdt_error
fdt_open(struct fdt *out_fdt, const void *blob, size_t limit)
{
    struct fdt fdt = {.blob = blob};
    enum fdt_error error;
    uint32_t tree_bytes;
    uint32_t strings_bytes;

    if (limit < HEADER_BYTES)
        return FDT_ERR_BOUNDS;
    if (header(blob, HEADER_MAGIC) != MAGIC)
        return FDT_ERR_MAGIC;
    if (header(blob, HEADER_VERSION) < VERSION || header(blob, HEADER_COMPATIBLE_VERSION) > VERSION)
        return FDT_ERR_VERSION;
    fdt.bytes = header(blob, HEADER_TOTAL_BYTES);
    fdt.tree = header(blob, HEADER_TREE);
    fdt.strings = header(blob, HEADER_STRINGS);
    fdt.reservations = header(blob, HEADER_RESERVATIONS);
    tree_bytes = header(blob, HEADER_TREE_BYTES);
    strings_bytes = header(blob, HEADER_STRINGS_BYTES);
    if (fdt.bytes < HEADER_BYTES || fdt.bytes > FDT_BYTES_MAX || fdt.bytes > limit ||
        fdt.tree % 4 != 0 || !block_fits(fdt.tree, tree_bytes, fdt.bytes) ||
        !block_fits(fdt.strings, strings_bytes, fdt.bytes) ||
        !block_fits(fdt.reservations, 16, fdt.bytes) || !reservations_end(&fdt))
        return FDT_ERR_BOUNDS;
    fdt.tree_end = fdt.tree + tree_bytes;
    fdt.strings_end = fdt.strings + strings_bytes;
    error = tree_check(&fdt);
    if (error == FDT_OK)
        *out_fdt = fdt;
    return error;
}

const char *
fdt_error_text(enum fdt_error error)
{
    static const char *const texts[] = {
        [FDT_OK] = "valid",
        [FDT_ERR_MAGIC] = "no device tree",
        [FDT_ERR_VERSION] = "of another version",
        [FDT_ERR_BOUNDS] = "cut off or of impossible length",
        [FDT_ERR_TREE] = "malformed",
        [FDT_ERR_DEPTH] = "nested too deeply",
    };

    return texts[error];
}

bool
fdt_reservation(const struct fdt *fdt, unsigned index, struct fdt_range *out_range)
{
    uint32_t at = fdt->reservations;

    for (; fdt->bytes - at >= 16; at += 16) {
        struct fdt_range range = {be64(fdt->blob + at), be64(fdt->blob + at + 8)};

        if (range.start == 0 && range.bytes == 0)
            return false;
        if (index-- == 0) {
            *out_range = range;
            return true;
        }
    }
    return false;
}

/* ---- Walking -------------------------------------------------------------------------- */

void
fdt_walk_begin(struct fdt_walk *walk, const struct fdt *fdt)
{
    walk->fdt = fdt;
    walk->next = fdt->tree;
    walk->depth = 0;
}

const char *
fdt_name(const struct fdt_walk *walk)
{
    return (const char *)walk->fdt->blob + walk->path[walk->depth - 1].name;
}

static const char *
token_name(const struct fdt *fdt, const struct token *token)
{
    return (const char *)fdt->blob + token->name;
}

static bool
level_property(const struct fdt *fdt, const struct fdt_level *level, const char *name,
               struct fdt_value *out_value)
{
    uint32_t at = level->properties;
    struct token token;

    while (token_read(fdt, at, &token) &&
           (token.kind == TOKEN_PROPERTY || token.kind == TOKEN_NOP)) {
        if (token.kind == TOKEN_PROPERTY && strcmp(token_name(fdt, &token), name) == 0) {
            *out_value = (struct fdt_value){fdt->blob + token.value, token.value_bytes};
            return true;
        }
        at = token.next;
    }
    return false;
}

static uint32_t
level_cells(const struct fdt *fdt, const struct fdt_level *level, const char *name,
            uint32_t otherwise)
{
    struct fdt_value value;

    return level_property(fdt, level, name, &value) && value.bytes == 4 ? be32(value.data)
                                                                        : otherwise;
}

static void
walk_enter(struct fdt_walk *walk, const struct token *token)
{
    struct fdt_level *level = &walk->path[walk->depth++];

    *level = (struct fdt_level){.name = token->name, .properties = token->next};
    level->address_cells = level_cells(walk->fdt, level, "#address-cells", ADDRESS_CELLS_DEFAULT);
    level->size_cells = level_cells(walk->fdt, level, "#size-cells", SIZE_CELLS_DEFAULT);
}

/*
 * A walk stands inside its current node: what it reads first is the node's
 * properties, then a child, or the end of the node and of those above it.
 */
bool
fdt_walk_next_below(struct fdt_walk *walk, unsigned depth)
{
    struct token token;

    while (token_read(walk->fdt, walk->next, &token)) {
        if (token.kind == TOKEN_END)
            return false;
        if (token.kind == TOKEN_END_NODE && walk->depth <= depth)
            return false; /* stay inside, so that asking again gives the same answer */
        walk->next = token.next;
        if (token.kind == TOKEN_END_NODE) {
            walk->depth--;
        } else if (token.kind == TOKEN_BEGIN_NODE) {
            walk_enter(walk, &token);
            return true;
        }
    }
    return false;
}

bool
fdt_walk_next(struct fdt_walk *walk)
{
    return fdt_walk_next_below(walk, 0);
}

/** Whether node @p name is @p wanted of @p length, perhaps followed by a unit address. */
static bool
name_matches(const char *name, const char *wanted, size_t length)
{
    return strncmp(name, wanted, length) == 0 &&
           (name[length] == '\0' || (name[length] == '@' && !memchr(wanted, '@', length)));
}

bool
fdt_find_path(const struct fdt *fdt, const char *path, struct fdt_walk *out_walk)
{
    struct fdt_walk *walk = out_walk;

    fdt_walk_begin(walk, fdt);
    if (!fdt_walk_next(walk))
        return false;
    while (*path == '/' && path[1] != '\0') {
        unsigned depth = walk->depth;
        size_t length = 0;
        bool found = false;

        path++;
        while (path[length] != '\0' && path[length] != '/')
            length++;
        while (!found && fdt_walk_next_below(walk, depth))
            found = walk->depth == depth + 1 && name_matches(fdt_name(walk), path, length);
        if (!found)
            return false;
        path += length;
    }
    return true;
}

bool
fdt_next_compatible(struct fdt_walk *walk, const char *name)
{
    while (fdt_walk_next(walk)) {
        if (fdt_string_is(walk, "compatible", name) && fdt_enabled(walk))
            return true;
    }
    return false;
}

bool
fdt_find_compatible(const struct fdt *fdt, const char *name, struct fdt_walk *out_walk)
{
    fdt_walk_begin(out_walk, fdt);
    return fdt_next_compatible(out_walk, name);
}

bool
fdt_find_phandle(const struct fdt *fdt, uint32_t phandle, struct fdt_walk *out_walk)
{
    fdt_walk_begin(out_walk, fdt);
    while (fdt_walk_next(out_walk)) {
        struct fdt_value value;

        if (fdt_property(out_walk, "phandle", &value) && value.bytes == 4 &&
            be32(value.data) == phandle)
            return true;
    }
    return false;
}

/* ---- Properties ------------------------------------------------------------------------- */

static const struct fdt_level *
here(const struct fdt_walk *walk)
{
    return &walk->path[walk->depth - 1];
}

bool
fdt_property(const struct fdt_walk *walk, const char *name, struct fdt_value *out_value)
{
    return level_property(walk->fdt, here(walk), name, out_value);
}

const char *
fdt_string(const struct fdt_walk *walk, const char *name)
{
    struct fdt_value value;

    if (!fdt_property(walk, name, &value) || value.bytes == 0 || value.data[value.bytes - 1] != 0)
        return NULL;
    return (const char *)value.data;
}

bool
fdt_string_is(const struct fdt_walk *walk, const char *name, const char *wanted)
{
    struct fdt_value value;
    uint32_t at = 0;

    if (!fdt_property(walk, name, &value) || value.bytes == 0 || value.data[value.bytes - 1] != 0)
        return false;
    while (at < value.bytes) {
        const char *text = (const char *)value.data + at;

        if (strcmp(text, wanted) == 0)
            return true;
        at += (uint32_t)strlen(text) + 1;
    }
    return false;
}

uint64_t
fdt_number(const struct fdt_walk *walk, const char *name, uint64_t otherwise)
{
    struct fdt_value value;

    if (!fdt_property(walk, name, &value) || (value.bytes != 4 && value.bytes != 8))
        return otherwise;
    return cells_read(value.data, value.bytes / 4);
}

bool
fdt_cell(const struct fdt_value *value, unsigned index, uint32_t *out_cell)
{
    if (index >= value->bytes / 4)
        return false;
    *out_cell = be32(value->data + (size_t)index * 4);
    return true;
}

bool
fdt_enabled(const struct fdt_walk *walk)
{
    struct fdt_value value;

    return !fdt_property(walk, "status", &value) || fdt_string_is(walk, "status", "okay") ||
           fdt_string_is(walk, "status", "ok");
}

/* ---- Addresses -------------------------------------------------------------------------- */

bool
fdt_reg_raw(const struct fdt_walk *walk, unsigned index, struct fdt_range *out_range)
{
    const struct fdt_level *parent;
    struct fdt_value value;
    const uint8_t *entry;
    uint32_t words;

    if (walk->depth < 2 || !fdt_property(walk, "reg", &value))
        return false;
    parent = here(walk) - 1;
    if (parent->address_cells > 2 || parent->size_cells > 2)
        return false;
    words = parent->address_cells + parent->size_cells;
    if (words == 0 || index >= value.bytes / 4 / words)
        return false;
    entry = value.data + (size_t)index * words * 4;
    out_range->start = cells_read(entry, parent->address_cells);
    out_range->bytes = cells_read(entry + (size_t)parent->address_cells * 4, parent->size_cells);
    return true;
}

/** @p range of the bus @p bus in the addresses of the bus above it. */
static bool
translate(const struct fdt *fdt, const struct fdt_level *bus, struct fdt_range *range)
{
    uint32_t child = bus->address_cells;
    uint32_t parent = bus[-1].address_cells;
    struct fdt_value value;
    uint32_t words;

    if (!level_property(fdt, bus, "ranges", &value))
        return false;
    if (value.bytes == 0)
        return true;
    if (child > 2 || parent > 2 || bus->size_cells > 2)
        return false;
    words = child + parent + bus->size_cells;
    for (uint32_t i = 0; words > 0 && i < value.bytes / 4 / words; i++) {
        const uint8_t *entry = value.data + (size_t)i * words * 4;
        uint64_t from = cells_read(entry, child);
        uint64_t to = cells_read(entry + (size_t)child * 4, parent);
        uint64_t bytes = cells_read(entry + (size_t)(child + parent) * 4, bus->size_cells);

        if (range->start >= from && range->start - from < bytes &&
            range->bytes <= bytes - (range->start - from)) {
            range->start = to + (range->start - from);
            return true;
        }
    }
    return false;
}

bool
fdt_reg(const struct fdt_walk *walk, unsigned index, struct fdt_range *out_range)
{
    struct fdt_range range;

    if (!fdt_reg_raw(walk, index, &range))
        return false;
    for (unsigned bus = walk->depth - 2; bus > 0; bus--) {
        if (!translate(walk->fdt, &walk->path[bus], &range))
            return false;
    }
    if (range.bytes > 0 && range.start + (range.bytes - 1) < range.start)
        return false;
    *out_range = range;
    return true;
}

/* ---- Interrupts -------------------------------------------------------------------------- */

/** How many cells an interrupt of @p controller has; 0 where it is none. */
static uint32_t
interrupt_cells(const struct fdt *fdt, uint32_t controller)
{
    struct fdt_walk walk;
    uint64_t cells;

    if (!fdt_find_phandle(fdt, controller, &walk))
        return 0;
    cells = fdt_number(&walk, "#interrupt-cells", 0);
    return cells <= FDT_INTERRUPT_CELLS_MAX ? (uint32_t)cells : 0;
}

static void
interrupt_read(const struct fdt_value *value, uint32_t at, struct fdt_interrupt *out)
{
    for (unsigned i = 0; i < out->count; i++)
        out->cells[i] = be32(value->data + ((size_t)at + i) * 4);
}

/** Entries of unequal length: a phandle, then as many cells as its node asks for. */
static bool
interrupt_extended(const struct fdt *fdt, const struct fdt_value *value, unsigned index,
                   struct fdt_interrupt *out)
{
    uint32_t words = value->bytes / 4;
    uint32_t at = 0;

    while (at < words) {
        out->controller = be32(value->data + (size_t)at * 4);
        out->count = interrupt_cells(fdt, out->controller);
        if (out->count == 0 || out->count > words - at - 1)
            return false;
        if (index-- == 0) {
            interrupt_read(value, at + 1, out);
            return true;
        }
        at += 1 + out->count;
    }
    return false;
}

/** The controller named by the nearest node upwards. */
static bool
interrupt_parent(const struct fdt_walk *walk, uint32_t *out_controller)
{
    for (unsigned level = walk->depth; level > 0; level--) {
        struct fdt_value value;

        if (level_property(walk->fdt, &walk->path[level - 1], "interrupt-parent", &value))
            return fdt_cell(&value, 0, out_controller);
    }
    return false;
}

bool
fdt_interrupt(const struct fdt_walk *walk, unsigned index, struct fdt_interrupt *out_interrupt)
{
    struct fdt_interrupt interrupt = {0};
    struct fdt_value value;

    if (fdt_property(walk, "interrupts-extended", &value)) {
        if (!interrupt_extended(walk->fdt, &value, index, &interrupt))
            return false;
    } else {
        if (!fdt_property(walk, "interrupts", &value) ||
            !interrupt_parent(walk, &interrupt.controller))
            return false;
        interrupt.count = interrupt_cells(walk->fdt, interrupt.controller);
        if (interrupt.count == 0 || index >= value.bytes / 4 / interrupt.count)
            return false;
        interrupt_read(&value, index * interrupt.count, &interrupt);
    }
    *out_interrupt = interrupt;
    return true;
}
