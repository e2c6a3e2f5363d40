/* SPDX-License-Identifier: MIT */
/*
 * Advice about memory, what of it is there, and writing it back: madvise, mincore, msync.
 */
#include "calls.h"

#include <quire/reclaim.h>

#include "file.h"
#include "hugetlb.h"
#include "merge.h"
#include "userfault_notice.h"

#define MADV_MERGEABLE      12
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#define MADV_COLLAPSE       25
#define MADV_HWPOISON       100
#define MADV_SOFT_OFFLINE   101

#define MS_ASYNC      1u
#define MS_INVALIDATE 2u
#define MS_SYNC       4u

/* ---- advice ------------------------------------------------------------------------------- */

struct advice_row {
    int number;
    enum qr_advice advice;
};

static const struct advice_row advice_rows[] = {
    {0, QR_ADVICE_NORMAL},          {1, QR_ADVICE_RANDOM},
    {2, QR_ADVICE_SEQUENTIAL},      {3, QR_ADVICE_WILL_NEED},
    {4, QR_ADVICE_DONT_NEED},       {8, QR_ADVICE_FREE},
    {9, QR_ADVICE_REMOVE},          {10, QR_ADVICE_DONT_FORK},
    {11, QR_ADVICE_DO_FORK},        {MADV_MERGEABLE, QR_ADVICE_MERGEABLE},
    {13, QR_ADVICE_UNMERGEABLE},    {14, QR_ADVICE_HUGE},
    {15, QR_ADVICE_NO_HUGE},        {16, QR_ADVICE_DONT_DUMP},
    {17, QR_ADVICE_DO_DUMP},        {18, QR_ADVICE_WIPE_ON_FORK},
    {19, QR_ADVICE_KEEP_ON_FORK},   {20, QR_ADVICE_COLD},
    {21, QR_ADVICE_PAGE_OUT},       {22, QR_ADVICE_POPULATE_READ},
    {23, QR_ADVICE_POPULATE_WRITE}, {24, QR_ADVICE_DONT_NEED_LOCKED},
};

static const struct advice_row *
find_advice(int number)
{
    for (size_t i = 0; i < QR_ARRAY_COUNT(advice_rows); i++) {
        if (advice_rows[i].number == number)
            return &advice_rows[i];
    }
    return NULL;
}

/* For tests of what programs do when memory fails; page by page, up to the first that cannot be. */
static int64_t
retire(struct qr_space *space, uint64_t start, uint64_t length, enum qr_retire how)
{
    enum qr_status status = QR_OK;

    if (!process_has_capability(CAP_SYS_ADMIN))
        return -EPERM;
    for (uint64_t done = 0; status == QR_OK && done < length; done += QR_PAGE_SIZE)
        status = qr_space_retire_page(space, qr_va_of(start + done), how);
    return error_of(status);
}

/* DONTNEED, REMOVE, DONTNEED_LOCKED: never given to another process. */
static bool
is_dropping(int number)
{
    return number == 4 || number == 9 || number == 24;
}

/* DONTNEED, FREE, REMOVE, DONTFORK, WIPEONFORK, DONTNEED_LOCKED: what a sealed mapping refuses. */
static bool
is_discarding(int number)
{
    return is_dropping(number) || number == 8 || number == 10 || number == 18;
}

/*
 * Does a seal keep the contents that the library would let go?  One of the file; or that of a mapping
 * whose protection key lets the thread not write.
 */
static bool
region_keeps(const struct qr_region *region, int number)
{
    if (number == 9 && region->file != NULL)
        return (region->flags & QR_REGION_SHARED) != 0 && (region->flags & QR_REGION_LOCKED) == 0 &&
               (region->max_prot & QR_PROT_WRITE) != 0 && file_is_sealed(region->file);
    return (region->flags & QR_REGION_SEALED) != 0 && region->object == NULL &&
           arch_pkey_rights(region->pkey) != 0;
}

/* Where in the range what advice @number may not touch begins; @end: nowhere. */
static uint64_t
first_kept(struct qr_space *space, uint64_t start, uint64_t end, int number)
{
    uint64_t kept = end;

    if (!is_discarding(number) || space != current_space())
        return end;
    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, qr_va_of(start));

    for (; kept == end && region != NULL && region->start.v < end;
         region = qr_region_next(region)) {
        if (region_keeps(region, number))
            kept = region->start.v > start ? region->start.v : start;
    }
    qr_rw_read_unlock(&space->lock);
    return kept;
}

/* What is not about single pages. */
static enum qr_status
advise_range(struct qr_space *space, uint64_t start, uint64_t length, int number)
{
    if (length == 0)
        return QR_OK;
    if (number == MADV_COLLAPSE)
        return qr_space_collapse(space, qr_va_of(start), length);
    return MM_RETRY(space,
                    qr_space_advise(space, qr_va_of(start), length, find_advice(number)->advice));
}

static int64_t
advise_error(enum qr_status status, int number)
{
    if (status == QR_ERR_IO && (number == MADV_POPULATE_READ || number == MADV_POPULATE_WRITE))
        return -EHWPOISON;
    if (status == QR_ERR_UNSUPPORTED && number == 9)
        return -EOPNOTSUPP; /* a file that has no holes */
    return mapped_error_of(status);
}

static int64_t
advise(struct qr_space *space, uint64_t start, uint64_t length, int number)
{
    const struct advice_row *row = find_advice(number);
    uint64_t rounded = length;

    if ((row == NULL && number != MADV_COLLAPSE && number != MADV_HWPOISON &&
         number != MADV_SOFT_OFFLINE) ||
        (start & QR_PAGE_MASK))
        return -EINVAL;
    if (!round_length(&rounded) || range_wraps(start, rounded))
        return -EINVAL;
    if (rounded == 0)
        return 0;
    if (number == MADV_HWPOISON || number == MADV_SOFT_OFFLINE)
        return retire(space, start, rounded,
                      number == MADV_HWPOISON ? QR_RETIRE_LOSE : QR_RETIRE_KEEP);
    if (is_dropping(number)) {
        int64_t error = userfault_remove(process_current()->mm, start, rounded);

        if (error != 0)
            return error;
    }
    if (number == MADV_MERGEABLE) /* users are strangers to each other */
        qr_space_set_merge_domain(space, process_current()->credentials.euid);
    uint64_t kept = first_kept(space, start, start + rounded, number);
    int64_t error = advise_error(advise_range(space, start, kept - start, number), number);

    if (number == MADV_MERGEABLE)
        merge_advised();
    return kept < start + rounded && (error == 0 || error == -ENOMEM) ? -EPERM : error;
}

int64_t
sys_madvise(const struct syscall_args *args)
{
    return advise(current_space(), args->arg[0], args->arg[1], (int)args->arg[2]);
}

/* Advice that another process may give: it drops nothing.  To itself, since Linux 6.13, all. */
static bool
is_for_others(int number)
{
    return number == 3 || number == 20 || number == 21 || number == 25; /* WILLNEED, COLD, ... */
}

/* @return bytes advised, or the first error where that is none */
static int64_t
advise_pieces(struct qr_space *space, const struct user_piece *pieces, uint64_t count, int number)
{
    int64_t done = 0, error = 0;

    for (uint64_t i = 0; i < count && error == 0; i++) {
        if (pieces[i].length > 0)
            error = advise(space, pieces[i].base, pieces[i].length, number);
        if (error == 0)
            done += (int64_t)pieces[i].length;
    }
    return done != 0 ? done : error;
}

int64_t
sys_process_madvise(const struct syscall_args *args)
{
    int number = (int)args->arg[3];
    struct user_piece *pieces;
    struct process *process;
    struct mm *mm = NULL;
    uint32_t flags;
    int64_t result;
    bool own = false;

    if ((uint32_t)args->arg[4] != 0)
        return -EINVAL;
    result = import_pieces(args->arg[1], args->arg[2], &pieces);
    if (result == 0)
        result = pidfd_process((int)args->arg[0], &process, &flags);
    if (result == 0) {
        mm = mm_of_process(process);
        own = mm == process_current()->mm; /* another process's where it shares ours */
        if (mm == NULL)
            result = -ESRCH;
        else if (!own && !process_may_inspect(process, mm, true))
            result = -EACCES;
        if (result == 0 && !own && !is_for_others(number))
            result = -EINVAL;
        process_put(process);
    }
    if (result == 0 && !own && !process_has_capability(CAP_SYS_NICE))
        result = -EPERM;
    if (result == 0)
        result = advise_pieces(mm->space, pieces, args->arg[2], number);
    if (mm != NULL)
        mm_put(mm);
    kmem_free(pieces);
    return result;
}

/* ---- looking and syncing ------------------------------------------------------------------------ */

/*
 * How many of @pages pages from @start on lie in its region: the vector is filled by regions.  What of a
 * file that the process might not write is in memory is nothing that it is told of (*hidden).
 */
static size_t
mapped_pages(uint64_t start, uint64_t pages, bool *hidden)
{
    struct qr_space *space = current_space();
    const struct qr_region *region;
    size_t found = 0;

    qr_rw_read_lock(&space->lock);
    region = qr_space_find(space, qr_va_of(start));
    if (region != NULL && region->start.v <= start) {
        found = (size_t)((region->end.v - start) >> QR_PAGE_SHIFT);
        *hidden =
            region->file != NULL && region->object != NULL && !file_could_be_written(region->file);
    }
    qr_rw_read_unlock(&space->lock);
    return found < pages ? found : (size_t)pages;
}

int64_t
sys_mincore(const struct syscall_args *args)
{
    uint64_t start = args->arg[0], length = args->arg[1], out = args->arg[2];
    uint8_t present[256];

    if (start & QR_PAGE_MASK)
        return -EINVAL;
    if (!is_in_user_half(start, length))
        return -ENOMEM;
    if (!round_length(&length))
        return -ENOMEM;
    if (!is_in_user_half(out, length >> QR_PAGE_SHIFT))
        return -EFAULT;
    for (uint64_t pages = length >> QR_PAGE_SHIFT; pages > 0;) {
        bool hidden = false;
        size_t now =
            mapped_pages(start, pages < sizeof(present) ? pages : sizeof(present), &hidden);
        enum qr_status status;

        if (now == 0)
            return -ENOMEM;
        status = qr_space_resident(current_space(), qr_va_of(start), now, present);
        if (status != QR_OK)
            return mapped_error_of(status);
        if (hidden)
            memset(present, 1, now);
        if (user_write(out, present, now) != 0)
            return -EFAULT;
        pages -= now;
        start += now << QR_PAGE_SHIFT;
        out += now;
    }
    return 0;
}

/* The file that is mapped shared at or above @at and below @end, with a reference; NULL: no more. */
static struct file *
next_shared_file(uint64_t *at, uint64_t end)
{
    struct qr_space *space = current_space();
    struct file *file = NULL;

    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, qr_va_of((uintptr_t)*at));

    while (region != NULL && region->start.v < end && file == NULL) {
        if ((region->flags & QR_REGION_SHARED) != 0 && region->file != NULL) {
            file = region->file;
            file_ref(file);
        }
        *at = region->end.v;
        region = qr_region_next(region);
    }
    qr_rw_read_unlock(&space->lock);
    return file;
}

/* What leads to the pages that are written already: inodes and their like. */
static int64_t
sync_files(uint64_t start, uint64_t length)
{
    uint64_t at = start;
    struct file *file;
    int64_t error = 0;

    while ((file = next_shared_file(&at, start + length)) != NULL) {
        int64_t one = file->ops->sync == NULL ? 0 : file_sync(file, 0, 0, FILE_SYNC_DATA);

        error = error != 0 ? error : one;
        file_put(file);
    }
    return error;
}

int64_t
sys_msync(const struct syscall_args *args)
{
    uint64_t start = args->arg[0], length = args->arg[1];
    uint32_t flags = (uint32_t)args->arg[2];
    enum qr_status status;

    if (flags & ~(uint32_t)(MS_ASYNC | MS_INVALIDATE | MS_SYNC))
        return -EINVAL;
    if (start & QR_PAGE_MASK)
        return -EINVAL;
    if ((flags & MS_ASYNC) && (flags & MS_SYNC))
        return -EINVAL;
    (void)round_length(&length);
    if (range_wraps(start, length))
        return -ENOMEM;
    if (length == 0)
        return 0;
    status = qr_space_sync(current_space(), qr_va_of(start), length, (flags & MS_SYNC) != 0,
                           (flags & MS_INVALIDATE) != 0);
    int64_t error = (flags & MS_SYNC) && status != QR_ERR_BUSY ? sync_files(start, length) : 0;

    return status != QR_OK ? mapped_error_of(status) : error;
}

/* ---- files ------------------------------------------------------------------------------------------ */

struct cachestat_range_user {
    uint64_t offset, length;
};

struct cachestat_user {
    uint64_t cache, dirty, writeback, evicted, recently_evicted;
};

/* Of a place in a file; beyond what an object can have, the highest there is. */
static size_t
page_number(uint64_t offset)
{
    uint64_t page = offset >> QR_PAGE_SHIFT;

    return page < SIZE_MAX ? (size_t)page : SIZE_MAX - 1;
}

int64_t
sys_cachestat(const struct syscall_args *args)
{
    struct file *file = file_get((int)args->arg[0]);
    struct cachestat_range_user range;
    struct qr_object_cached cached = {.pages = 0};
    struct qr_object_evicted evicted = {.pages = 0};
    struct cachestat_user out = {0};
    struct qr_object *object;
    int64_t error = 0;

    if (file == NULL)
        return -EBADF;
    if (user_read(&range, args->arg[1], sizeof(range)) != 0)
        error = -EFAULT;
    else if (hugetlb_pool_of_file(file) != NULL)
        error = -EOPNOTSUPP;
    else if ((file->mode & FILE_WRITE) == 0 && !file_could_be_written(file)) /* since Linux 6.15 */
        error = -EPERM;
    else if ((uint32_t)args->arg[3] != 0)
        error = -EINVAL;
    object = error == 0 ? file_cached_object(file) : NULL;
    if (object != NULL) {
        uint64_t last = range.length == 0 ? UINT64_MAX : range.offset + range.length - 1;

        qr_object_count_cached(object, page_number(range.offset), page_number(last) + 1, &cached);
        qr_object_count_evicted(object, page_number(range.offset), page_number(last) + 1, &evicted);
        qr_object_put(object);
    }
    out.cache = cached.pages;
    out.dirty = cached.dirty;
    out.writeback = cached.writeback;
    out.evicted = evicted.pages;
    out.recently_evicted = evicted.recently;
    if (error == 0)
        error = user_write(args->arg[2], &out, sizeof(out));
    file_put(file);
    return error;
}
