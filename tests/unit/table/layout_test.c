/* SPDX-License-Identifier: MIT */
/*
 * The formats against the manuals, bit by bit (layout.c), and the same data in the pages of
 * docs/formats/: with QUIRE_UPDATE_DOCS set in the environment this test writes them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/table/layout.h"
#include "tests/unit/table/rig.h"

#define ANY_RIGHT (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC)
#define PROTS     (QR_PROT_TAGGED << 1)

/* Every combination of what a leaf can say, with every address bit in turn. */
static struct qr_leaf
leaf_of(walk_format f, unsigned level, unsigned mix)
{
    uint64_t pas = f->address_change(f, ~f->attribute_mask(f, level), level) >>
                   f->shift(f, level) << f->shift(f, level);
    struct qr_leaf leaf = {.prot = mix % PROTS & f->info.prot_mask,
                           .flags = mix / PROTS % 16,
                           .level = (uint8_t)level,
                           .cache = rig_cache(f, mix / PROTS / 16 % QR_CACHE_COUNT),
                           .pkey = rig_key(f, mix / PROTS / 16 / QR_CACHE_COUNT)};

    leaf.pa.v = mix % 67 == 0 ? pas : pas & (uint64_t)0x0101010101010101 << mix % 8;
    return leaf;
}

static unsigned
combinations(walk_format f)
{
    return PROTS * 16 * QR_CACHE_COUNT * (f->info.protection_keys ? 16 : 1);
}

TEST(layout, every_bit_of_a_leaf_is_the_manuals)
{
    EVERY_FORMAT(format)
    {
        struct facts facts = {.f = format->traits};
        walk_format f = facts.f;

        for (facts.level = 0; facts.level < f->info.levels; facts.level++) {
            struct layout with, without;

            if ((f->info.leaf_levels >> facts.level & 1) == 0)
                continue;
            layout_of(f, facts.level == 0 ? SHAPE_PAGE : SHAPE_LARGE, facts.level, &with);
            layout_of(f, facts.level == 0 ? SHAPE_NONE : SHAPE_LARGE_NONE, facts.level, &without);
            for (unsigned mix = 0; mix < combinations(f); mix++) {
                facts.leaf = leaf_of(f, facts.level, mix);
                ASSERT_EQ(
                    f->make_leaf(f, &facts.leaf, facts.level),
                    layout_entry((facts.leaf.prot & ANY_RIGHT) != 0 ? &with : &without, &facts));
            }
        }
    }
}

TEST(layout, members_of_groups_differ_as_the_manual_says)
{
    EVERY_FORMAT(format)
    {
        struct facts facts = {.f = format->traits, .grouped = true};
        walk_format f = facts.f;

        for (facts.level = 0; facts.level < f->info.levels; facts.level++) {
            struct layout layout;

            if (f->info.group_bits[facts.level] == 0)
                continue;
            layout_of(f, facts.level == 0 ? SHAPE_PAGE : SHAPE_LARGE, facts.level, &layout);
            for (unsigned mix = 0; mix < combinations(f); mix++) {
                facts.leaf = leaf_of(f, facts.level, mix);
                facts.leaf.prot |= QR_PROT_READ;
                qr_pte plain = f->make_leaf(f, &facts.leaf, facts.level);
                size_t index = (size_t)(facts.leaf.pa.v >> f->shift(f, facts.level));

                ASSERT_FALSE(f->grouped(f, plain));
                ASSERT_EQ(f->group(f, plain), layout_entry(&layout, &facts));
                ASSERT_TRUE(f->grouped(f, f->group(f, plain)));
                ASSERT_EQ(f->ungroup(f, f->group(f, plain), index), plain);
            }
        }
    }
}

TEST(layout, tables_and_marks_are_as_written_down)
{
    EVERY_FORMAT(format)
    {
        struct facts facts = {.f = format->traits};
        walk_format f = facts.f;

        for (facts.level = 0; facts.level < f->info.levels; facts.level++) {
            struct layout table, mark;

            layout_of(f, SHAPE_TABLE, facts.level, &table);
            layout_of(f, SHAPE_MARK, facts.level, &mark);
            for (unsigned i = f->info.page_shift; i < f->info.pa_bits && facts.level > 0; i++) {
                facts.leaf.pa.v = (uint64_t)1 << i | (uint64_t)1 << (f->info.pa_bits - 1);
                ASSERT_EQ(f->make_table(f, facts.leaf.pa, facts.level),
                          layout_entry(&table, &facts));
            }
            for (unsigned i = 0; i < QR_MARK_KIND_COUNT * f->info.mark_bits; i++) {
                facts.mark.kind = (enum qr_mark_kind)(i % QR_MARK_KIND_COUNT);
                facts.mark.value = (uint64_t)5 << i / QR_MARK_KIND_COUNT &
                                   (((uint64_t)1 << f->info.mark_bits) - 1);
                if (facts.mark.kind != QR_MARK_NONE && layout_exists(f, SHAPE_MARK, facts.level))
                    ASSERT_EQ(f->make_mark(f, facts.mark, facts.level),
                              layout_entry(&mark, &facts));
            }
        }
    }
}

/* ---- Pages ------------------------------------------------------------------------- */

/* Of the formats of a family, those that differ in layout. */
static bool
is_shown(walk_format f, const char *family)
{
    const char *name = f->info.name;

    return strncmp(name, family, strlen(family)) == 0 && strstr(name, "_bbm2") == NULL &&
           strstr(name, "_basic") == NULL;
}

static const char *
size_name(unsigned shift)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    static char text[20];

    snprintf(text, sizeof(text), "%u %s", 1u << shift % 10, units[shift / 10]);
    return text;
}

/* The sizes of leaves, or of groups of them. */
static void
print_sizes(FILE *out, walk_format f, bool groups)
{
    const char *comma = "";

    for (unsigned level = 0; level < f->info.levels; level++) {
        unsigned more = groups ? f->info.group_bits[level] : 0;

        if ((f->info.leaf_levels >> level & 1) == 0 || (groups && more == 0))
            continue;
        fprintf(out, "%s%s", comma, size_name(f->shift(f, level) + more));
        comma = ", ";
    }
}

static void
print_formats(FILE *out, const char *family)
{
    fprintf(out,
            "| format | levels | address bits | physical bits | leaves | groups | mark bits |\n"
            "| --- | --- | --- | --- | --- | --- | --- |\n");
    EVERY_FORMAT(format)
    {
        walk_format f = format->traits;

        if (!is_shown(f, family))
            continue;
        fprintf(out, "| `qr_format_%s` | %u | %u | %u | ", f->info.name, f->info.levels,
                f->info.va_bits, f->info.pa_bits);
        print_sizes(out, f, false);
        fprintf(out, " | ");
        print_sizes(out, f, true);
        fprintf(out, " | %u |\n", f->info.mark_bits);
    }
}

/* A line of a page, and what it is true of. */
struct line {
    char text[120];
    char of[400];
};

struct lines {
    struct line line[100];
    unsigned count;
};

static void
line_add(struct lines *lines, const char *text, const char *of)
{
    struct line *line = lines->line;

    while (line < lines->line + lines->count && strcmp(line->text, text) != 0)
        line++;
    if (line == lines->line + lines->count) {
        ASSERT_LT(lines->count, QR_ARRAY_COUNT(lines->line));
        lines->count++;
        snprintf(line->text, sizeof(line->text), "%s", text);
        line->of[0] = '\0';
    }
    size_t used = strlen(line->of);
    const char *last = strrchr(line->of, ',');

    last = last == NULL ? line->of : last + 2;
    if (strcmp(last, of) != 0)
        snprintf(line->of + used, sizeof(line->of) - used, "%s%s", used > 0 ? ", " : "", of);
}

/* High bits first; in the order of the shapes where lines share bits. */
static int
compare_lines(const void *a, const void *b)
{
    const struct line *left = a, *right = b;
    int difference = atoi(right->text) - atoi(left->text);

    return difference != 0 ? difference : strcmp(left->text, right->text);
}

static void
print_range(char *out, unsigned high, unsigned low)
{
    if (high == low)
        sprintf(out, "%u", low);
    else
        sprintf(out, "%u..%u", high, low);
}

static void
collect_fields(struct lines *lines, const char *family, enum shape shape)
{
    EVERY_FORMAT(format)
    {
        walk_format f = format->traits;

        for (unsigned level = 0; level < f->info.levels && is_shown(f, family); level++) {
            struct layout layout;

            if (!layout_exists(f, shape, level))
                continue;
            layout_of(f, shape, level, &layout);
            for (unsigned i = 0; i < layout.count; i++) {
                const struct field *field = &layout.fields[i];
                char text[120], range[20];

                if (field_is_address(field))
                    continue;
                print_range(range, field->high, field->low);
                snprintf(text, sizeof(text), "%s | %s | %s", range, field->name, field->meaning);
                line_add(lines, text, layout_shape_name(shape));
            }
        }
    }
}

static void
print_fields(FILE *out, const char *family)
{
    static struct lines lines;

    lines.count = 0;
    for (enum shape shape = 0; shape < SHAPES; shape++)
        collect_fields(&lines, family, shape);
    qsort(lines.line, lines.count, sizeof(lines.line[0]), compare_lines);
    fprintf(out, "\n| bits | field | says | in |\n| --- | --- | --- | --- |\n");
    for (unsigned i = 0; i < lines.count; i++)
        fprintf(out, "| %s | %s |\n", lines.line[i].text, lines.line[i].of);
}

/* "47..12 in 47..12; 51..50 in 9..8" */
static void
describe_address(const struct layout *layout, char *out)
{
    char *begin = out;

    for (unsigned i = 0; i < layout->count; i++) {
        const struct field *field = &layout->fields[i];
        char from[20], to[20];

        if (!field_is_address(field))
            continue;
        print_range(from, field->arg + field->high - field->low, field->arg);
        print_range(to, field->high, field->low);
        out += sprintf(out, "%s%s in %s", out == begin ? "" : "; ",
                       strcmp(field->name, "SH") == 0 ? "SH 3" : from, to);
    }
}

static void
print_addresses(FILE *out, const char *family)
{
    static struct lines lines;

    lines.count = 0;
    for (enum shape shape = 0; shape <= SHAPE_ROOT; shape++) {
        EVERY_FORMAT(format)
        {
            walk_format f = format->traits;

            for (unsigned level = 0; level < f->info.levels && is_shown(f, family); level++) {
                struct layout layout;
                char text[120], where[80];

                if (!layout_exists(f, shape, level))
                    continue;
                layout_of(f, shape, level, &layout);
                describe_address(&layout, where);
                if (shape >= SHAPE_TABLE)
                    snprintf(text, sizeof(text), "%s | %s", layout_shape_name(shape), where);
                else
                    snprintf(text, sizeof(text), "%s | %s", size_name(f->shift(f, level)), where);
                line_add(&lines, text, f->info.name);
            }
        }
    }
    fprintf(out, "\n| entry | bits of the address | in |\n| --- | --- | --- |\n");
    for (unsigned i = 0; i < lines.count; i++)
        fprintf(out, "| %s | %s |\n", lines.line[i].text, lines.line[i].of);
}

#define BLOCK_BEGIN \
    "<!-- Written by tests/unit/table/layout_test.c from the data of its test. -->\n"
#define BLOCK_END "<!-- End of what is written. -->\n"

static char *
page_block(const char *family)
{
    char *text;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);

    fputs(BLOCK_BEGIN "\n", out);
    print_formats(out, family);
    print_fields(out, family);
    print_addresses(out, family);
    fputs("\n" BLOCK_END, out);
    fclose(out);
    return text;
}

static char *
read_all(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 1 << 20);

    ASSERT_NOT_NULL(file);
    (void)fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    return text;
}

static void
check_page(const char *family)
{
    char path[1000] = __FILE__;
    char *root = strstr(path, "tests/unit/table/layout_test.c");

    ASSERT_NOT_NULL(root);
    snprintf(root, sizeof(path) - (size_t)(root - path), "docs/formats/%s.md", family);
    char *page = read_all(path), *block = page_block(family);
    char *begin = strstr(page, BLOCK_BEGIN), *end = strstr(page, BLOCK_END);

    ASSERT_NOT_NULL(begin);
    ASSERT_NOT_NULL(end);
    end += strlen(BLOCK_END);
    bool current =
        (size_t)(end - begin) == strlen(block) && memcmp(begin, block, strlen(block)) == 0;

    if (!current && getenv("QUIRE_UPDATE_DOCS") != NULL) {
        FILE *file = fopen(path, "w");

        ASSERT_NOT_NULL(file);
        fprintf(file, "%.*s%s%s", (int)(begin - page), page, block, end);
        fclose(file);
    } else if (!current) {
        TEST_FAIL("%s is stale: run test_table with QUIRE_UPDATE_DOCS=1", path);
    }
    free(block);
    free(page);
}

TEST(layout, the_pages_of_the_documentation_show_it)
{
    static const char *const families[] = {"x86_32",  "x86_pae", "x86_64",
                                           "aarch64", "riscv64", "scrambled"};

    for (size_t i = 0; i < QR_ARRAY_COUNT(families); i++)
        check_page(families[i]);
}
