/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_CALLS_H
#define TESTS_USER_CALLS_H

/*
 * Conformance tests of the memory calls, one file a call.
 *
 * Each file is a table: the raw call, its arguments, and what Linux answers.  Before every
 * row a fixed arena of mappings is made anew, so that arguments are constants and
 * rows do not see each other:
 *
 *   page   0  1  2  3 | 4  5 | 6  7  8  9 | 10 11 | 12 13 14 15 | 16 17 18 19 | 20 21 | 22  | ...
 *          private rw | hole | shared rw  | none  | file, priv. | file, shared| s. ro | ro  | free
 *          A  A  A  A |      | S  S  S  S |       | f  f  -  -  | f  f  -  -  | f  f  |     |
 *
 * A, S, f: written.  The files have two pages.  Page 22 is private and read-only, 23 to 31
 * are free.  A call that fails must leave everything as it was: the text of maps, the locked
 * pages, the break, the bytes in the arena, the open files with their sizes, places and seals, what
 * is in pipes, the segments of shared memory, the limits, the children.  Rows whose documentation says
 * otherwise are marked PARTIAL.
 *
 * A file names the errors that its call documents; each is made by a row, or the file says why none can
 * make it.  The runner sees to that.
 *
 * The same program runs on Linux (`./calls`, as root), whose answers are the standard.  `./calls own`:
 * nobody else uses this machine, its limits may be changed.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern long page; /* bytes */

#define ARENA       0x20000000l
#define ARENA_PAGES 32
#define AT(n)       (ARENA + (n)*page)
#define PTR(n)      ((volatile unsigned char *)AT(n))

enum {
    RW_AT = 0,
    HOLE_AT = 4,
    SHARED_AT = 6,
    NONE_AT = 10,
    FILE_PRIVATE_AT = 12,
    FILE_SHARED_AT = 16,
    FILE_RO_AT = 20,
    RO_AT = 22,
    FREE_AT = 23
};

extern int file_rw, file_ro; /* of the same file of two pages, open for both and for reading */

/* The first address that is no user's. */
extern long user_end;
#define USER_END user_end

/* The call that takes a file's offset in bytes, or in units of 4096 on i386. */
#ifdef SYS_mmap2
#define NR_MMAP    SYS_mmap2
#define OFFSET(at) ((at) / 4096)
#else
#define NR_MMAP    SYS_mmap
#define OFFSET(at) (at)
#endif

enum row_flag {
    PARTIAL = 1,  /* fails, and has documented effects all the same */
    OWN_ONLY = 2, /* only where the machine is ours */
};

#define ANY_VALUE LONG_MIN /* succeeds; the value is not known beforehand */

struct row {
    const char *what;
    long number;
    long arg[6];
    long want; /* the value, or the error number negated */
    unsigned flags;
};

/* A 64-bit argument is two words on 32-bit machines. */
#if __SIZEOF_LONG__ == 4
#define WIDE(value) (long)(value), (long)((long long)(value) >> 32)
#else
#define WIDE(value) (long)(value)
#endif

/* Around each row: set up beside the arena; undo, with what the call answered, and look at it. */
struct around {
    void (*before)(void);
    void (*after)(const struct row *row, long got);
};

/* Every row on an arena of its own; @around may be NULL. */
void rows_run(const struct row *rows, size_t count, const struct around *around);
#define RUN(rows)                rows_run(rows, sizeof(rows) / sizeof((rows)[0]), NULL)
#define RUN_AROUND(rows, around) rows_run(rows, sizeof(rows) / sizeof((rows)[0]), around)

/* For `around`: what succeeded is a descriptor, which is closed. */
void close_made(const struct row *row, long got);

/* The arena anew; also forgets locks and limits of memory. */
void arena_make(void);

/* One raw call: the value or the error number negated. */
long call(long number, long a, long b, long c, long d, long e, long f);

/* Is it an error number, negated? */
bool is_error(long value);

/* Is the address backed now?  -1: not mapped. */
int resident(long address);
/* The line of the mapping at @address in /proc/self/maps: its rights, or "" for none. */
const char *rights_at(long address);
/* The offset there, at which the whole mapping begins, or -1 for none. */
long offset_at(long address);
/* The VmFlags of smaps for @address have @flag. */
bool has_flag(long address, const char *flag);
/* A field of /proc/self/status in KiB. */
long status_kib(const char *field);

/* Whether the kernel is Quire, and whether nobody else uses the machine. */
bool on_quire(void);
bool on_own_machine(void);

/* Whether it is Quire, or Linux of this version or later. */
bool is_since(int major, int minor);

/* No descriptor can be opened any more. */
void use_up_descriptors(void);

/* On a machine of our own: run @fn in a child of no rights that finds fs.file-max files open. */
void at_file_limit(void (*fn)(void));

/* Give up all rights: user and group 65534. */
void become_nobody(void);
/* Become user 54321, who has this one process and may not have more. */
void become_single(void);

/* Write @value to a file of /proc/sys; @return what it said before. */
long set_number(const char *path, long value);

/* Run @fn in a child; @return its status as wait4() gives it. */
int in_child(void (*fn)(void));

/*
 * On a machine of our own: run @fn in a child that has as many mappings as it may, with the arena made,
 * so that none of them can be split.
 */
void at_map_limit(void (*fn)(void));

/* What touching @address raised: 0, or signal << 16 | si_code. */
enum touch { TOUCH_READ, TOUCH_WRITE };
long touch(long address, enum touch how);
#define RAISED(signal, code) ((long)(signal) << 16 | (code))

/* CHECKs that a file of this program makes. */
extern int check_failures, check_count;
void check_report(const char *file, int line, const char *what, long got, long wanted);
#define EXPECT(a, b)                                             \
    do {                                                         \
        long got_ = (long)(a), wanted_ = (long)(b);              \
                                                                 \
        check_count++;                                           \
        if (got_ != wanted_)                                     \
            check_report(__FILE__, __LINE__, #a, got_, wanted_); \
    } while (0)

/* An error that a call documents: made by a row of its file, or the reason why none can make it. */
struct documented {
    int error;
    const char *why_not;
};

/*
 * As a reason: the kernel's own memory is short.  Where allocations can be refused
 * (/proc/self/fail-nth), each allocation of each row that succeeds is, and one of them must end so.
 */
extern const char by_refusal[];
#define BY_REFUSAL by_refusal

/* A file's entry: CALL(mmap, NR_MMAP, documented) { ... } */
struct call_test {
    const char *name;
    long number;
    const struct documented *documented;
    size_t documented_count;
    void (*run)(void);
    struct call_test *next;
};
void call_register(struct call_test *test);
#define CALL(call_name, number, documented)                                                     \
    static void call_name##_test(void);                                                         \
    __attribute__((constructor)) static void call_name##_add(void)                              \
    {                                                                                           \
        static struct call_test test = {                                                        \
            #call_name,       number, documented, sizeof(documented) / sizeof((documented)[0]), \
            call_name##_test, NULL};                                                            \
                                                                                                \
        call_register(&test);                                                                   \
    }                                                                                           \
    static void call_name##_test(void)

#endif
