/* SPDX-License-Identifier: MIT */
/*
 * What processes are made of: numbers of threads that a clone leaves in memory, clones that are
 * refused, another user, and calls that answer through a pointer.
 */
#include "differential.h"

#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#ifdef SYS_clock_gettime64
#define CALL_CLOCK SYS_clock_gettime64
#else
#define CALL_CLOCK SYS_clock_gettime
#endif
#ifdef SYS_setresuid32
#define CALL_USER SYS_setresuid32
#else
#define CALL_USER SYS_setresuid
#endif

/* What stands at @address: the number of thread @tid, something else, or nothing. */
static int
number_at(uintptr_t address, uint32_t tid)
{
    uint8_t bytes[sizeof(tid)];
    struct fault fault;

    for (unsigned i = 0; i < sizeof(bytes); i++) {
        if (!touch(address + i, ACCESS_LOAD, &bytes[i], &fault))
            return 2;
    }
    return memcmp(bytes, &tid, sizeof(tid)) == 0;
}

/* Something that is the same everywhere, in place of what is not. */
static void
overwrite(uintptr_t address, size_t bytes)
{
    struct fault fault;

    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)(i + 1);

        if (!touch(address + i, ACCESS_STORE, &byte, &fault))
            i |= PAGE_BYTES - 1; /* the rest is as it was, and so is the next page */
    }
}

static int
child_number(const void *address)
{
    return number_at(*(const uintptr_t *)address, (uint32_t)call(SYS_gettid));
}

/* arg: where, which of the flags */
static void
tid_execute(const uintptr_t *arg)
{
    const struct clone_args args = {
        .flags = ((arg[1] & 1) != 0 ? CLONE_PARENT_SETTID : 0) |
                 ((arg[1] & 2) != 0 ? CLONE_CHILD_SETTID : 0) |
                 ((arg[1] & 4) != 0 ? CLONE_CHILD_CLEARTID : 0),
        .exit_signal = SIGCHLD,
        .parent_tid = arg[0],
        .child_tid = arg[0],
    };
    uint32_t child = 0;
    long seen = machine_child(&args, child_number, &arg[0], &child);

    if (seen < 0) {
        say_result(seen);
        return;
    }
    say(" child %ld parent %d", seen, number_at(arg[0], child));
    overwrite(arg[0], sizeof(child));
}

struct refused {
    size_t bytes;
    struct clone_args args;
};

/* Of no size that there was, of flags that exclude each other, of stacks that are none. */
static void
refused_execute(const uintptr_t *arg)
{
    static const struct refused rows[] = {
        {0, {.exit_signal = SIGCHLD}},
        {63, {.exit_signal = SIGCHLD}},
        {4097, {.exit_signal = SIGCHLD}},
        {64, {.exit_signal = 65}},
        {64, {.flags = SIGCHLD}},
        {64, {.flags = CLONE_SIGHAND}},
        {64, {.flags = CLONE_THREAD}},
        {64, {.flags = CLONE_THREAD | CLONE_SIGHAND}},
        {64, {.flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, .exit_signal = SIGCHLD}},
        {64, {.flags = CLONE_PARENT, .exit_signal = SIGCHLD}},
        {64, {.flags = CLONE_DETACHED}},
        {64, {.flags = 1ull << 40}},
        {64, {.flags = CLONE_FS | CLONE_NEWNS}},
        {64, {.flags = CLONE_VM, .stack = PAGE_BYTES}},
        {64, {.flags = CLONE_VM, .stack_size = PAGE_BYTES}},
        {64, {.flags = CLONE_VM, .stack = 1ull << 63, .stack_size = PAGE_BYTES}},
        {88, {.flags = CLONE_SIGHAND | CLONE_VM | 0x100000000ull /* CLEAR_SIGHAND */}},
        {88, {.set_tid_size = 1}},
        {88, {.set_tid = 1}},
        {88, {.set_tid = 1, .set_tid_size = 33}},
    };
    const struct refused *row = &rows[arg[0] % (sizeof(rows) / sizeof(rows[0]))];
    const struct clone_args more = {.flags = 1}; /* behind what is known */

    scratch_put(0, &row->args, sizeof(row->args));
    scratch_put(sizeof(row->args), &more, sizeof(more));
    say_result(call(SYS_clone3, machine_scratch(), row->bytes));
    say_result(call(SYS_clone3, machine_scratch(), sizeof(row->args) + 8));
    say_result(call(SYS_clone3, 1, 64));
}

/* From now on it is a user whom nobody else is, who may be looked at. */
static void
user_execute(void)
{
    uint64_t user = 30000 + (uint64_t)process_id(0) % 30000;

    say_result(call(CALL_USER, user, user, user));
    call(SYS_prctl, PR_SET_DUMPABLE, 1);
}

/* Calls whose answers differ from machine to machine: only whether they can be given. */
static void
ask_execute(const uintptr_t *arg)
{
    uintptr_t out = arg[1];

    switch (arg[0] % 9) {
    case 0:
        say_result(call(SYS_getrusage, arg[0] / 9 % 4 - 1, out));
        break;
    case 1:
        say_result(call(SYS_sysinfo, out));
        break;
    case 2:
        say(is_error(call(SYS_times, out)) ? " refused" : " ok");
        break;
    case 3:
        say_result(call(SYS_getcpu, out, out + 8, 0));
        break;
    case 4:
        say_result(call(SYS_prlimit64, 0, arg[0] / 9 % 18, 0, out));
        break;
    case 5:
        say_result(call(SYS_uname, out));
        break;
    case 6:
        say_result(call(CALL_CLOCK, CLOCK_MONOTONIC, out));
        break;
    case 7:
        say_result(call(SYS_get_mempolicy, out, out + 8, 64, 0, 0));
        break;
    default:
        scratch_put(0, "", 1);
        say_result(call(SYS_statx, (uint64_t)descriptor(1), machine_scratch(), 0x1000, 0x7ff, out));
        break;
    }
    overwrite(out, 512);
}

void
process_execute(enum op_kind kind, const uintptr_t *arg)
{
    switch (kind) {
    case OP_TID:
        tid_execute(arg);
        break;
    case OP_REFUSED:
        refused_execute(arg);
        break;
    case OP_USER:
        user_execute();
        break;
    default:
        ask_execute(arg);
        break;
    }
}
