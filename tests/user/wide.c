/* SPDX-License-Identifier: MIT */
/*
 * Addresses of more than 47 bits, where the machine has them: only who asks gets one, and it is
 * memory like any other.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"
#include "machine.h"

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW   (PROT_READ | PROT_WRITE)

#if UINTPTR_MAX > UINT32_MAX

#ifdef __aarch64__
#define WINDOW_END ((uintptr_t)1 << 48)
#else
#define WINDOW_END ((uintptr_t)1 << 47)
#endif
#define HIGH ((uintptr_t)1 << 52)

static size_t page;

static uintptr_t
map_near(uintptr_t hint, size_t bytes, int flags)
{
    void *at = mmap((void *)hint, bytes, RW, ANON | flags, -1, 0);

    return at == MAP_FAILED ? 0 : (uintptr_t)at;
}

/* More bits than pointers need have? */
static int
is_wide(void)
{
    uintptr_t at = map_near(HIGH, page, MAP_FIXED_NOREPLACE);

    if (at != 0)
        munmap((void *)at, page);
    return at == HIGH;
}

static void
placement(int wide)
{
    uintptr_t asked = map_near(HIGH, 4 * page, 0), again = map_near(HIGH, page, 0);
    uintptr_t low = map_near(0, page, 0), top = map_near(UINTPTR_MAX & ~(page - 1), page, 0);
    uintptr_t across = map_near(WINDOW_END - 2 * page, 4 * page, 0);

    CHECK(low != 0 && low < WINDOW_END);
    CHECK(wide ? asked == HIGH : asked != 0 && asked < WINDOW_END);
    CHECK(again != 0 && again != asked && (again >= WINDOW_END) == wide);
    CHECK(top != 0 && (!wide || top >= WINDOW_END));
    CHECK(!wide || (across != 0 && across < WINDOW_END - 2 * page));
    munmap((void *)asked, 4 * page);
    munmap((void *)again, page);
    munmap((void *)low, page);
    munmap((void *)top, page);
    munmap((void *)across, 4 * page);
}

static void
contents(void)
{
    int pipes[2], status;
    char *low = mmap(NULL, 4 * page, RW, ANON, -1, 0);
    char *high = mmap((void *)(HIGH + (page << 20)), 4 * page, RW, ANON, -1, 0);

    CHECK((uintptr_t)high == HIGH + (page << 20));
    memset(low, 'l', 4 * page);
    memset(high, 'h', 4 * page);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(write(pipes[1], high + page - 1, 3), 3); /* the kernel's own access */
    CHECK_EQ(read(pipes[0], low, 3), 3);
    CHECK(memcmp(low, "hhhl", 4) == 0);
    if (fork() == 0) {
        high[0] = 'c';
        _exit(high[1] == 'h' && low[0] == 'h' ? 7 : 1);
    }
    wait(&status);
    CHECK_EQ(WEXITSTATUS(status), 7);
    CHECK_EQ(high[0], 'h');
    CHECK(mremap(low, 4 * page, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, high + 8 * page) ==
          high + 8 * page);
    CHECK_EQ(high[8 * page + 4], 'l');
    CHECK_EQ(mprotect(high, page, PROT_READ), 0);
    CHECK_EQ(munmap(high, 12 * page), 0);
    close(pipes[0]);
    close(pipes[1]);
}

/* System calls, interrupts and signals find their way back to code that lies high. */
static void
code(void)
{
    static const unsigned char exit_55[] = {MACHINE_EXIT_55};
    unsigned char *at = mmap((void *)HIGH, page, RW, ANON, -1, 0);
    int status;

    memcpy(at, exit_55, sizeof(exit_55));
    CHECK_EQ(mprotect(at, page, PROT_READ | PROT_EXEC), 0);
    if (fork() == 0) {
        alarm(10);
        ((void (*)(void))(uintptr_t)at)();
    }
    wait(&status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 55);
    munmap(at, page);
}

int
main(void)
{
    int wide;

    page = (size_t)check_page();
    wide = is_wide();
    placement(wide);
    if (wide) {
        contents();
        code();
    }
    printf("wide: %s, %d checks, %d failed\n", wide ? "more than 48 bits" : "48 bits or fewer",
           check_count, check_failures);
    return check_failures != 0;
}

#else

int
main(void)
{
    return 0;
}

#endif
