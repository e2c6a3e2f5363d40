/* SPDX-License-Identifier: MIT */
/*
 * pkey_mprotect(2): the errors everywhere; where the machine has keys, what
 * they deny, to each thread by itself, and that signal handlers start with the default rights.
 */
#include "calls.h"

#include <sched.h>

#ifndef SEGV_PKUERR
#define SEGV_PKUERR 4
#endif
#define RW             (PROT_READ | PROT_WRITE)
#define DISABLE_ACCESS 1
#define DISABLE_WRITE  2
#define DEFAULT_RIGHTS 0x55555554u

static void
errors(void)
{
    const struct row rows[] = {
        {"no such key", SYS_pkey_mprotect, {AT(0), page, RW, 77}, -EINVAL, 0},
        {"a negative key", SYS_pkey_mprotect, {AT(0), page, RW, -2}, -EINVAL, 0},
        {"a key that is free", SYS_pkey_mprotect, {AT(0), page, RW, 9}, -EINVAL, 0},
        {"no key", SYS_pkey_mprotect, {AT(0), page, RW, -1}, 0, 0},
        {"no such key, no length", SYS_pkey_mprotect, {AT(0), 0, RW, 77}, 0, 0},
        {"no such key, past the end", SYS_pkey_mprotect, {AT(0), -page, RW, 77}, -ENOMEM, 0},
        {"a hole", SYS_pkey_mprotect, {AT(HOLE_AT), page, RW, -1}, -ENOMEM, 0},
        {"not a page's start", SYS_pkey_mprotect, {AT(0) + 1, page, RW, -1}, -EINVAL, 0},
        {"rights that are none", SYS_pkey_mprotect, {AT(0), page, 0x10, -1}, -EINVAL, 0},
        {"shared, open for reading", SYS_pkey_mprotect, {AT(FILE_RO_AT), page, RW, -1}, -EACCES, 0},
    };

    RUN(rows);
}

#ifdef __x86_64__
static unsigned
rights(void)
{
    unsigned low, high;

    __asm__ volatile("rdpkru" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static void
set_rights(unsigned value)
{
    __asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

static long key;
static volatile unsigned in_handler;
static volatile long raised, said_key;

static void
handler(int number, siginfo_t *info, void *context)
{
    unsigned free = rights();

    (void)context;
    in_handler = free;
    raised = RAISED(number, info->si_code);
    said_key = (long)info->si_pkey;
    /* The page is not ours in here either: go on with full rights on the way out. */
    EXPECT(call(SYS_pkey_mprotect, AT(0), page, RW, 0, 0, 0), 0);
}

static void
denied(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

    arena_make();
    EXPECT(call(SYS_pkey_mprotect, AT(0), page, RW, key, 0, 0), 0);
    EXPECT(PTR(0)[0], 'A');
    set_rights(rights() | DISABLE_WRITE << (2 * key));
    EXPECT(PTR(0)[0], 'A');
    EXPECT(touch(AT(0), TOUCH_WRITE), RAISED(SIGSEGV, SEGV_PKUERR));
    EXPECT(touch(AT(1), TOUCH_WRITE), 0);
    set_rights(rights() | DISABLE_ACCESS << (2 * key));
    EXPECT(touch(AT(0), TOUCH_READ), RAISED(SIGSEGV, SEGV_PKUERR));
    /* The kernel, on our behalf, is denied too. */
    EXPECT(call(SYS_write, file_rw, AT(0), 1, 0, 0, 0), -EFAULT);
    EXPECT(call(SYS_read, file_rw, AT(0), 1, 0, 0, 0), -EFAULT);

    EXPECT(sigaction(SIGSEGV, &action, NULL), 0);
    raised = 0;
    unsigned before = rights();
    PTR(0)[1] = 'z'; /* the handler gives the page another key: then it goes on */
    EXPECT(raised, RAISED(SIGSEGV, SEGV_PKUERR));
    EXPECT(said_key, key);
    EXPECT(in_handler, DEFAULT_RIGHTS);
    EXPECT(rights(), before);
    EXPECT(PTR(0)[1], 'z');
    signal(SIGSEGV, SIG_DFL);
}

/* A child has the keys and the rights; the first program of a process starts with the default. */
static void
child_has_it(void)
{
    EXPECT(touch(AT(0), TOUCH_READ), RAISED(SIGSEGV, SEGV_PKUERR));
    EXPECT(call(SYS_pkey_free, key, 0, 0, 0, 0, 0), 0);
}

static void
lives_on(void)
{
    EXPECT(call(SYS_pkey_mprotect, AT(0), page, RW, key, 0, 0), 0);
    EXPECT(in_child(child_has_it), 0);
    for (int i = 0; i < 100; i++)
        sched_yield();
    EXPECT(touch(AT(0), TOUCH_READ), RAISED(SIGSEGV, SEGV_PKUERR));
    /* mprotect() leaves the key, moving takes it along, freeing it too. */
    EXPECT(call(SYS_mprotect, AT(0), page, PROT_READ, 0, 0, 0), 0);
    EXPECT(touch(AT(0), TOUCH_READ), RAISED(SIGSEGV, SEGV_PKUERR));
    EXPECT(call(SYS_mremap, AT(0), page, page, MREMAP_MAYMOVE | MREMAP_FIXED, AT(FREE_AT), 0),
           AT(FREE_AT));
    EXPECT(touch(AT(FREE_AT), TOUCH_READ), RAISED(SIGSEGV, SEGV_PKUERR));
    EXPECT(call(SYS_pkey_free, key, 0, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_pkey_free, key, 0, 0, 0, 0, 0), -EINVAL);
    EXPECT(touch(AT(FREE_AT), TOUCH_READ), RAISED(SIGSEGV, SEGV_PKUERR));
    EXPECT(call(SYS_pkey_mprotect, AT(1), page, RW, key, 0, 0), -EINVAL);
}

/* Memory to execute is not for reading. */
static void
execute_only(void)
{
    static const unsigned char answer[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
    int (*function)(void) = (int (*)(void))AT(1);

    arena_make();
    memcpy((void *)AT(1), answer, sizeof(answer));
    EXPECT(call(SYS_mprotect, AT(1), page, PROT_EXEC, 0, 0, 0), 0);
    EXPECT(function(), 42);
    EXPECT(touch(AT(1), TOUCH_READ), RAISED(SIGSEGV, SEGV_PKUERR));
    EXPECT(call(SYS_mprotect, AT(1), page, PROT_READ | PROT_EXEC, 0, 0, 0), 0);
    EXPECT(PTR(1)[0], answer[0]);
}
#endif

/* A split needs one mapping more than there may be. */
static void
full(void)
{
    EXPECT(call(SYS_pkey_mprotect, AT(1), page, PROT_READ, -1, 0, 0), -ENOMEM);
}

static const struct documented documented[] = {
    {EACCES, NULL},
    {EINVAL, NULL},
    {ENOMEM, NULL},
};

CALL(pkey_mprotect, SYS_pkey_mprotect, documented)
{
    errors();
#ifdef __x86_64__
    key = call(SYS_pkey_alloc, 0, DISABLE_WRITE, 0, 0, 0, 0);
    if (key < 0) {
        EXPECT(key == -ENOSPC || (!on_quire() && key == -EINVAL), true); /* none at all */
        return;
    }
    EXPECT(key >= 1 && key <= 15, true);
    EXPECT(rights() >> (2 * key) & 3, DISABLE_WRITE);
    set_rights(rights() & ~(3u << (2 * key)));
    denied();
    lives_on();
    execute_only();
#else
    EXPECT(call(SYS_pkey_alloc, 0, 0, 0, 0, 0, 0), -ENOSPC);
#endif
    at_map_limit(full);
}
