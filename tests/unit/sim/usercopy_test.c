/* SPDX-License-Identifier: MIT */
/*
 * Target T3: every helper of quire/user.h, at every offset and length within 72
 * bytes of every page boundary that matters, with the fault in every place.
 *
 *          window 0        window 1        window 2
 *      ...unmapped)[  page 0  )[  page 1  )[unmapped...
 *
 * Page 0 and page 1 are present, or absent and brought in by the fault, or not
 * accessible, in every combination.  For each copy the model says which prefix
 * is accessible; the helper must move exactly that, touch nothing else, and
 * leave the machine as it found it.
 */
#include "harness.h"
#include "sim.h"

#include <quire/space.h>
#include <quire/user.h>

#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { REACH = 72, LENGTHS = 2 * REACH, PAGE = QR_PAGE_SIZE, ROOM = 3 * PAGE };

enum page_state { PRESENT, ABSENT, READ_ONLY, CLOSED, UNMAPPED, STATES };

/* Three windows of offsets from the start of page 0. */
static const int windows[] = {0, PAGE, 2 * PAGE};

struct bench {
    struct sim *sim;
    enum page_state state[2];
    unsigned char *memory[2]; /* what user page i holds, once it is present */
};

static const struct {
    unsigned prot;
    bool touch;
} setups[STATES] = {
    [PRESENT] = {SIM_W, true},
    [ABSENT] = {SIM_W, false},
    [READ_ONLY] = {SIM_R, true},
    [CLOSED] = {SIM_N, false},
};

static unsigned char
pattern(size_t at)
{
    return (unsigned char)(at * 7 + at / 251 + 1) | 1; /* never a terminator */
}

static void
page_make(struct bench *bench, size_t page)
{
    unsigned char text[PAGE];
    enum page_state state = bench->state[page];

    if (state == UNMAPPED)
        return;
    ASSERT_EQ(sim_map(bench->sim, page, 1, setups[state].touch ? SIM_W : setups[state].prot),
              QR_OK);
    if (!setups[state].touch)
        return;
    for (size_t i = 0; i < PAGE; i++)
        text[i] = pattern(page * PAGE + i);
    ASSERT_EQ(sim_store(sim_page(page), text, PAGE), SIM_OK);
    ASSERT_EQ(sim_protect(bench->sim, page, page + 1, setups[state].prot), QR_OK);
}

static struct bench
bench_make(enum page_state first, enum page_state second)
{
    struct bench bench = {.state = {first, second}};

    bench.sim = sim_boot((struct sim_options){.features = SIM_NO_VALIDATE});
    page_make(&bench, 0);
    page_make(&bench, 1);
    return bench;
}

/* How many of @bytes at @offset are accessible. */
static size_t
accessible(const struct bench *bench, int offset, size_t bytes, unsigned access)
{
    size_t done = 0;

    while (done < bytes) {
        int at = offset + (int)done;
        enum page_state state;

        if (at < 0 || at >= 2 * PAGE)
            break;
        state = bench->state[at / PAGE];
        if (state == UNMAPPED || state == CLOSED ||
            (state == READ_ONLY && access == QR_ACCESS_WRITE))
            break;
        done +=
            (size_t)(PAGE - at % PAGE) < bytes - done ? (size_t)(PAGE - at % PAGE) : bytes - done;
    }
    return done;
}

/* What byte @at of the two pages holds before the copy. */
static unsigned char
held(const struct bench *bench, int at)
{
    return setups[bench->state[at / PAGE]].touch ? pattern((size_t)at) : 0;
}

static qr_va
va_of(int offset)
{
    return qr_va_of(sim_page(0).v + (uintptr_t)(intptr_t)offset);
}

/* Read or restore user memory behind the MMU's back. */
static unsigned char *
peek(struct bench *bench, int at)
{
    struct sim_mapping mapping =
        sim_walk(bench->sim, sim_space(bench->sim)->tables.root_pa, va_of(at));

    return mapping.present ? sim_ram(bench->sim, mapping.pa) : NULL;
}

static void
check_from(struct bench *bench, int offset, size_t bytes)
{
    unsigned char to[LENGTHS + 16];
    size_t good = accessible(bench, offset, bytes, QR_ACCESS_READ);
    size_t left;

    memset(to, 0xee, sizeof(to));
    left = qr_copy_from_user(to + 8, va_of(offset), bytes);
    ASSERT_EQ(left, bytes - good);
    for (size_t i = 0; i < good; i++)
        ASSERT_EQ(to[8 + i], held(bench, offset + (int)i));
    for (size_t i = 0; i < 8; i++)
        ASSERT_TRUE(to[i] == 0xee && to[8 + bytes + i] == 0xee);
    for (size_t i = good; i < bytes; i++)
        ASSERT_EQ(to[8 + i], 0xee);
}

/* The user bytes around a write: changed where they should, else as they were; then restored. */
static void
check_written(struct bench *bench, int offset, size_t good, const unsigned char *from)
{
    int first = offset - 16 > 0 ? offset - 16 : 0;
    int last = offset + (int)good + 16 < 2 * PAGE ? offset + (int)good + 16 : 2 * PAGE;

    unsigned char *byte = NULL;

    for (int at = first; at < last; at++) {
        bool inside = at >= offset && at < offset + (int)good;

        byte = at == first || at % PAGE == 0 ? peek(bench, at) : byte + 1;
        if (byte == NULL) {
            ASSERT_FALSE(inside);
            at |= PAGE - 1;
            continue;
        }
        ASSERT_EQ(*byte, inside ? (from != NULL ? from[at - offset] : 0) : held(bench, at));
        *byte = held(bench, at);
    }
}

static void
check_to(struct bench *bench, int offset, size_t bytes)
{
    unsigned char from[LENGTHS];
    size_t good = accessible(bench, offset, bytes, QR_ACCESS_WRITE);

    for (size_t i = 0; i < bytes; i++)
        from[i] = (unsigned char)(0x80 + i);
    ASSERT_EQ(qr_copy_to_user(va_of(offset), from, bytes), bytes - good);
    check_written(bench, offset, good, from);
}

static void
check_clear(struct bench *bench, int offset, size_t bytes)
{
    size_t good = accessible(bench, offset, bytes, QR_ACCESS_WRITE);

    ASSERT_EQ(qr_clear_user(va_of(offset), bytes), bytes - good);
    check_written(bench, offset, good, NULL);
}

static void
check_string(struct bench *bench, int offset, size_t bytes)
{
    char to[LENGTHS + 16];
    size_t good = accessible(bench, offset, bytes, QR_ACCESS_READ);
    size_t length = SIZE_MAX, counted = SIZE_MAX, end = 0;
    enum qr_status wanted;

    while (end < good && held(bench, offset + (int)end) != 0)
        end++;
    wanted = end < good ? QR_OK : good < bytes ? QR_ERR_FAULT : QR_ERR_LIMIT;
    memset(to, 0x5e, sizeof(to));
    ASSERT_EQ(qr_strncpy_from_user(to, va_of(offset), bytes, &length), wanted);
    ASSERT_EQ(qr_strnlen_user(va_of(offset), bytes, &counted), wanted);
    ASSERT_EQ(length, wanted == QR_OK ? end : SIZE_MAX);
    ASSERT_EQ(counted, length);
    for (size_t i = 0; wanted == QR_OK && i <= end; i++)
        ASSERT_EQ((unsigned char)to[i], i < end ? held(bench, offset + (int)i) : 0);
    for (size_t i = bytes; i < sizeof(to); i++)
        ASSERT_EQ(to[i], 0x5e);
}

static void
check_words(struct bench *bench, int offset)
{
    unsigned char expected[8];
    uint32_t four = 1;
    uint64_t eight = 1;
    bool read4 = accessible(bench, offset, 4, QR_ACCESS_READ) == 4;
    bool read8 = accessible(bench, offset, 8, QR_ACCESS_READ) == 8;
    bool write4 = accessible(bench, offset, 4, QR_ACCESS_WRITE) == 4;

    for (int i = 0; i < 8 && read8; i++)
        expected[i] = held(bench, offset + i);
    ASSERT_EQ(qr_get_user_u32(va_of(offset), &four), read4 ? QR_OK : QR_ERR_FAULT);
    ASSERT_EQ(qr_get_user_u64(va_of(offset), &eight), read8 ? QR_OK : QR_ERR_FAULT);
    ASSERT_TRUE(read8 ? memcmp(&eight, expected, 8) == 0 : eight == 1);
    ASSERT_TRUE(read4 || four == 1);
    memset(expected, 0x44, sizeof(expected));
    ASSERT_EQ(qr_put_user_u32(va_of(offset), 0x44444444), write4 ? QR_OK : QR_ERR_FAULT);
    check_written(bench, offset, accessible(bench, offset, 4, QR_ACCESS_WRITE), expected);
    ASSERT_EQ(qr_put_user_u64(va_of(offset), 0x4444444444444444),
              accessible(bench, offset, 8, QR_ACCESS_WRITE) == 8 ? QR_OK : QR_ERR_FAULT);
    check_written(bench, offset, accessible(bench, offset, 8, QR_ACCESS_WRITE), expected);
}

static void
check_cas(struct bench *bench, int offset)
{
    bool aligned = offset % 4 == 0;
    bool good = accessible(bench, offset, 4, QR_ACCESS_WRITE) == 4;
    unsigned char bytes[4];
    uint32_t before = 0, old = 77;
    enum qr_status wanted = !aligned ? QR_ERR_INVALID : good ? QR_OK : QR_ERR_FAULT;

    for (int i = 0; i < 4 && good; i++)
        bytes[i] = held(bench, offset + i);
    if (good)
        memcpy(&before, bytes, 4);
    /* Unequal: nothing is written.  Equal: it is. */
    ASSERT_EQ(qr_cas_user_u32(va_of(offset), before + 1, 9, &old), wanted);
    ASSERT_EQ(old, wanted == QR_OK ? before : 77);
    ASSERT_EQ(qr_cas_user_u32(va_of(offset), before, 0x21212121, &old), wanted);
    memset(bytes, 0x21, sizeof(bytes));
    if (wanted == QR_OK)
        check_written(bench, offset, 4, bytes);
}

/* Make absent pages absent again, so that every copy meets the fault. */
static void
refresh(struct bench *bench)
{
    for (size_t page = 0; page < 2; page++) {
        if (bench->state[page] == ABSENT)
            ASSERT_EQ(
                qr_space_advise(sim_space(bench->sim), sim_page(page), PAGE, QR_ADVICE_DONT_NEED),
                QR_OK);
    }
}

typedef void (*check_fn)(struct bench *bench, int offset, size_t bytes);

static void
for_every_place(struct bench *bench, check_fn check, size_t step)
{
    for (size_t window = 0; window < 3; window++) {
        for (int delta = -REACH; delta <= REACH; delta++) {
            for (size_t bytes = 0; bytes < LENGTHS; bytes += step) {
                check(bench, windows[window] + delta, bytes);
                refresh(bench);
            }
        }
    }
}

static void
for_every_state(check_fn check, unsigned chunk, size_t step)
{
    for (unsigned states = 0; states < STATES * STATES; states++) {
        struct bench bench =
            bench_make((enum page_state)(states % STATES), (enum page_state)(states / STATES));

        sim_set_copy_chunk(bench.sim, chunk);
        if (bench.state[0] == ABSENT || bench.state[1] == ABSENT)
            for_every_place(&bench, check, step < 7 ? 7 : step);
        else
            for_every_place(&bench, check, step);
        sim_validate(bench.sim);
        sim_shutdown(bench.sim);
    }
}

/*
 * Eight bytes at a time for every length; other sizes, and faults on the way, for every seventh.
 * A build that looks at every access besides takes fewer.
 */
static void
for_every_chunk(check_fn check)
{
    static const unsigned other_chunks[] = {1, 2, 4, 0};

    for_every_state(check, 8, SANITIZED ? 7 : 1);
    for (size_t i = 0; i < QR_ARRAY_COUNT(other_chunks); i++)
        for_every_state(check, other_chunks[i], SANITIZED ? 37 : 7);
}

TEST(usercopy, copy_from_user_moves_an_exact_prefix)
{
    for_every_chunk(check_from);
}

TEST(usercopy, copy_to_user_moves_an_exact_prefix)
{
    for_every_chunk(check_to);
}

TEST(usercopy, clear_user_clears_an_exact_prefix)
{
    for_every_chunk(check_clear);
}

TEST(usercopy, strings_end_where_they_end)
{
    for_every_chunk(check_string);
}

static void
check_words_once(struct bench *bench, int offset, size_t bytes)
{
    if (bytes != 0)
        return;
    check_words(bench, offset);
    refresh(bench);
    check_cas(bench, offset);
}

TEST(usercopy, words_are_whole_or_a_fault)
{
    for_every_state(check_words_once, 8, LENGTHS);
    for_every_state(check_words_once, 1, LENGTHS);
}

TEST(usercopy, a_terminator_before_a_hole_is_found)
{
    for (int from_end = 1; from_end <= REACH; from_end++) {
        struct bench bench = bench_make(PRESENT, UNMAPPED);
        char to[2 * REACH];
        size_t length = 0;

        *peek(&bench, PAGE - 1) = 0;
        ASSERT_EQ(qr_strncpy_from_user(to, va_of(PAGE - from_end), sizeof(to), &length), QR_OK);
        EXPECT_EQ(length, (size_t)from_end - 1);
        ASSERT_EQ(qr_strnlen_user(va_of(PAGE - from_end), sizeof(to), &length), QR_OK);
        EXPECT_EQ(length, (size_t)from_end - 1);
        sim_shutdown(bench.sim);
    }
}

TEST(usercopy, ranges_that_leave_the_user_half_are_refused_whole)
{
    struct sim *sim = sim_boot((struct sim_options){.features = SIM_NO_VALIDATE});
    uintptr_t starts[] = {UINTPTR_MAX, UINTPTR_MAX - 7, qr_port_user_end(), (uintptr_t)1 << 63,
                          sim_kernel_start(sim).v};
    unsigned char byte[16] = {0};
    uint32_t old;
    size_t length;

    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        qr_va at = qr_va_of(starts[i]);

        EXPECT_EQ(qr_copy_from_user(byte, at, 16), 16);
        EXPECT_EQ(qr_copy_to_user(at, byte, 16), 16);
        EXPECT_EQ(qr_clear_user(at, 16), 16);
        EXPECT_EQ(qr_strnlen_user(at, 16, &length), QR_ERR_FAULT);
        EXPECT_EQ(qr_cas_user_u32(qr_va_of(at.v & ~(uintptr_t)3), 0, 0, &old), QR_ERR_FAULT);
    }
    EXPECT_EQ(qr_copy_from_user(byte, qr_va_of(qr_port_user_end() - 8), 16), 16);
    EXPECT_EQ(qr_copy_from_user(byte, sim_page(0), SIZE_MAX), SIZE_MAX);
    EXPECT_EQ(sim_stats(sim).faults, 0);
    sim_shutdown(sim);
}
