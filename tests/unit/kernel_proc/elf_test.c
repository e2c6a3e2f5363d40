/* SPDX-License-Identifier: MIT */
/*
 * The ELF reader against good and hostile headers.  What it accepts must hold what
 * exec relies on, whatever the bytes were: that is checked for every plan made
 * out of random damage.
 */
#include <string.h>

#include <quire/types.h>

#include "harness.h"
#include "kernel/proc/elf.h"

#define USER_LIMIT   0x00007ffffffff000ull
#define FILE_BYTES   0x10000ull
#define MACHINE      62
#define DAMAGE_TESTS 200000

static struct elf_header
good_header(void)
{
    struct elf_header header = {
        .ident = {0x7f, 'E', 'L', 'F', 2, 1, 1},
        .type = ELF_FIXED,
        .machine = MACHINE,
        .version = 1,
        .entry = 0x401000,
        .phoff = 64,
        .ehsize = 64,
        .phentsize = ELF_SEGMENT_BYTES,
        .phnum = 3,
    };

    return header;
}

/*
 * file    0        0x1800  0x2000  0x2800
 *         [ text R-X     ] [ data ]
 * memory  0x400000         0x402000  bss to 0x404100
 */
static void
good_segments(struct elf_segment segments[3])
{
    memset(segments, 0, 3 * sizeof(*segments));
    segments[0] = (struct elf_segment){.type = PT_LOAD,
                                       .flags = PF_R | PF_X,
                                       .vaddr = 0x400000,
                                       .filesz = 0x1800,
                                       .memsz = 0x1800,
                                       .align = 0x1000};
    segments[1] = (struct elf_segment){.type = PT_LOAD,
                                       .flags = PF_R | PF_W,
                                       .offset = 0x2000,
                                       .vaddr = 0x402000,
                                       .filesz = 0x800,
                                       .memsz = 0x2100,
                                       .align = 0x1000};
    segments[2] = (struct elf_segment){.type = PT_GNU_STACK, .flags = PF_R | PF_W};
}

TEST(elf, good_program)
{
    struct elf_header header = good_header();
    struct elf_segment segments[3];
    struct elf_plan plan;

    good_segments(segments);
    EXPECT_TRUE(elf_header_is_valid(&header, sizeof(header), MACHINE));
    ASSERT_TRUE(elf_plan_make(&header, segments, FILE_BYTES, USER_LIMIT, &plan));
    EXPECT_EQ(plan.start, 0x400000);
    EXPECT_EQ(plan.end, 0x405000);
    EXPECT_EQ(plan.align, 0x1000);
    EXPECT_EQ(plan.phdr, 0x400040);
    EXPECT_TRUE(!plan.stack_exec);
    EXPECT_EQ(plan.interp_bytes, 0);
}

TEST(elf, header_mistakes)
{
    struct elf_header header = good_header();

    EXPECT_TRUE(!elf_header_is_valid(&header, sizeof(header) - 1, MACHINE));
    EXPECT_TRUE(!elf_header_is_valid(&header, sizeof(header), MACHINE + 1));
    for (unsigned i = 0; i < 7; i++) {
        header = good_header();
        header.ident[i] ^= 0x40;
        EXPECT_TRUE(!elf_header_is_valid(&header, sizeof(header), MACHINE));
    }
    header = good_header();
    header.phnum = 0;
    EXPECT_TRUE(!elf_header_is_valid(&header, sizeof(header), MACHINE));
    header.phnum = ELF_SEGMENTS_MAX + 1;
    EXPECT_TRUE(!elf_header_is_valid(&header, sizeof(header), MACHINE));
    header = good_header();
    header.phoff = UINT64_MAX;
    EXPECT_TRUE(!elf_header_is_valid(&header, sizeof(header), MACHINE));
    header = good_header();
    header.type = 1;
    EXPECT_TRUE(!elf_header_is_valid(&header, sizeof(header), MACHINE));
}

/* One change to the second segment that makes the program unloadable. */
TEST(elf, segment_mistakes)
{
    static const struct {
        uint64_t offset, vaddr, filesz, memsz, align;
    } bad[] = {
        {0x2000, 0x402000, 0x800, 0x700, 0x1000},               /* file larger than memory */
        {0x2000, 0x402010, 0x800, 0x800, 0x1000},               /* out of step */
        {0x2000, 0x402000, 0x800, 0x800, 0x1001},               /* no power of two */
        {0x2000, 0x402000, 0x800, 0x800, (uint64_t)1 << 31},    /* absurd alignment */
        {0x1000, 0x401000, 0x800, 0x800, 0x1000},               /* overlaps the first */
        {0x2000, 0x3f0000, 0x800, 0x800, 0x1000},               /* descends */
        {0xf000, 0x402000, 0x1001, 0x2000, 0x1000},             /* beyond the file */
        {UINT64_MAX - 0xfff, 0x402000, 0x800, 0x800, 0x1000},   /* wraps in the file */
        {0x2000, USER_LIMIT - 0x1000, 0x800, 0x2000, 0x1000},   /* leaves the user half */
        {0x2000, 0xffffffff80000000ull, 0x800, 0x800, 0x1000},  /* the kernel's half */
        {0x2000, 0x402000, 0x800, UINT64_MAX - 0x1000, 0x1000}, /* wraps in memory */
    };
    struct elf_header header = good_header();
    struct elf_segment segments[3];
    struct elf_plan plan = {.start = 77};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        good_segments(segments);
        segments[1].offset = bad[i].offset;
        segments[1].vaddr = bad[i].vaddr;
        segments[1].filesz = bad[i].filesz;
        segments[1].memsz = bad[i].memsz;
        segments[1].align = bad[i].align;
        EXPECT_TRUE(!elf_plan_make(&header, segments, FILE_BYTES, USER_LIMIT, &plan));
        EXPECT_EQ(plan.start, 77);
    }
}

TEST(elf, interpreter)
{
    struct elf_header header = good_header();
    struct elf_segment segments[3];
    struct elf_plan plan;

    good_segments(segments);
    segments[2] = (struct elf_segment){.type = PT_INTERP, .offset = 0x100, .filesz = 20};
    ASSERT_TRUE(elf_plan_make(&header, segments, FILE_BYTES, USER_LIMIT, &plan));
    EXPECT_EQ(plan.interp_offset, 0x100);
    EXPECT_EQ(plan.interp_bytes, 20);
    segments[2].filesz = 1;
    EXPECT_TRUE(!elf_plan_make(&header, segments, FILE_BYTES, USER_LIMIT, &plan));
    segments[2].filesz = 5000;
    EXPECT_TRUE(!elf_plan_make(&header, segments, FILE_BYTES, USER_LIMIT, &plan));
    segments[2].filesz = 20;
    segments[2].offset = FILE_BYTES - 19;
    EXPECT_TRUE(!elf_plan_make(&header, segments, FILE_BYTES, USER_LIMIT, &plan));
}

static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* What exec takes for granted about an accepted plan. */
static void
check_plan(const struct elf_header *header, const struct elf_segment *segments,
           const struct elf_plan *plan)
{
    uint64_t end = 0;

    EXPECT_TRUE(plan->start < plan->end && plan->end <= USER_LIMIT);
    EXPECT_TRUE((plan->start & QR_PAGE_MASK) == 0 && (plan->end & QR_PAGE_MASK) == 0);
    for (unsigned i = 0; i < header->phnum; i++) {
        const struct elf_segment *s = &segments[i];

        if (s->type != PT_LOAD || s->memsz == 0)
            continue;
        EXPECT_TRUE(qr_va_page_down(s->vaddr) >= end);
        end = qr_va_page_up(s->vaddr + s->memsz);
        EXPECT_TRUE(s->vaddr >= plan->start && end <= plan->end);
        EXPECT_TRUE(s->filesz <= s->memsz);
        EXPECT_TRUE(s->filesz == 0 || s->offset + s->filesz <= FILE_BYTES);
    }
}

TEST(elf, random_damage)
{
    static const uint64_t special[] = {0,          1,          0xfff,      0x1000,
                                       0x1001,     FILE_BYTES, USER_LIMIT, USER_LIMIT - 0x1000,
                                       UINT64_MAX, INT64_MAX,  UINT32_MAX, (uint64_t)1 << 47};
    uint64_t state = 0x9e3779b97f4a7c15u;
    unsigned accepted = 0;

    for (unsigned i = 0; i < DAMAGE_TESTS; i++) {
        struct elf_header header = good_header();
        struct elf_segment segments[3];
        struct elf_plan plan;
        uint64_t words[3 * ELF_SEGMENT_BYTES / 8];

        good_segments(segments);
        memcpy(words, segments, sizeof(words));
        for (unsigned n = 1 + next_random(&state) % 3; n > 0; n--) {
            uint64_t value = next_random(&state);
            size_t at = next_random(&state) % (sizeof(words) / 8);

            switch (next_random(&state) % 3) {
            case 0:
                words[at] = special[value % (sizeof(special) / sizeof(special[0]))];
                break;
            case 1:
                words[at] += (value % 7) * 0x1000;
                break;
            default:
                words[at] ^= (uint64_t)1 << (value % 64);
                break;
            }
        }
        memcpy(segments, words, sizeof(words));
        if (elf_plan_make(&header, segments, FILE_BYTES, USER_LIMIT, &plan)) {
            check_plan(&header, segments, &plan);
            accepted++;
        }
    }
    EXPECT_TRUE(accepted > DAMAGE_TESTS / 20 && accepted < DAMAGE_TESTS);
}
