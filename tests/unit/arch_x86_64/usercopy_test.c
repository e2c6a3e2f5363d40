/* SPDX-License-Identifier: MIT */
/*
 * The user copies, exhaustively (reliability target T3): x86-64's here, those of the
 * other architectures in a process of the reference kernel (tests/ports), where
 * they have fewer starts and lengths.
 *
 * User memory is two pages of this process, of which the first, the second, both
 * or none may be touched.  A signal handler plays the kernel's page-fault
 * handler: it asks qr_x86_fixup() where to go on.  For every start and length
 * around the two page borders and every alignment of the kernel's side, what was
 * moved must be the exact prefix up to the first byte that may not be touched.
 */
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#include "arch/x86/quire_x86.h"
#define FIXUP_OF(ip) qr_x86_fixup(ip)
#ifdef __x86_64__
#define IP_OF(uc) ((uc)->uc_mcontext.gregs[REG_RIP])
#else
#define IP_OF(uc) ((uc)->uc_mcontext.gregs[REG_EIP])
#endif
#elif defined(__riscv)
#include "arch/riscv64/quire_riscv64.h"
#define FIXUP_OF(ip) qr_riscv_fixup(ip)
#define IP_OF(uc)    ((uc)->uc_mcontext.__gregs[REG_PC])
#elif defined(__aarch64__)
#include "arch/aarch64/quire_aarch64.h"
#define FIXUP_OF(ip) qr_aarch64_fixup(ip)
#define IP_OF(uc)    ((uc)->uc_mcontext.pc)
uint8_t qr_aarch64_pan; /* a process has none to set */
#endif
#include "harness.h"

#include <quire/arch.h>

#define PAGE 4096u
#ifndef MARGIN
#define MARGIN 72u
#endif
#define PAGES 4u /* forbidden, first, second, forbidden */

static uint8_t *area;   /* PAGES pages, as the copies see them */
static uint8_t *mirror; /* the same memory, always writable */
static unsigned faults;

static void
on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    uintptr_t fixup = FIXUP_OF((uintptr_t)IP_OF(uc));

    (void)info;
    if (fixup == 0 || ++faults > 4) {
        signal(number, SIG_DFL); /* not ours, or no progress: die of it */
        return;
    }
    IP_OF(uc) = (__typeof__(IP_OF(uc)))fixup;
}

static void
area_open(void)
{
    struct sigaction action;
    int fd = memfd_create("user", 0);

    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ASSERT_TRUE(fd >= 0 && ftruncate(fd, PAGES * PAGE) == 0);
    area = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_SHARED, fd, 0);
    mirror = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ASSERT_TRUE(area != MAP_FAILED && mirror != MAP_FAILED);
    ASSERT_TRUE(sigaction(SIGSEGV, &action, NULL) == 0);
    close(fd);
}

static void
area_close(void)
{
    signal(SIGSEGV, SIG_DFL);
    munmap(area, PAGES * PAGE);
    munmap(mirror, PAGES * PAGE);
}

/** Which of the two middle pages may be touched: bit 0 the first, bit 1 the second. */
static void
area_allow(unsigned pages, int prot)
{
    mprotect(area + PAGE, PAGE, pages & 1 ? prot : PROT_NONE);
    mprotect(area + 2 * PAGE, PAGE, pages & 2 ? prot : PROT_NONE);
}

/** How many of @p bytes from @p start may be touched before the first that may not. */
static size_t
allowed_prefix(size_t start, size_t bytes, unsigned pages)
{
    size_t n = 0;

    while (n < bytes) {
        size_t page = (start + n) / PAGE;

        if (page < 1 || page > 2 || !(pages & (1u << (page - 1))))
            break;
        n++;
    }
    return n;
}

static void
fill(uint8_t *bytes, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(1 + (i * 31 + seed) % 255);
}

enum operation { FROM_USER, TO_USER, CLEAR };

/** The kernel's buffer with guard bytes on both sides. */
static uint8_t kernel_side[2 * PAGE + 4 * MARGIN];

static bool
one_copy(enum operation operation, size_t start, size_t bytes, unsigned pages, unsigned skew)
{
    static uint8_t before_user[PAGES * PAGE];
    static uint8_t before_kernel[sizeof kernel_side];
    uint8_t *kernel = kernel_side + MARGIN + skew;
    size_t expected = allowed_prefix(start, bytes, pages);
    qr_va user = qr_va_of((uintptr_t)(area + start));
    /* only what a wrong copy could reach is compared: the range and its surroundings */
    size_t from = start > MARGIN ? start - MARGIN : 0;
    size_t to = start + bytes + MARGIN < PAGES * PAGE ? start + bytes + MARGIN : PAGES * PAGE;
    size_t left;

    faults = 0;
    memcpy(before_user + from, mirror + from, to - from);
    memcpy(before_kernel, kernel_side, bytes + 2 * MARGIN + 8);
    if (operation == FROM_USER)
        left = qr_arch_copy_from_user(kernel, user, bytes);
    else if (operation == TO_USER)
        left = qr_arch_copy_to_user(user, kernel, bytes);
    else
        left = qr_arch_clear_user(user, bytes);

    if (operation == FROM_USER) {
        memcpy(before_kernel + MARGIN + skew, mirror + start, expected);
    } else if (operation == TO_USER) {
        memcpy(before_user + start, kernel, expected);
    } else {
        memset(before_user + start, 0, expected);
    }
    bool good = left == bytes - expected &&
                memcmp(before_user + from, mirror + from, to - from) == 0 &&
                memcmp(before_kernel, kernel_side, bytes + 2 * MARGIN + 8) == 0;

    /* undo, so that the next case starts from bytes that are not zero */
    if (operation != FROM_USER)
        fill(mirror + start, expected, (unsigned)start);
    else
        fill(kernel, expected, skew);
    return good;
}

static unsigned
sweep(enum operation operation, unsigned pages, const size_t *starts, size_t start_count,
      size_t longest)
{
    unsigned wrong = 0;

    area_allow(pages, operation == FROM_USER ? PROT_READ : PROT_READ | PROT_WRITE);
    for (size_t s = 0; s < start_count; s++) {
        for (size_t bytes = 0; bytes <= longest; bytes++) {
            if (starts[s] + bytes > PAGES * PAGE)
                break;
            wrong += !one_copy(operation, starts[s], bytes, pages, (unsigned)(bytes * 3 + s) & 7);
        }
    }
    return wrong;
}

/** Starts within MARGIN of @p border. */
static size_t
starts_around(size_t border, size_t starts[2 * MARGIN + 1])
{
    for (size_t i = 0; i <= 2 * MARGIN; i++)
        starts[i] = border - MARGIN + i;
    return 2 * MARGIN + 1;
}

static void
exhaustive(enum operation operation)
{
    size_t starts[2 * MARGIN + 1];
    unsigned wrong = 0;

    area_open();
    fill(mirror, PAGES * PAGE, 7);
    fill(kernel_side, sizeof kernel_side, 3);
    for (unsigned pages = 0; pages < 4; pages++) {
        for (size_t border = 1; border <= 3; border++) {
            size_t count = starts_around(border * PAGE, starts);

            wrong += sweep(operation, pages, starts, count, 2 * MARGIN);
        }
    }
    EXPECT_EQ(wrong, 0u);
    area_close();
}

TEST(usercopy, from_user_moves_the_exact_prefix_at_every_fault_point)
{
    exhaustive(FROM_USER);
}

TEST(usercopy, to_user_moves_the_exact_prefix_at_every_fault_point)
{
    exhaustive(TO_USER);
}

TEST(usercopy, clear_moves_the_exact_prefix_at_every_fault_point)
{
    exhaustive(CLEAR);
}

/* Lengths up to both pages and 72 bytes more, from 72 bytes before the first. */
TEST(usercopy, long_copies_stop_exactly_where_the_pages_end)
{
    unsigned wrong = 0;

    area_open();
    fill(mirror, PAGES * PAGE, 9);
    fill(kernel_side, sizeof kernel_side, 5);
    for (size_t skew = 0; skew <= MARGIN; skew += 3) {
        size_t start = PAGE + skew;

        for (int operation = FROM_USER; operation <= CLEAR; operation++) {
            area_allow(3, PROT_READ | PROT_WRITE);
            for (size_t bytes = 2 * PAGE - 2 * MARGIN; bytes <= 2 * PAGE + MARGIN; bytes += 5)
                wrong += !one_copy((enum operation)operation, start, bytes, 3, skew & 7);
        }
    }
    EXPECT_EQ(wrong, 0u);
    area_close();
}

TEST(usercopy, compare_and_swap_tells_a_fault_from_a_mismatch)
{
    uint32_t *word;
    uint32_t old = 99;

    area_open();
    word = (uint32_t *)(area + PAGE);
    area_allow(1, PROT_READ | PROT_WRITE);
    *word = 5;
    EXPECT_TRUE(qr_arch_user_cas32(qr_va_of((uintptr_t)word), 5, 6, &old));
    EXPECT_EQ(old, 5u);
    EXPECT_EQ(*word, 6u);
    EXPECT_TRUE(qr_arch_user_cas32(qr_va_of((uintptr_t)word), 5, 7, &old));
    EXPECT_EQ(old, 6u);
    EXPECT_EQ(*word, 6u);

    area_allow(0, 0);
    old = 99;
    faults = 0;
    EXPECT_TRUE(!qr_arch_user_cas32(qr_va_of((uintptr_t)word), 6, 7, &old));
    EXPECT_EQ(old, 99u);
    EXPECT_EQ(faults, 1u);
    area_close();
}

TEST(usercopy, only_instructions_of_the_copies_have_a_fixup)
{
    EXPECT_EQ(FIXUP_OF(0), (uintptr_t)0);
    EXPECT_EQ(FIXUP_OF((uintptr_t)&qr_arch_copy_from_user), (uintptr_t)0);
    EXPECT_EQ(FIXUP_OF((uintptr_t)&memcpy), (uintptr_t)0);
}
