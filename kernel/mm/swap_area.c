/* SPDX-License-Identifier: MIT */
/*
 * Where the pages of a swap area lie on the disk.
 *
 *   file    [ page 0 | page 1 | page 2 | page 3 ][ page 4 | page 5 ] ...
 *   extent    0: page 0, 4 pages, sector 80      1: page 4, 2 pages, sector 400
 *
 * They are looked up once, while nobody can move them any more, and kept.  So swapping goes straight to the disk
 * below the file system: it takes no lock of that and needs no memory of it, which the memory that is being
 * freed may be needed for.  A request stands on its maker's stack for the same reason.
 *
 * Where blocks are smaller than pages, a page is as many of them as follow each other on the disk; what is
 * left over at the end of such a run is skipped, so the area has fewer pages than the file.
 *
 * A disk as a whole is one extent.
 */
#include "swap_area.h"

#include <quire/status.h>

#include "memory.h"
#include "mm.h"
#include "signal.h"

enum { LOOK_BYTES = 1 << 20 }; /* of a file, between looks at signals */

/* ---- Looking them up -------------------------------------------------------------------- */

struct survey {
    struct direct_target target;
    uint64_t bytes;              /* of the file */
    size_t wanted;               /* pages */
    struct swap_extent *extents; /* NULL: they are only counted */
    size_t room;                 /* for so many */
    size_t count, pages;
    struct swap_extent last;
};

static uint64_t
sectors_of(size_t pages)
{
    return (uint64_t)pages << (QR_PAGE_SHIFT - SECTOR_SHIFT);
}

static bool
survey_add(struct survey *survey, uint64_t sector, size_t pages)
{
    struct swap_extent *last = &survey->last;

    if (survey->count != 0 && sector == last->sector + sectors_of(last->pages)) {
        last->pages += pages;
    } else {
        if (survey->extents != NULL && survey->count == survey->room)
            return false;
        *last = (struct swap_extent){survey->pages, pages, sector};
        survey->count++;
    }
    if (survey->extents != NULL)
        survey->extents[survey->count - 1] = *last;
    survey->pages += pages;
    return true;
}

/* Go through the file once. */
static int64_t
survey_run(struct survey *survey)
{
    const struct direct_target *target = &survey->target;
    uint64_t offset = 0;

    survey->count = survey->pages = 0;
    while (survey->pages < survey->wanted && survey->bytes - offset >= QR_PAGE_SIZE) {
        uint64_t left = survey->bytes - offset, sector;
        size_t found;
        int64_t error =
            target->find(target->context, offset, left < LOOK_BYTES ? (size_t)left : LOOK_BYTES,
                         false, &sector, &found);

        if (error == 0 && signal_is_fatal_pending())
            error = -EINTR;
        if (error == 0 && sector == UINT64_MAX)
            error = -EINVAL;
        if (error != 0)
            return error;
        size_t pages = found >> QR_PAGE_SHIFT;

        if (pages > survey->wanted - survey->pages)
            pages = survey->wanted - survey->pages;
        if (pages != 0 && !survey_add(survey, sector, pages))
            return -EIO; /* the disk says something else than a moment ago */
        offset += pages != 0 ? (uint64_t)pages << QR_PAGE_SHIFT : found;
    }
    return 0;
}

/* The first time they are counted, the second time kept. */
static int64_t
survey_keep(struct survey *survey)
{
    int64_t error = survey_run(survey);

    if (error != 0)
        return error;
    if (survey->pages == 0)
        return -EINVAL;
    if (survey->count > SIZE_MAX / sizeof *survey->extents)
        return -ENOMEM;
    survey->room = survey->count;
    survey->extents = kvmem_zalloc(survey->room * sizeof *survey->extents);
    return survey->extents == NULL ? -ENOMEM : survey_run(survey);
}

int64_t
swap_area_create(struct file *file, size_t pages, struct swap_area **out)
{
    struct survey survey = {.wanted = pages};
    struct swap_area *area = kmem_zalloc(sizeof *area);

    if (area == NULL)
        return -ENOMEM;
    file->ops->place(file, &survey.target);
    survey.bytes = file_is_regular(file) ? file_size(file) : disk_bytes(survey.target.disk);
    int64_t error = survey_keep(&survey);

    *area = (struct swap_area){.file = file,
                               .disk = survey.target.disk,
                               .extents = survey.extents,
                               .extent_count = survey.count,
                               .pages = survey.pages};
    if (error == 0)
        *out = area;
    else
        swap_area_destroy(area);
    return error;
}

void
swap_area_destroy(struct swap_area *area)
{
    kvmem_free(area->extents);
    kmem_free(area);
}

/* ---- Transfers ------------------------------------------------------------------------- */

static const struct swap_extent *
extent_of(const struct swap_area *area, size_t page)
{
    size_t low = 0, high = area->extent_count;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (area->extents[middle].page <= page)
            low = middle;
        else
            high = middle;
    }
    return &area->extents[low];
}

/* As many of @count pages from @page on as one request can have. @return how many */
static size_t
request_fill(const struct swap_area *area, struct block_request *request, size_t page,
             struct qr_frame *const *frames, size_t count)
{
    const struct swap_extent *extent = extent_of(area, page);
    size_t within = page - extent->page;
    size_t most = extent->pages - within;

    if (most > area->disk->segments_max)
        most = area->disk->segments_max;
    if (most > count)
        most = count;
    request->sector = extent->sector + sectors_of(within);
    for (size_t i = 0; i < most; i++)
        request->segments[i] =
            (struct block_segment){qr_frame_pa(memory.frames, frames[i]), QR_PAGE_SIZE};
    request->segment_count = (unsigned)most;
    return most;
}

static enum qr_status
transfer(const struct swap_area *area, enum block_op op, size_t page,
         struct qr_frame *const *frames, size_t count)
{
    struct block_request request;
    int64_t error = 0;

    for (size_t i = 0; i < count && error == 0;) {
        request = (struct block_request){.op = op};
        i += request_fill(area, &request, page + i, frames + i, count - i);
        error = disk_run(area->disk, &request);
    }
    return error == 0 ? QR_OK : QR_ERR_IO;
}

static enum qr_status
area_read(void *context, size_t page, struct qr_frame *const *frames, size_t count)
{
    return transfer(context, BLOCK_READ, page, frames, count);
}

static enum qr_status
area_write(void *context, size_t page, struct qr_frame *const *frames, size_t count)
{
    return transfer(context, BLOCK_WRITE, page, frames, count);
}

const struct qr_swap_ops swap_area_ops = {.read = area_read, .write = area_write};
