/* SPDX-License-Identifier: MIT */
/*
 * Files of 64-bit words by position, one for each page: /proc/PID/pagemap, of a process's
 * addresses; /proc/kpagecount and /proc/kpageflags, of the machine's frames.  And
 * /proc/PID/clear_refs, which makes the next look at them mean something.
 *
 * Only whole words are read, as in Linux.  A reader of many gigabytes can be interrupted.
 */
#include <quire/report.h>

#include "mm.h"
#include "proc.h"
#include "proc_pid.h"
#include "sched.h"
#include "signal.h"
#include "text.h"

enum { CHUNK = 512, WORD_BYTES = 8 };

/** @out gets the words of @count pages from @first on. */
typedef void (*words_fn)(const void *about, uint64_t first, size_t count, uint64_t *out);

static int64_t
words_transfer(struct io *io, uint64_t *position, uint64_t last, words_fn fill, const void *about,
               uint64_t *words)
{
    size_t total = 0;

    while (io->left >= WORD_BYTES) {
        uint64_t page = *position / WORD_BYTES;
        size_t count = io->left / WORD_BYTES;

        if (page >= last) {
            break;
        }
        count = count < CHUNK ? count : CHUNK;
        count = count < last - page ? count : (size_t)(last - page);
        fill(about, page, count, words);
        size_t done = io_put(io, words, count * WORD_BYTES);
        *position += done;
        total += done;
        if (done < count * WORD_BYTES) {
            return total > 0 ? (int64_t)total : -EFAULT;
        }
        if (signal_is_pending()) {
            break;
        }
        sched_relax();
    }
    return (int64_t)total;
}

/* The words of pages below @last, from *@position on. */
static int64_t
words_read(struct io *io, uint64_t *position, uint64_t last, words_fn fill, const void *about)
{
    int64_t result;

    if (*position % WORD_BYTES != 0 || io->left % WORD_BYTES != 0) {
        return -EINVAL;
    }
    uint64_t *words = kmem_calloc(CHUNK, sizeof *words);
    result = words == NULL ? -ENOMEM : words_transfer(io, position, last, fill, about, words);
    kmem_free(words);
    return result;
}

/* ---- /proc/PID/pagemap ------------------------------------------------------------------- */

/* The frame of a page, or where it is swapped to: not for everybody. */
#define PAGEMAP_FRAME (((uint64_t)1 << 55) - 1)

struct page_view {
    struct mm *mm;
    bool frames;
};

static void
pagemap_fill(const void *about, uint64_t first, size_t count, uint64_t *out)
{
    const struct page_view *view = about;

    qr_report_pagemap(view->mm->space, (size_t)first, count, out);
    for (size_t i = 0; i < count && !view->frames; i++) {
        out[i] &= ~PAGEMAP_FRAME;
    }
}

static int64_t
pagemap_read(struct file *file, struct io *io, uint64_t *position)
{
    const struct page_view view = {proc_memory_of(file), proc_memory_shows_frames(file)};

    if (view.mm == NULL) {
        return 0;
    }
    int64_t result = words_read(io, position, mm_user_limit() / FS_PAGE_BYTES, pagemap_fill, &view);
    mm_put(view.mm);
    return result;
}

const struct file_ops proc_pagemap_ops = {
    .name = "pagemap",
    .read = pagemap_read,
    .seek = proc_seek_wide,
    .release = proc_memory_release,
};

/* ---- /proc/PID/clear_refs ------------------------------------------------------------------ */

/* 1, 2, 3: the accessed flags of all, anonymous, file pages; 4: soft-dirty; 5: the peak. */
int64_t
proc_store_clear_refs(const struct text_target *target, const char *text, size_t length)
{
    uint64_t what;
    size_t digits = decimal_parse(text, length, &what);
    struct mm *mm;

    if (digits == 0 || (digits < length && text[digits] != '\n') || what < 1 || what > 5) {
        return -EINVAL;
    }
    mm = mm_of_process(target->process);
    if (mm == NULL) {
        return -ESRCH;
    }
    if (what == 5) {
        qr_space_reset_peak(mm->space);
    } else if (what == 4) {
        qr_space_track_writes(mm->space);
    } else {
        qr_space_forget_references(mm->space, (enum qr_references)(what - 1));
    }
    mm_put(mm);
    return 0;
}

/* ---- /proc/kpagecount, /proc/kpageflags ----------------------------------------------------- */

static void
counts_fill(const void *about, uint64_t first, size_t count, uint64_t *out)
{
    qr_report_frame_counts(about, first, count, out);
}

static void
flags_fill(const void *about, uint64_t first, size_t count, uint64_t *out)
{
    qr_report_frame_flags(about, first, count, out);
}

static int64_t
frame_counts_read(struct file *file, struct io *io, uint64_t *position)
{
    const struct qr_report *report = kernel_report();

    (void)file;
    return words_read(io, position, qr_report_frame_end(report), counts_fill, report);
}

static int64_t
frame_flags_read(struct file *file, struct io *io, uint64_t *position)
{
    const struct qr_report *report = kernel_report();

    (void)file;
    return words_read(io, position, qr_report_frame_end(report), flags_fill, report);
}

const struct file_ops proc_frame_counts_ops = {
    .name = "kpagecount", .read = frame_counts_read, .seek = proc_seek_wide};
const struct file_ops proc_frame_flags_ops = {
    .name = "kpageflags", .read = frame_flags_read, .seek = proc_seek_wide};
