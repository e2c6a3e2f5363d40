/* SPDX-License-Identifier: MIT */
/*
 * Linux's memory system calls as thin translations onto the library: flags in,
 * error numbers out.  The order of the checks is Linux's, because programs see
 * which error they get when several apply.
 *
 * Here are mappings and other processes' memory; advice, locks and policies have a file
 * each beside this one.
 */
#include "calls.h"

#include <quire/assert.h>
#include <quire/hugetlb.h>

#include "file.h"
#include "hugetlb.h"
#include "shm.h"
#include "userfault_notice.h"

#define PROT_READ      1u
#define PROT_WRITE     2u
#define PROT_EXEC      4u
#define PROT_SEM       8u
#define PROT_GROWSDOWN 0x01000000u
#define PROT_GROWSUP   0x02000000u

#define MAP_SHARED          0x01u
#define MAP_PRIVATE         0x02u
#define MAP_SHARED_VALIDATE 0x03u
#define MAP_DROPPABLE       0x08u /* since Linux 6.11 */
#define MAP_TYPE            0x0fu
#define MAP_FIXED           0x10u
#define MAP_ANONYMOUS       0x20u
#define MAP_32BIT           0x40u
#define MAP_GROWSDOWN       0x0100u
#define MAP_LOCKED          0x2000u
#define MAP_NORESERVE       0x4000u
#define MAP_POPULATE        0x8000u
#define MAP_NONBLOCK        0x10000u
#define MAP_STACK           0x20000u
#define MAP_HUGETLB         0x40000u
#define MAP_SYNC            0x80000u
#define MAP_FIXED_NOREPLACE 0x100000u
/* What MAP_SHARED_VALIDATE takes: all of before it, with two sizes of huge pages. */
#define MAP_LEGACY                                                                                 \
    (MAP_TYPE | MAP_FIXED | MAP_ANONYMOUS | MAP_32BIT | 0x80u | MAP_GROWSDOWN | 0x800u | 0x1000u | \
     MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB |          \
     0x7c000000u)

enum { ENOTSUPP = 524 }; /* no error for programs, but what Linux answers */

int64_t
error_of(enum qr_status status)
{
    switch (status) {
    case QR_OK:
        return 0;
    case QR_ERR_NO_MEMORY:
    case QR_ERR_LIMIT:
        return -ENOMEM;
    case QR_ERR_EXISTS:
        return -EEXIST;
    case QR_ERR_ACCESS:
        return -EACCES;
    case QR_ERR_BUSY:
        return -EBUSY;
    case QR_ERR_AGAIN:
        return -EAGAIN;
    case QR_ERR_SEALED:
        return -EPERM;
    case QR_ERR_FAULT:
        return -EFAULT;
    case QR_ERR_IO:
        return -EIO;
    case QR_ERR_INTERRUPTED:
        return -EINTR;
    case QR_ERR_NOT_FOUND:
        return -ENOMEM;
    case QR_ERR_UNSUPPORTED:
    case QR_ERR_INVALID:
    case QR_ERR_RANGE:
    default:
        return -EINVAL;
    }
}

/* ---- mmap ---------------------------------------------------------------------- */

static unsigned
prot_of(uint64_t user)
{
    unsigned prot = 0;

    if (user & PROT_READ)
        prot |= QR_PROT_READ;
    if (user & PROT_WRITE)
        prot |= QR_PROT_WRITE;
    if (user & PROT_EXEC)
        prot |= QR_PROT_EXEC;
    return prot;
}

static bool
map_is_shared(uint32_t flags)
{
    uint32_t type = flags & MAP_TYPE;

    return type == MAP_SHARED || type == MAP_SHARED_VALIDATE;
}

static void
map_flags(struct qr_map_request *request, uint32_t flags)
{
    if (flags & MAP_FIXED_NOREPLACE)
        request->flags |= QR_MAP_FIXED_NOREPLACE;
    else if (flags & MAP_FIXED)
        request->flags |= QR_MAP_FIXED;
    if ((flags & MAP_POPULATE) && !(flags & MAP_NONBLOCK))
        request->flags |= QR_MAP_POPULATE;
    if (flags & MAP_32BIT)
        request->flags |= QR_MAP_LOW;
    if (flags & MAP_GROWSDOWN)
        request->region_flags |= QR_REGION_GROWS_DOWN;
    if (flags & MAP_STACK) /* since Linux 6.7 */
        request->region_flags |= QR_REGION_NO_HUGE;
    if (flags & MAP_NORESERVE)
        request->region_flags |= QR_REGION_NO_RESERVE;
    if (flags & MAP_LOCKED)
        request->region_flags |= QR_REGION_LOCKED;
    if (map_is_shared(flags))
        request->region_flags |= QR_REGION_SHARED;
    if ((flags & MAP_TYPE) == MAP_DROPPABLE) /* not promised, not copied, not dumped */
        request->region_flags |= QR_REGION_DROPPABLE | QR_REGION_NO_RESERVE |
                                 QR_REGION_WIPE_ON_FORK | QR_REGION_DONT_DUMP;
}

/* The checks on address and length that need no lock, in Linux's order. */
static int64_t
map_check_place(uint64_t address, uint64_t *length, uint32_t flags)
{
    bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;

    if (*length == 0)
        return -EINVAL;
    if (!round_length(length) || *length == 0)
        return -ENOMEM;
    if (*length > mm_user_limit())
        return -ENOMEM;
    if (!fixed)
        return 0;
    if (address > mm_user_limit() - *length)
        return -ENOMEM;
    if (address & QR_PAGE_MASK)
        return -EINVAL;
    if (address < qr_space_floor(current_space()).v)
        return -EPERM;
    return 0;
}

/* Pages of a file up to here can be mapped: Linux's MAX_LFS_FILESIZE. */
static uint64_t
file_bytes_limit(void)
{
    uint64_t pages = (uint64_t)UINTPTR_MAX << QR_PAGE_SHIFT;

    return sizeof(uintptr_t) < sizeof(uint64_t) ? pages : INT64_MAX;
}

static int64_t
map_check_offset(const struct file *file, uint64_t offset, uint64_t length)
{
    uint64_t limit = file_bytes_limit();

    return file_is_regular(file) && (offset > limit || length > limit - offset) ? -EOVERFLOW : 0;
}

/* What @file gives to the mapping. */
static int64_t
map_file(struct qr_map_request *request, struct file *file, uint64_t prot, uint32_t flags,
         uint64_t offset)
{
    bool shared = map_is_shared(flags);
    struct file_mapping mapping = {0};
    int64_t error;

    error = file_mmap_object(file, (uint32_t)prot, shared, &mapping);
    if (error != 0) /* seals are looked at last */
        return error == -EPERM && (flags & MAP_GROWSDOWN) ? -EINVAL : error;
    request->max_prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC;
    if (mapping.read_only || (shared && !(file->mode & FILE_WRITE)))
        request->max_prot &= ~(unsigned)QR_PROT_WRITE;
    if (mapping.no_execute)
        request->max_prot &= ~(unsigned)QR_PROT_EXEC;
    if (mapping.kind == FILE_MAPPING_OBJECT)
        request->object = mapping.object;
    else if (offset > UINTPTR_MAX - request->bytes)
        return -EOVERFLOW;
    if (mapping.kind == FILE_MAPPING_OBJECT || !shared) {
        request->file = file;
        request->object_offset = offset;
    }
    return flags & MAP_GROWSDOWN ? -EINVAL : 0;
}

/*
 * The type.  Flags that Linux does not know are ignored, but for MAP_SHARED_VALIDATE of a file:
 * there, it wants the flags that were known when it was made, and MAP_SYNC where the file has that.
 */
static int64_t
map_check_type(const struct file *file, uint64_t flags)
{
    bool anonymous = (flags & MAP_ANONYMOUS) != 0;
    uint64_t known = MAP_LEGACY | (file != NULL && file->ops->syncs_mappings ? MAP_SYNC : 0);

    switch (flags & MAP_TYPE) {
    case MAP_SHARED:
        return anonymous && (flags & MAP_GROWSDOWN) ? -EINVAL : 0;
    case MAP_PRIVATE:
        return 0;
    case MAP_SHARED_VALIDATE:
        if (anonymous)
            return -EINVAL;
        return flags & ~known ? -EOPNOTSUPP : 0;
    case MAP_DROPPABLE:
        if (!anonymous || sizeof(uintptr_t) < sizeof(uint64_t))
            return anonymous ? -ENOTSUPP : -EINVAL;
        return flags & (MAP_LOCKED | MAP_GROWSDOWN) ? -EINVAL : 0;
    default:
        return -EINVAL;
    }
}

/* Huge pages lie on their borders, and are there at once where they are locked. */
static void
map_hugetlb(struct qr_map_request *request, const struct qr_hugetlb_pool *pool, uint32_t flags)
{
    request->align_bytes = qr_hugetlb_pool_bytes(pool);
    if (!(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
        request->hint = qr_va_of((uintptr_t)hugetlb_round_up(pool, request->hint.v));
    if (flags & MAP_LOCKED)
        request->flags |= QR_MAP_POPULATE;
}

/*
 * Linux unmaps what lies there before it asks the pool for pages: what was promised to that may be what is
 * missing, and where it is not enough, that is gone.
 */
static enum qr_status
map_region(const struct qr_map_request *request, bool huge, qr_va *out)
{
    struct qr_space *space = current_space();
    enum qr_status status = MM_RETRY(space, qr_space_map(space, request, out));

    if (status == QR_ERR_NO_MEMORY && huge && (request->flags & QR_MAP_FIXED) != 0 &&
        qr_space_unmap(space, request->hint, request->bytes) == QR_OK)
        status = MM_RETRY(space, qr_space_map(space, request, out));
    return status;
}

/* FIXED_NOREPLACE is refused before anything is asked about the file. */
static bool
map_is_taken(uint64_t address, uint64_t length)
{
    struct qr_space *space = current_space();
    const struct qr_region *region;
    bool taken;

    qr_rw_read_lock(&space->lock);
    region = qr_space_find(space, qr_va_of(address));
    taken = region != NULL && region->start.v < address + length;
    qr_rw_read_unlock(&space->lock);
    return taken;
}

/* So are locked pages beyond the limit; it is qr_space_map() that decides. */
static int64_t
map_check_lock(uint32_t flags, uint64_t length)
{
    struct qr_space *space = current_space();
    uint64_t limit = process_limit(RLIMIT_MEMLOCK);
    bool refused;

    if (process_has_capability(CAP_IPC_LOCK))
        return 0;
    if ((flags & MAP_LOCKED) && limit == 0)
        return -EPERM;
    qr_rw_read_lock(&space->lock);
    refused = ((flags & MAP_LOCKED) || (space->default_lock_flags & QR_REGION_LOCKED)) &&
              length + ((uint64_t)space->counts.locked_pages << QR_PAGE_SHIFT) > limit;
    qr_rw_read_unlock(&space->lock);
    return refused ? -EAGAIN : 0;
}

/* @file: NULL for anonymous memory. */
static int64_t
map(const struct syscall_args *args, struct file *file, uint64_t length)
{
    uint64_t address = args->arg[0], prot = args->arg[2];
    uint64_t all_flags = args->arg[3] & ~(uint64_t)(file == NULL ? 0u : MAP_ANONYMOUS);
    uint32_t flags = (uint32_t)all_flags;
    struct qr_map_request request = {.hint = qr_va_of(address & ~(uint64_t)QR_PAGE_MASK)};
    int64_t error;
    bool huge;
    qr_va va;

    error = map_check_place(address, &length, flags);
    if (error == 0 && (flags & MAP_FIXED_NOREPLACE) && map_is_taken(address, length))
        error = -EEXIST;
    if (error == 0)
        error = map_check_lock(flags, length);
    if (error == 0 && file != NULL)
        error = map_check_offset(file, args->arg[5], length);
    if (error == 0)
        error = map_check_type(file, all_flags);
    if (error != 0)
        return error;
    request.bytes = length;
    request.prot = prot_of(prot);
    if (request.prot == QR_PROT_EXEC)
        request.pkey = (uint8_t)key_execute_only();
    map_flags(&request, flags);
    huge = file != NULL && hugetlb_pool_of_file(file) != NULL;
    if (huge)
        map_hugetlb(&request, hugetlb_pool_of_file(file), flags);
    if (file != NULL)
        error = map_file(&request, file, prot, flags, args->arg[5]);
    /* Shared memory is a file that nobody sees. */
    if (error == 0 && request.object == NULL && map_is_shared(flags) && file_is_last())
        error = -ENFILE;
    if (error == 0)
        error = mapped_error_of(map_region(&request, huge, &va));
    if (request.object != NULL)
        qr_object_put(request.object);
    return error != 0 ? error : (int64_t)va.v;
}

/* What is to be mapped, with a reference, or NULL; *@length in whole pages of it where these are huge. */
static int64_t
map_source(const struct syscall_args *args, uint64_t *length, struct file **out_file)
{
    uint32_t flags = (uint32_t)args->arg[3];
    struct qr_hugetlb_pool *pool = NULL;

    *out_file = NULL;
    if (!(flags & MAP_ANONYMOUS)) {
        *out_file = file_get((int)args->arg[4]);
        if (*out_file == NULL)
            return -EBADF;
        pool = hugetlb_pool_of_file(*out_file);
        if (pool == NULL && (flags & MAP_HUGETLB))
            return -EINVAL;
    } else if (flags & MAP_HUGETLB) {
        pool = hugetlb_pool_of_flags(flags);
        if (pool == NULL)
            return -EINVAL;
    }
    if (pool == NULL)
        return 0;
    if (*length > mm_user_limit())
        return -ENOMEM;
    *length = hugetlb_round_up(pool, *length);
    return *out_file != NULL
               ? 0
               : hugetlb_file_create("/anon_hugepage (deleted)", pool, *length, out_file);
}

int64_t
sys_mmap(const struct syscall_args *args)
{
    uint64_t length = args->arg[1];
    struct file *file;
    int64_t result;

    if (args->arg[5] & QR_PAGE_MASK)
        return -EINVAL;
    result = map_source(args, &length, &file);
    if (result == 0)
        result = map(args, file, length);
    if (file != NULL)
        file_put(file);
    return result;
}

int64_t
sys_munmap(const struct syscall_args *args)
{
    uint64_t start = args->arg[0], length = args->arg[1];

    if ((start & QR_PAGE_MASK) || length == 0 || !round_length(&length) ||
        !is_in_user_half(start, length))
        return -EINVAL;
    struct userfault_notices notices;
    int64_t error = userfault_unmap_prepare(process_current()->mm, start, length, &notices);

    if (error != 0)
        return error;
    error = error_of(
        MM_RETRY(current_space(), qr_space_unmap(current_space(), qr_va_of(start), length)));
    userfault_unmap_finish(&notices, error == 0);
    return error;
}

/* ---- mprotect and keys -------------------------------------------------------------- */

/*
 * PROT_GROWSDOWN: from where the region that grows starts, which may lie above @start too.
 * Nothing here grows up.
 */
static int64_t
protect_growing(uint64_t *start, uint64_t *length, uint64_t prot)
{
    struct qr_space *space = current_space();
    const struct qr_region *region;
    int64_t error = -ENOMEM;

    qr_rw_read_lock(&space->lock);
    region = qr_space_find(space, qr_va_of(*start));
    if (region != NULL && region->start.v < *start + *length &&
        ((prot & PROT_GROWSDOWN) || region->start.v <= *start))
        error = -EINVAL;
    if (error == -EINVAL && (prot & PROT_GROWSDOWN) && (region->flags & QR_REGION_GROWS_DOWN)) {
        *length += *start - region->start.v;
        *start = region->start.v;
        error = 0;
    }
    qr_rw_read_unlock(&space->lock);
    return error;
}

static int64_t
protect(uint64_t start, uint64_t length, uint64_t prot, int key)
{
    if ((prot & (PROT_GROWSDOWN | PROT_GROWSUP)) == (PROT_GROWSDOWN | PROT_GROWSUP))
        return -EINVAL;
    if (start & QR_PAGE_MASK)
        return -EINVAL;
    if (length == 0)
        return 0;
    if (!round_length(&length) || range_wraps(start, length))
        return -ENOMEM;
    if (prot &
        ~(uint64_t)(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM | PROT_GROWSDOWN | PROT_GROWSUP))
        return -EINVAL;
    if (key != -1 && !key_is_allocated(key))
        return -EINVAL;
    if (prot & (PROT_GROWSDOWN | PROT_GROWSUP)) {
        int64_t error = protect_growing(&start, &length, prot);

        if (error != 0)
            return error;
    }
    if (key == -1 && (prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) == PROT_EXEC) {
        unsigned own = key_execute_only();

        key = own != 0 ? (int)own : -1;
    }
    enum qr_status status =
        MM_RETRY(current_space(),
                 qr_space_protect(current_space(), qr_va_of(start), length, prot_of(prot), key));

    return mapped_error_of(status);
}

int64_t
sys_mprotect(const struct syscall_args *args)
{
    return protect(args->arg[0], args->arg[1], args->arg[2], -1);
}

int64_t
sys_pkey_mprotect(const struct syscall_args *args)
{
    return protect(args->arg[0], args->arg[1], args->arg[2], (int)args->arg[3]);
}

int64_t
sys_brk(const struct syscall_args *args)
{
    const struct mm *mm = process_current()->mm;
    uint64_t start = mm->space->brk_start.v, wanted = args->arg[0];
    uint64_t heap = wanted > start ? wanted - start : 0;
    unsigned attempt = 0;
    qr_va end;

    /* The program's data and its heap alone have that limit, too; 0 only asks. */
    if (heap > UINT64_MAX / 2 ||
        heap + (mm->data_end - mm->data_start) > process_limit(RLIMIT_DATA))
        wanted = 0;
    do {
        end = qr_space_brk(mm->space, qr_va_of((uintptr_t)wanted));
    } while (wanted != 0 && end.v != wanted && qr_space_make_room(mm->space, attempt++));
    return (int64_t)end.v;
}

/* ---- mremap ---------------------------------------------------------------------------- */

/* mremap() that has more to unmap, or to move, than there are addresses. */
static int64_t
remap_beyond(uint64_t old, uint64_t needed, bool shrinks)
{
    struct qr_space *space = current_space();
    int64_t error = -EFAULT;

    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, qr_va_of(old));

    if (region != NULL && region->start.v <= old) {
        if (region->flags & QR_REGION_SEALED)
            error = -EPERM;
        else if (shrinks && region->end.v - old >= needed)
            error = -EINVAL;
    }
    qr_rw_read_unlock(&space->lock);
    return error;
}

int64_t
sys_mremap(const struct syscall_args *args)
{
    uint64_t old = args->arg[0], old_length = args->arg[1], new_length = args->arg[2];
    uint64_t flags = args->arg[3], target = args->arg[4];
    struct qr_remap_request request = {0};
    enum qr_status status;
    qr_va va;

    if (flags & ~(uint64_t)7)
        return -EINVAL;
    if ((flags & 2) && !(flags & 1))
        return -EINVAL;
    if (old & QR_PAGE_MASK)
        return -EINVAL;
    (void)round_length(&old_length);
    (void)round_length(&new_length);
    if (new_length == 0 || new_length > mm_user_limit())
        return -EINVAL;
    if ((flags & 4) && (!(flags & 1) || old_length != new_length))
        return -EINVAL;
    if (flags & (2 | 4)) {
        if (target & QR_PAGE_MASK)
            return -EINVAL;
        if (!is_in_user_half(target, new_length))
            return -EINVAL;
        if (old + old_length > target && target + new_length > old)
            return -EINVAL;
    }
    if (!is_in_user_half(old, old_length))
        return remap_beyond(old, flags & 2 ? new_length : QR_PAGE_SIZE, old_length > new_length);
    request.old_start = qr_va_of(old);
    request.old_bytes = old_length;
    request.new_bytes = new_length;
    request.new_start = qr_va_of(target);
    request.flags = (flags & 1 ? (unsigned)QR_REMAP_MAY_MOVE : 0) |
                    (flags & 2 ? (unsigned)QR_REMAP_FIXED : 0) |
                    (flags & 4 ? (unsigned)QR_REMAP_DONT_UNMAP : 0);
    status = MM_RETRY(current_space(), qr_space_remap(current_space(), &request, &va));
    if (status == QR_ERR_RANGE && (flags & 2) && target < qr_space_floor(current_space()).v)
        return -EPERM;
    if (status == QR_OK && va.v != old)
        userfault_remap(process_current()->mm, old, va.v, new_length);
    return status == QR_OK ? (int64_t)va.v : error_of(status);
}

/* Linux does not call a mapping shared whose file was not opened to be written; a seal is no reason. */
static bool
remap_file_is_read_only(const struct qr_region *region)
{
    const struct file *file = region->file;

    return (region->max_prot & QR_PROT_WRITE) == 0 &&
           (file == NULL || (file->mode & FILE_WRITE) == 0);
}

/* What remap_file_pages() maps anew, with references; false where the range is not of one kind. */
static bool
remap_file_find(struct qr_va_range range, struct qr_map_request *request)
{
    struct qr_space *space = current_space();
    bool found = false;

    qr_rw_read_lock(&space->lock);
    const struct qr_region *first = qr_space_find(space, range.start);
    const struct qr_region *last = first;

    if (first != NULL && first->start.v <= range.start.v && (first->flags & QR_REGION_SHARED) &&
        !remap_file_is_read_only(first)) {
        while (last->end.v < range.end.v) {
            const struct qr_region *next = qr_region_next(last);

            if (next == NULL || next->start.v != last->end.v || next->object != first->object ||
                next->flags != first->flags || next->prot != first->prot)
                break;
            last = next;
        }
        found = last->end.v >= range.end.v;
    }
    if (found) {
        request->prot = first->prot;
        request->max_prot = first->max_prot;
        request->region_flags = first->flags & (QR_REGION_SHARED | QR_REGION_LOCKED);
        request->object = first->object;
        request->file = first->file;
        if (first->flags & QR_REGION_HUGETLB)
            request->align_bytes = qr_hugetlb_pool_bytes(qr_object_hugetlb_pool(first->object));
        qr_object_get(request->object);
        if (request->file != NULL)
            file_ref(request->file);
    }
    qr_rw_read_unlock(&space->lock);
    return found;
}

/* How many regions lie in @range as a whole. */
static unsigned
regions_within(struct qr_va_range range)
{
    struct qr_space *space = current_space();
    unsigned count = 0;

    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, range.start);
         region != NULL && region->end.v <= range.end.v; region = qr_region_next(region))
        count += region->start.v >= range.start.v;
    qr_rw_read_unlock(&space->lock);
    return count;
}

/*
 * Linux unmaps what is there before it maps.  With its last place a System V segment that was
 * removed is gone, and cannot be mapped again.
 */
static int64_t
remap_file_end_segment(const struct file *file, struct qr_va_range range)
{
    struct qr_space *space = current_space();

    if (!shm_is_file(file) || !shm_ends_with(file, regions_within(range)))
        return 0;
    enum qr_status status =
        MM_RETRY(space, qr_space_unmap(space, range.start, qr_va_range_bytes(range)));

    return status == QR_OK ? -EINVAL : error_of(status);
}

/* As Linux since 4.0: another mapping of the pages, in the place of what is there. */
int64_t
sys_remap_file_pages(const struct syscall_args *args)
{
    uint64_t start = args->arg[0] & ~(uint64_t)QR_PAGE_MASK;
    uint64_t length = args->arg[1] & ~(uint64_t)QR_PAGE_MASK, first = args->arg[3];
    struct qr_map_request request = {.hint = qr_va_of(start), .flags = QR_MAP_FIXED};
    struct qr_va_range range = {qr_va_of(start), qr_va_of(start + length)};
    int64_t error;
    qr_va va;

    if (args->arg[2] != 0 || length == 0 || range_wraps(start, length) ||
        first > UINTPTR_MAX - (length >> QR_PAGE_SHIFT))
        return -EINVAL;
    request.bytes = length;
    request.object_offset = first << QR_PAGE_SHIFT;
    if (!remap_file_find(range, &request))
        return -EINVAL;
    if (!(args->arg[4] & MAP_NONBLOCK))
        request.flags |= QR_MAP_POPULATE;
    if (request.file != NULL && (request.prot & QR_PROT_WRITE) && file_is_sealed(request.file))
        error = -EPERM; /* since it was mapped */
    else if (request.align_bytes != 0 && (length & (request.align_bytes - 1)) != 0)
        error = -EINVAL;
    else if ((request.region_flags & QR_REGION_LOCKED) && !may_lock())
        error = -EPERM;
    else if (first > file_bytes_limit() >> QR_PAGE_SHIFT)
        error = -EOVERFLOW;
    else
        error = remap_file_end_segment(request.file, range);
    if (error == 0)
        error = mapped_error_of(
            MM_RETRY(current_space(), qr_space_map(current_space(), &request, &va)));
    qr_object_put(request.object);
    if (request.file != NULL)
        file_put(request.file);
    return error;
}

/* ---- other processes' memory ------------------------------------------------------------------------- */

enum { IOV_LIMIT = 1024, TOUCH_PAGES = 1024 };

/* The pieces of an iovec array of the user; freed by the caller. */
static int64_t
read_pieces(uint64_t address, uint64_t count, struct user_piece **out)
{
    struct user_piece *pieces;

    *out = NULL;
    if (count > IOV_LIMIT)
        return -EINVAL;
    if (count == 0)
        return 0;
    pieces = kmem_calloc(count, sizeof(*pieces));
    if (pieces == NULL)
        return -ENOMEM;
    if (user_read(pieces, address, count * sizeof(*pieces)) != 0) {
        kmem_free(pieces);
        return -EFAULT;
    }
    for (uint64_t i = 0; i < count; i++) {
        if ((intptr_t)pieces[i].length < 0) {
            kmem_free(pieces);
            return -EINVAL;
        }
    }
    *out = pieces;
    return 0;
}

/* One piece alone is cut before it is looked at where it lies, as in Linux since 6.4. */
int64_t
import_pieces(uint64_t address, uint64_t count, struct user_piece **out)
{
    size_t left = (size_t)INT32_MAX & ~(size_t)QR_PAGE_MASK;
    int64_t error = read_pieces(address, count, out);

    for (uint64_t i = 0; error == 0 && i < count; i++) {
        struct user_piece *piece = &(*out)[i];

        if (count > 1 && !is_in_user_half(piece->base, piece->length))
            error = -EFAULT;
        if (piece->length > left)
            piece->length = left;
        left -= piece->length;
        if (!is_in_user_half(piece->base, piece->length))
            error = -EFAULT;
    }
    if (error != 0) {
        kmem_free(*out);
        *out = NULL;
    }
    return error;
}

/* One stretch that is contiguous on both sides, through a page of kernel memory. */
static size_t
transfer(struct mm *mm, uint64_t local, uint64_t remote, size_t n, bool write, char *bounce)
{
    size_t done = 0;

    while (done < n) {
        size_t piece = n - done < QR_PAGE_SIZE ? n - done : QR_PAGE_SIZE, moved;

        if (write) {
            moved = user_read_partial(bounce, local + done, piece);
            moved = mm_access(mm, remote + done, bounce, moved, MM_WRITE);
        } else {
            moved = mm_access(mm, remote + done, bounce, piece, MM_READ);
            moved = user_write_partial(local + done, bounce, moved);
        }
        done += moved;
        if (moved < piece)
            break;
        sched_relax();
    }
    return done;
}

/*
 * Linux takes TOUCH_PAGES pages of a remote piece at a time, and then copies: where the copy ends
 * early, at byte @at of the piece, the rest of those are there, too.
 */
static void
touch_rest(struct mm *mm, const struct user_piece *remote, uint64_t at, bool write)
{
    uint64_t first = remote->base >> QR_PAGE_SHIFT, page = (remote->base + at) >> QR_PAGE_SHIFT;
    uint64_t last = (remote->base + remote->length - 1) >> QR_PAGE_SHIFT;
    uint64_t batch = first + (page - first) / TOUCH_PAGES * TOUCH_PAGES + TOUCH_PAGES - 1;
    struct qr_frame *frame;

    for (last = last < batch ? last : batch; page <= last; page++) {
        if (page << QR_PAGE_SHIFT >= mm_user_limit() ||
            qr_space_get_frame(mm->space, qr_va_of((uintptr_t)page << QR_PAGE_SHIFT),
                               write ? QR_ACCESS_WRITE : QR_ACCESS_READ, false, &frame) != QR_OK)
            break;
        qr_frame_put(memory.frames, frame);
        sched_relax();
    }
}

static int64_t
transfer_pieces(struct mm *mm, const struct user_piece *local, uint64_t local_count,
                const struct user_piece *remote, uint64_t remote_count, bool write)
{
    uint64_t l = 0, r = 0, local_at = 0, remote_at = 0, total = 0;
    char *bounce = kmem_alloc(QR_PAGE_SIZE);

    if (bounce == NULL)
        return -ENOMEM;
    while (l < local_count && r < remote_count) {
        uint64_t n = local[l].length - local_at, m = remote[r].length - remote_at, moved;

        n = n < m ? n : m;
        moved =
            transfer(mm, local[l].base + local_at, remote[r].base + remote_at, n, write, bounce);
        total += moved;
        if (moved < n) {
            touch_rest(mm, &remote[r], remote_at + moved, write);
            break;
        }
        local_at += n;
        remote_at += n;
        if (local_at == local[l].length) {
            l++;
            local_at = 0;
        }
        if (remote_at == remote[r].length) {
            r++;
            remote_at = 0;
        }
    }
    kmem_free(bounce);
    if (l == local_count && remote_at != 0)
        touch_rest(mm, &remote[r], remote_at - 1, write);
    if (total == 0 && l < local_count && r < remote_count)
        return -EFAULT;
    return (int64_t)total;
}

static bool
are_empty(const struct user_piece *pieces, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (pieces[i].length != 0)
            return false;
    }
    return true;
}

/* Where there is nothing to copy nobody asks whose memory it is. */
static int64_t
process_vm(const struct syscall_args *args, bool write)
{
    struct user_piece *local = NULL, *remote = NULL;
    struct process *target;
    struct mm *mm = NULL;
    int64_t result;

    if (args->arg[5] != 0)
        return -EINVAL;
    result = import_pieces(args->arg[1], args->arg[2], &local);
    if (result == 0)
        result = read_pieces(args->arg[3], args->arg[4], &remote);
    if (result == 0 && !are_empty(local, args->arg[2]) && !are_empty(remote, args->arg[4])) {
        target = process_find((int32_t)args->arg[0]);
        if (target == NULL) {
            result = -ESRCH;
        } else {
            mm = mm_of_process(target);
            if (mm == NULL)
                result = -ESRCH;
            else if (mm != process_current()->mm && !process_may_inspect(target, mm, false))
                result = -EPERM;
            process_put(target);
        }
    }
    if (result == 0 && mm != NULL)
        result = transfer_pieces(mm, local, args->arg[2], remote, args->arg[4], write);
    if (mm != NULL)
        mm_put(mm);
    kmem_free(local);
    kmem_free(remote);
    return result;
}

int64_t
sys_process_vm_readv(const struct syscall_args *args)
{
    return process_vm(args, false);
}

int64_t
sys_process_vm_writev(const struct syscall_args *args)
{
    return process_vm(args, true);
}
