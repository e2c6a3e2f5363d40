/* SPDX-License-Identifier: MIT */
/*
 * Names of functions, and backtraces.
 *
 * tools/kernel-symbols makes the table from the linked image: first the words that names are made
 * of, then for each function, by address, how far it begins behind the one before and its words.
 * A name is found by walking the table from its start; that is some ten thousand steps, and only
 * reports do it.
 *
 * Backtraces follow the frame pointers, which every function keeps.  Below the kernel's first frame
 * stands whatever the user had in that register: so a frame counts only on the running stack,
 * above the one before, and a return address only in the kernel's text.
 */
#include <arch.h>
#include <kstring.h>
#include <printk.h>
#include <symbols.h>

extern const char text_start[], text_end[];
extern const uint8_t symbols_start[], symbols_end[];

enum { DEPTH_MAX = 16 };

static bool
is_text(uintptr_t pc)
{
    return pc >= (uintptr_t)text_start && pc < (uintptr_t)text_end;
}

/* Seven bits a byte, the low ones first. */
static size_t
number_read(const uint8_t **at)
{
    size_t value = 0;
    unsigned shift = 0;
    uint8_t byte;

    do {
        byte = *(*at)++;
        value |= (size_t)(byte & 127) << shift;
        shift += 7;
    } while (byte >= 128);
    return value;
}

static const char *
word_find(size_t index)
{
    const uint8_t *at = symbols_start;

    (void)number_read(&at);
    while (index-- > 0)
        at += strlen((const char *)at) + 1;
    return (const char *)at;
}

/* Where the functions begin. */
static const uint8_t *
functions_find(void)
{
    const uint8_t *at = symbols_start;

    for (size_t words = number_read(&at); words > 0; words--)
        at += strlen((const char *)at) + 1;
    return at;
}

static void
name_write(struct qr_writer *writer, const uint8_t *at)
{
    size_t words = number_read(&at);

    for (size_t i = 0; i < words; i++)
        qr_writer_printf(writer, "%s%s", i == 0 ? "" : "_", word_find(number_read(&at)));
}

/* "name+offset" of @pc as the function that @inside lies in counts it. */
static bool
inside_write(struct qr_writer *writer, uintptr_t inside, uintptr_t pc)
{
    const uint8_t *at, *name = NULL;
    uintptr_t start = (uintptr_t)text_start;
    uintptr_t found = 0;

    if (&symbols_start[0] == &symbols_end[0] || !is_text(inside))
        return false;
    for (at = functions_find(); at < symbols_end;) {
        start += number_read(&at);
        if (start > inside)
            break;
        found = start;
        name = at;
        for (size_t words = number_read(&at); words > 0; words--)
            (void)number_read(&at);
    }
    if (name == NULL)
        return false;
    name_write(writer, name);
    qr_writer_printf(writer, "+0x%zx", (size_t)(pc - found));
    return true;
}

bool
symbol_write(struct qr_writer *writer, uintptr_t pc)
{
    return inside_write(writer, pc, pc);
}

bool
symbol_write_caller(struct qr_writer *writer, uintptr_t return_address)
{
    return inside_write(writer, return_address - 1, return_address);
}

/* ---- backtraces --------------------------------------------------------------------------- */

/* Along the frames that lie in [low, high). */
static unsigned
frames_walk(uintptr_t fp, uintptr_t low, uintptr_t high, uintptr_t *out, unsigned count)
{
    unsigned depth = 0;

    while (depth < count && fp % sizeof fp == 0) {
        const struct frame_record *record = frame_record_of(fp);
        uintptr_t previous;

        if ((uintptr_t)record < low || (uintptr_t)(record + 1) > high)
            break;
        previous = record->previous;
        if (is_text(record->return_address))
            out[depth++] = record->return_address;
        else if (depth ==
                 0) /* RISC-V: who calls nobody keeps the pointer there, and nothing else */
            previous = record->return_address;
        else
            break;
        if (previous <= fp)
            break;
        fp = previous;
    }
    return depth;
}

/* On the stack of the running thread; elsewhere (as a CPU starts) on the one that is in use. */
static unsigned
frames_take(uintptr_t fp, uintptr_t in_use, uintptr_t *out, unsigned count)
{
    const struct arch_thread *thread = (const struct arch_thread *)thread_current();

    if (thread != NULL && fp >= thread->stack && fp <= thread->stack_top)
        return frames_walk(fp, thread->stack, thread->stack_top, out, count);
    return frames_walk(fp, in_use, in_use + KERNEL_STACK_BYTES, out, count);
}

unsigned
backtrace_take(uintptr_t *out, unsigned count)
{
    uintptr_t fp = (uintptr_t)__builtin_frame_address(0);

    return frames_take(fp, fp - sizeof(struct frame_record), out, count);
}

void
symbol_log(const char *what, uintptr_t pc)
{
    char text[96];
    struct qr_buffer_writer buffer;

    qr_buffer_writer_init(&buffer, text, sizeof text);
    (void)symbol_write(&buffer.writer, pc);
    printk("  %s %zx %s\n", what, pc, text);
}

void
backtrace_log(uintptr_t fp)
{
    uintptr_t callers[DEPTH_MAX];
    unsigned depth = frames_take(fp, (uintptr_t)__builtin_frame_address(0), callers, DEPTH_MAX);

    for (unsigned i = 0; i < depth; i++) {
        char text[96];
        struct qr_buffer_writer buffer;

        qr_buffer_writer_init(&buffer, text, sizeof text);
        (void)symbol_write_caller(&buffer.writer, callers[i]);
        printk("  called from %zx %s\n", callers[i], text);
    }
}
