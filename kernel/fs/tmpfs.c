/* SPDX-License-Identifier: MIT */
/*
 * tmpfs: files whose bytes are a memory object of the library.
 *
 * read(), write() and every mapping of a file meet in the frames of that object, so there is one
 * copy of the data and nothing to synchronise.  An empty file has no object yet; the first write,
 * growth or mapping makes it, under the inode's lock, and it then stays until the inode goes.
 *
 *      inode->size == bytes of the object, whenever the inode's lock is free
 *
 * A write past the end sets the size first and takes back what a fault of the user's buffer
 * left unwritten: the file never shows bytes that nobody wrote, but zeros.
 *
 * A mount's `size=` bounds its pages, in memory or in swap.  The object counts them itself; the superblock is told
 * the difference after each call that may have changed it (inode_account).  Frames that
 * come in through a mapping are counted at the next such call.
 *
 * Lock: I for writes, size, object; reads take none.
 */

#include <quire/assert.h>
#include <quire/frame.h>

#include "fs.h"
#include "huge.h"
#include "hugetlb.h"
#include "memory.h"
#include "proc.h"
#include "tmpfs.h"

enum {
    CHUNK_BYTES = 1 << 20, /* between looks at signals */
    TMPFS_MAGIC = 0x01021994,
    FALLOC_KEEP_SIZE = 1,
    FALLOC_PUNCH_HOLE = 2,
};

/* An errno for a status of the object: what may not be promised is no space left. */
static int64_t
tmpfs_errno(enum qr_status status)
{
    return status == QR_ERR_LIMIT ? -ENOSPC : errno_of(status);
}

/* ---- pages and limits ---------------------------------------------------------- */

static void
inode_account(struct inode *inode)
{
    size_t now = inode->object == NULL ? 0 : qr_object_held(inode->object);
    int64_t change = (int64_t)now - (int64_t)inode->counted_pages;

    if (change != 0) {
        inode->counted_pages = now;
        atomic_fetch_add(&inode->superblock->pages, change);
    }
}

uint64_t
tmpfs_inode_pages(const struct inode *inode)
{
    return inode->object == NULL ? 0 : qr_object_held(inode->object);
}

/* Pages of [first, last) that the object does not have. */
static uint64_t
pages_absent(struct qr_object *object, size_t first, size_t last)
{
    uint64_t absent = 0;

    while (first < last) {
        size_t present = last;

        if (!qr_object_next_present(object, first, &present) || present > last) {
            present = last;
        }
        absent += present - first;
        first = present + 1;
    }
    return absent;
}

/* Whether writing [offset, offset + bytes) keeps within the mount's size. I held. */
static bool
limit_allows(struct inode *inode, uint64_t offset, uint64_t bytes)
{
    uint64_t limit = inode->superblock->page_limit;
    int64_t used = atomic_load(&inode->superblock->pages);

    if (limit == 0 || bytes == 0) {
        return true;
    }
    uint64_t room = used < 0 ? limit : (uint64_t)used > limit ? 0 : limit - (uint64_t)used;
    size_t first = (size_t)(offset / FS_PAGE_BYTES);
    size_t last = (size_t)((offset + bytes - 1) / FS_PAGE_BYTES) + 1;

    return last - first <= room || pages_absent(inode->object, first, last) <= room;
}

/* The object, made if need be. I held. @return NULL without memory */
static struct qr_object *
object_get(struct inode *inode)
{
    if (inode->object == NULL) {
        struct qr_object *object = NULL;
        uint64_t bytes = atomic_load(&inode->size);

        if (qr_object_create(memory.objects, &qr_pager_memory, NULL, bytes, &object) != QR_OK) {
            return NULL;
        }
        qr_object_set_huge(object, inode->superblock->huge_mode);
        atomic_store((_Atomic(struct qr_object *) *)&inode->object, object);
    }
    return inode->object;
}

static void
size_set(struct inode *inode, uint64_t bytes)
{
    atomic_store(&inode->size, bytes);
    if (inode->object != NULL) {
        qr_object_set_bytes(inode->object, bytes);
    }
}

/* ---- reading ------------------------------------------------------------------------ */

static size_t
copy_out(void *context, void *window, size_t bytes)
{
    return io_put(context, window, bytes);
}

static size_t
copy_in(void *context, void *window, size_t bytes)
{
    return io_take(context, window, bytes);
}

static size_t
copy_zeros(void *context, void *window, size_t bytes)
{
    (void)context;
    memset(window, 0, bytes);
    return bytes;
}

static int64_t
tmpfs_read(struct file *file, struct io *io, uint64_t *position)
{
    struct inode *inode = file->inode;
    uint64_t size = atomic_load(&inode->size);
    uint64_t at = *position;
    enum qr_status status = QR_OK;

    if (at >= size || io->left == 0) {
        return 0;
    }
    size_t want = io->left < size - at ? io->left : (size_t)(size - at);
    size_t done = 0;
    struct qr_object *object = atomic_load((_Atomic(struct qr_object *) *)&inode->object);
    if (object == NULL) {
        done = io_put_zeros(io, want);
        status = done < want ? QR_ERR_FAULT : QR_OK;
    } else {
        status = qr_object_read(object, at, want, copy_out, io, &done);
    }
    *position = at + done;
    if (!(atomic_load(&file->flags) & O_NOATIME)) {
        inode->accessed = time_now();
    }
    return done > 0 ? (int64_t)done : errno_of(status);
}

/* ---- writing -------------------------------------------------------------------------- */

int64_t
write_clip(uint64_t at, size_t want)
{
    uint64_t limit = process_limit(RLIMIT_FSIZE);

    if (limit > INT64_MAX) {
        limit = INT64_MAX;
    } else if (at >= limit && want > 0) {
        signal_raise(SIGXFSZ);
        return -EFBIG;
    }
    if (at >= limit) {
        return want == 0 ? 0 : -EFBIG;
    }
    return want < limit - at ? (int64_t)want : (int64_t)(limit - at);
}

/* How much of a write the seals let through: what would grow the file, from the page it is in on, not. */
static int64_t
write_seals(const struct inode *inode, uint64_t at, uint64_t bytes)
{
    uint64_t size = atomic_load(&inode->size), whole = size / FS_PAGE_BYTES * FS_PAGE_BYTES;

    if (inode->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) {
        return -EPERM;
    }
    if ((inode->seals & F_SEAL_GROW) == 0 || at + bytes <= size) {
        return (int64_t)bytes;
    }
    return whole > at ? (int64_t)(whole - at) : -EPERM;
}

/*
 * How much to write of a chunk that lets the file grow.  What is copied is brought in before that:
 * it may be a mapping of the same file, behind its end.  Then what there is goes in page by page,
 * and the next page is there after that.
 */
static size_t
grow_want(const struct io *io, uint64_t old_size, uint64_t at, size_t want)
{
    size_t ready = io_ready(io, want), to_page_end = FS_PAGE_BYTES - at % FS_PAGE_BYTES;

    if (ready == want) {
        return want;
    }
    if (ready == 0) {
        return at < old_size ? (size_t)(old_size - at) : 0;
    }
    return ready < to_page_end ? ready : to_page_end;
}

/* Write one chunk. I held. @return bytes or -errno; nothing but those bytes has changed */
static int64_t
write_chunk(struct inode *inode, struct io *io, uint64_t at, size_t want)
{
    uint64_t old_size = atomic_load(&inode->size);
    struct qr_object *object = object_get(inode);
    size_t done = 0;

    if (object == NULL) {
        return -ENOMEM;
    }
    if (!limit_allows(inode, at, want)) {
        size_t to_page_end = FS_PAGE_BYTES - at % FS_PAGE_BYTES;

        want = want < to_page_end ? want : to_page_end;
        if (!limit_allows(inode, at, want)) {
            return -ENOSPC;
        }
    }
    if (at + want > old_size) {
        want = grow_want(io, old_size, at, want);
    }
    if (want == 0) {
        return -EFAULT;
    }
    if (at + want > old_size) {
        size_set(inode, at + want);
    }
    enum qr_status status = qr_object_write(object, at, want, copy_in, io, &done);
    if (done < want && at + want > old_size) {
        size_set(inode, done > 0 && at + done > old_size ? at + done : old_size);
    }
    inode_account(inode);
    return done > 0 ? (int64_t)done : status == QR_OK ? -EFAULT : tmpfs_errno(status);
}

static int64_t
write_locked(struct file *file, struct io *io, uint64_t *position)
{
    struct inode *inode = file->inode;
    uint64_t at = atomic_load(&file->flags) & O_APPEND ? atomic_load(&inode->size) : *position;
    int64_t allowed = write_clip(at, io->left);
    size_t total = 0;

    if (allowed <= 0) {
        return allowed;
    }
    int64_t result = allowed = write_seals(inode, at, (uint64_t)allowed);
    while (result >= 0 && total < (size_t)allowed) {
        size_t left = (size_t)allowed - total;
        size_t want = left < CHUNK_BYTES ? left : CHUNK_BYTES;

        if (total > 0 && signal_is_fatal_pending()) {
            break;
        }
        result = write_chunk(inode, io, at + total, want);
        if (result > 0) {
            total += (size_t)result; /* a fault shows as no progress in the next turn */
        }
    }
    if (total > 0) {
        inode_touch(inode, true);
        inode->mode &= process_fsuid_or_boot() == 0 ? ~0u : ~(S_ISUID | S_ISGID);
        *position = at + total;
        return (int64_t)total;
    }
    return result;
}

static int64_t
tmpfs_write(struct file *file, struct io *io, uint64_t *position)
{
    qr_mutex_lock(&file->inode->lock);
    int64_t result = write_locked(file, io, position);
    qr_mutex_unlock(&file->inode->lock);
    return result;
}

/* ---- size ------------------------------------------------------------------------------- */

bool
tmpfs_may_resize(const struct inode *inode, uint64_t old, uint64_t bytes)
{
    return (bytes >= old || (inode->seals & F_SEAL_SHRINK) == 0) &&
           (bytes <= old || (inode->seals & F_SEAL_GROW) == 0);
}

static int64_t
truncate_locked(struct inode *inode, uint64_t bytes)
{
    if (!tmpfs_may_resize(inode, atomic_load(&inode->size), bytes)) {
        return -EPERM;
    }
    size_set(inode, bytes);
    inode_account(inode);
    inode_touch(inode, true);
    return 0;
}

int64_t
tmpfs_truncate(struct inode *inode, uint64_t bytes)
{
    if (!S_ISTYPE(inode->mode, S_IFREG)) {
        return S_ISTYPE(inode->mode, S_IFDIR) ? -EISDIR : -EINVAL;
    }
    qr_mutex_lock(&inode->lock);
    int64_t result = truncate_locked(inode, bytes);
    qr_mutex_unlock(&inode->lock);
    return result;
}

static int64_t
tmpfs_file_truncate(struct file *file, uint64_t bytes)
{
    return tmpfs_truncate(file->inode, bytes);
}

int64_t
tmpfs_clear_bytes(struct inode *inode, uint64_t start, uint64_t end)
{
    size_t done = 0, index = (size_t)(start / FS_PAGE_BYTES), present;

    if (start >= end || !qr_object_next_present(inode->object, index, &present) ||
        present != index) {
        return 0;
    }
    return errno_of(
        qr_object_write(inode->object, start, (size_t)(end - start), copy_zeros, NULL, &done));
}

/* Make [start, end) a hole: whole pages go, the edges are cleared. I held. */
static int64_t
hole_punch(struct inode *inode, uint64_t start, uint64_t end)
{
    uint64_t size = atomic_load(&inode->size);

    if (inode->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) {
        return -EPERM;
    }
    if (start >= size || start >= end || inode->object == NULL) {
        return 0;
    }
    /* Whole pages are those that the caller names whole, beyond the size or not. */
    uint64_t pages = (size + FS_PAGE_BYTES - 1) / FS_PAGE_BYTES;
    uint64_t first = (start + FS_PAGE_BYTES - 1) / FS_PAGE_BYTES;
    uint64_t last = end / FS_PAGE_BYTES < pages ? end / FS_PAGE_BYTES : pages;
    end = end < size ? end : size;
    if (first > last) { /* within one page */
        return tmpfs_clear_bytes(inode, start, end);
    }
    uint64_t edge = first * FS_PAGE_BYTES < end ? first * FS_PAGE_BYTES : end;
    int64_t error = tmpfs_clear_bytes(inode, start, edge);
    if (error == 0 && end > last * FS_PAGE_BYTES) {
        error = tmpfs_clear_bytes(inode, last * FS_PAGE_BYTES, end);
    }
    if (error == 0) {
        qr_object_punch(inode->object, (size_t)first, (size_t)last);
    }
    return error;
}

/* Have a frame for each page of [start, end), inside the size. I held. */
static int64_t
pages_reserve(struct inode *inode, uint64_t start, uint64_t end)
{
    size_t last = (size_t)((end + FS_PAGE_BYTES - 1) / FS_PAGE_BYTES);

    for (size_t index = (size_t)(start / FS_PAGE_BYTES); index < last; index++) {
        struct qr_frame *frame = NULL;
        enum qr_status status = qr_object_get_page(inode->object, index, QR_PAGE_FILL, &frame);

        if (status != QR_OK) {
            return tmpfs_errno(status);
        }
        qr_frame_put(memory.frames, frame);
        if (signal_is_pending()) {
            return -EINTR;
        }
    }
    return 0;
}

static int64_t
allocate_locked(struct inode *inode, uint32_t mode, uint64_t offset, uint64_t length)
{
    uint64_t old_size = atomic_load(&inode->size);
    uint64_t end = offset + length;

    if (object_get(inode) == NULL) {
        return -ENOMEM;
    }
    if (mode & FALLOC_PUNCH_HOLE) {
        return hole_punch(inode, offset, end);
    }
    bool grows = end > old_size && !(mode & FALLOC_KEEP_SIZE);
    if (end > old_size && (inode->seals & F_SEAL_GROW)) {
        return -EPERM;
    }
    if (!grows && end > old_size) {
        end = old_size; /* nothing is kept beyond the end of a file here */
    }
    if (offset >= end) {
        return 0;
    }
    if (!limit_allows(inode, offset, end - offset)) {
        return -ENOSPC;
    }
    if (grows) {
        size_set(inode, end);
    }
    int64_t error = pages_reserve(inode, offset, end);
    if (error != 0 && grows) {
        size_set(inode, old_size);
    }
    return error == -ENOMEM ? -ENOSPC : error;
}

static int64_t
tmpfs_allocate(struct file *file, uint32_t mode, uint64_t offset, uint64_t length)
{
    struct inode *inode = file->inode;

    if (mode & ~(uint32_t)(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE)) {
        return -EOPNOTSUPP; /* Linux's tmpfs cannot zero a range either */
    }
    qr_mutex_lock(&inode->lock);
    int64_t result = allocate_locked(inode, mode, offset, length);
    inode_account(inode);
    if (result == 0) {
        inode_touch(inode, true);
    }
    qr_mutex_unlock(&inode->lock);
    return result;
}

/* Where data or a hole begins, from @offset on. */
static uint64_t
find_extent(struct inode *inode, uint64_t offset, int whence, uint64_t size)
{
    uint64_t at = offset;
    size_t present;

    if (inode->object == NULL) {
        return whence == SEEK_DATA ? size : offset;
    }
    while (at < size) {
        size_t index = (size_t)(at / FS_PAGE_BYTES);
        bool found = qr_object_next_present(inode->object, index, &present);

        if (whence == SEEK_DATA) {
            if (!found) {
                return size;
            }
            uint64_t start = (uint64_t)present * FS_PAGE_BYTES;
            return start > at ? start : at;
        }
        if (!found || present != index) {
            return at;
        }
        at = ((uint64_t)index + 1) * FS_PAGE_BYTES;
    }
    return size;
}

static int64_t
tmpfs_seek(struct file *file, int64_t offset, int whence)
{
    uint64_t size = atomic_load(&file->inode->size);

    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        return seek_plain(file, offset, whence, size);
    }
    if (offset < 0 || (uint64_t)offset >= size) {
        return -ENXIO;
    }
    uint64_t at = find_extent(file->inode, (uint64_t)offset, whence, size);
    if (at >= size && whence == SEEK_DATA) {
        return -ENXIO;
    }
    file->position = at < size ? at : size;
    return (int64_t)file->position;
}

/* ---- mapping ------------------------------------------------------------------------------- */

enum { PROT_WRITE = 2 };

static int64_t
tmpfs_mmap_object(struct file *file, uint32_t prot, bool shared, struct file_mapping *out)
{
    struct inode *inode = file->inode;
    bool sealed = (inode->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0;

    if (shared && sealed && (prot & PROT_WRITE)) {
        return -EPERM;
    }
    qr_mutex_lock(&inode->lock);
    struct qr_object *object = object_get(inode);
    qr_mutex_unlock(&inode->lock);
    if (object == NULL) {
        return -ENOMEM;
    }
    qr_object_get(object);
    out->kind = FILE_MAPPING_OBJECT;
    out->object = object;
    out->read_only = shared && (sealed || !(file->mode & FILE_WRITE));
    return 0;
}

const struct file_ops tmpfs_file_ops = {
    .name = "file",
    .read = tmpfs_read,
    .write = tmpfs_write,
    .seek = tmpfs_seek,
    .truncate = tmpfs_file_truncate,
    .allocate = tmpfs_allocate,
    .mmap_object = tmpfs_mmap_object,
};

/* ---- inodes ---------------------------------------------------------------------------------- */

static int64_t
tmpfs_read_link(struct inode *inode, char *buffer, size_t size)
{
    size_t length = strlen(inode->target);

    if (length > size) {
        length = size;
    }
    memcpy(buffer, inode->target, length);
    return (int64_t)length;
}

static void
tmpfs_evict(struct inode *inode)
{
    if (S_ISTYPE(inode->mode, S_IFREG) && inode->object != NULL) {
        qr_object_put(inode->object);
        atomic_fetch_sub(&inode->superblock->pages, (int64_t)inode->counted_pages);
    } else if (S_ISTYPE(inode->mode, S_IFLNK)) {
        kmem_charged_free(inode->target);
    }
}

static const struct inode_ops tmpfs_inode_ops = {
    .read_link = tmpfs_read_link,
    .truncate = tmpfs_truncate,
    .evict = tmpfs_evict,
};

struct inode *
tmpfs_inode_create(struct superblock *superblock, uint32_t mode, uint32_t rdev)
{
    if (superblock->huge != NULL && !hugetlbfs_has_room(superblock)) {
        return NULL;
    }
    if (superblock->huge != NULL && S_ISTYPE(mode, S_IFREG)) {
        return hugetlbfs_file_inode(superblock, mode);
    }
    struct inode *inode = inode_create(superblock, &tmpfs_inode_ops, mode);

    if (inode != NULL) {
        inode->rdev = rdev;
        inode->seals = F_SEAL_SEAL; /* but memfd_create()'s may be sealed */
        inode->file_ops = &tmpfs_file_ops;
    }
    return inode;
}

bool
tmpfs_has_seals(const struct inode *inode)
{
    return S_ISTYPE(inode->mode, S_IFREG) &&
           (inode->file_ops == &tmpfs_file_ops || hugetlb_inode_page_bytes(inode) != 0);
}

bool
tmpfs_may_change_mode(const struct inode *inode, uint32_t mode)
{
    return !tmpfs_has_seals(inode) || (inode->seals & F_SEAL_EXEC) == 0 ||
           ((inode->mode ^ mode) & 0111u) == 0;
}

/* May F_SEAL_WRITE be set now?  I held. */
static bool
has_writers(struct inode *inode)
{
    return !(inode->seals & F_SEAL_WRITE) && inode->object != NULL &&
           (qr_object_writable_mappings(inode->object) > 0 || qr_object_is_held(inode->object));
}

static int64_t
seal_try(struct inode *inode, uint32_t seals)
{
    int64_t result = 0;

    qr_mutex_lock(&inode->lock);
    /* What stays executable stays as it is. */
    if ((seals & F_SEAL_EXEC) && (inode->mode & 0111u)) {
        seals |= F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
    }
    if (inode->seals & F_SEAL_SEAL) {
        result = -EPERM;
    } else if ((seals & F_SEAL_WRITE) && has_writers(inode)) {
        result = -EBUSY;
    } else {
        inode->seals |= seals;
    }
    qr_mutex_unlock(&inode->lock);
    return result;
}

int64_t
tmpfs_seal(struct inode *inode, uint32_t seals)
{
    enum { TRIES = 10, TRY_NS = 10000000 };
    int64_t result = -EINVAL;

    if (!tmpfs_has_seals(inode) || (seals & ~(uint32_t)F_SEALS_ALL)) {
        return result;
    }
    /* Who reads or moves a page right now has soon done so; a page in a pipe stays there. */
    for (unsigned i = 0; i < TRIES; i++) {
        result = seal_try(inode, seals);
        if (result != -EBUSY || qr_object_writable_mappings(inode->object) > 0) {
            break;
        }
        sched_sleep_until(clock_monotonic_ns() + TRY_NS);
    }
    return result;
}

/* ---- mounting ------------------------------------------------------------------------------------ */

/* "size=" with k, m, g or %. @return pages; 0 for a number that makes no sense */
static uint64_t
size_parse(const char *text, uint64_t total_pages)
{
    uint64_t value = 0;

    while (*text >= '0' && *text <= '9') {
        if (value > UINT64_MAX / 1024 / 16) {
            return 0;
        }
        value = value * 10 + (uint64_t)(*text++ - '0');
    }
    switch (*text) {
    case '%':
        return value > 100 ? 0 : total_pages * value / 100;
    case 'k':
    case 'K':
        value <<= 10;
        break;
    case 'm':
    case 'M':
        value = value >> 44 ? 0 : value << 20;
        break;
    case 'g':
    case 'G':
        value = value >> 34 ? 0 : value << 30;
        break;
    default:
        break;
    }
    return (value + FS_PAGE_BYTES - 1) / FS_PAGE_BYTES;
}

static uint32_t
octal_parse(const char *text)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < 5 && *text >= '0' && *text <= '7'; i++) {
        value = value * 8 + (uint32_t)(*text++ - '0');
    }
    return value & 07777u;
}

static bool
starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static void
options_apply(struct superblock *superblock, struct inode *root, const char *options)
{
    uint64_t total = fs_total_pages();

    superblock->page_limit = superblock->type == &tmpfs_type ? total / 2 : 0;
    for (const char *at = options; at != NULL && *at != '\0';) {
        if (starts_with(at, "size=")) {
            superblock->page_limit = size_parse(at + 5, total);
        } else if (starts_with(at, "mode=")) {
            root->mode = S_IFDIR | octal_parse(at + 5);
        }
        at = strchr(at, ',');
        at = at == NULL ? NULL : at + 1;
    }
}

/* "huge=": shared anonymous memory's word does not count for a mount. @return false: no such word */
static bool
huge_apply(struct superblock *superblock, const char *options)
{
    bool sound = true;

    superblock->huge_mode = QR_SHARED_HUGE_NEVER;
    for (const char *at = options; at != NULL && *at != '\0' && sound;) {
        const char *comma = strchr(at, ',');
        size_t length = comma == NULL ? strlen(at) : (size_t)(comma - at);

        if (starts_with(at, "huge=")) {
            sound = huge_parse_mount(at + 5, length - 5, &superblock->huge_mode);
        }
        at = comma == NULL ? NULL : comma + 1;
    }
    return sound;
}

int64_t
tmpfs_create(const struct superblock_type *type, const char *options, struct superblock **out)
{
    struct superblock *superblock = superblock_create(type);

    if (superblock == NULL) {
        return -ENOMEM;
    }
    if (!huge_apply(superblock, options)) {
        superblock_destroy(superblock);
        return -EINVAL;
    }
    struct inode *root =
        tmpfs_inode_create(superblock, S_IFDIR | (type == &tmpfs_type ? 01777u : 0755u), 0);
    if (root != NULL) {
        superblock->root = dentry_create_root(superblock, root);
        if (superblock->root == NULL) {
            inode_put(root);
        }
    }
    if (superblock->root == NULL) {
        superblock_destroy(superblock);
        return -ENOMEM;
    }
    options_apply(superblock, root, options);
    *out = superblock;
    return 0;
}

const struct superblock_type tmpfs_type = {
    .name = "tmpfs", .magic = TMPFS_MAGIC, .writable_tree = true, .create = tmpfs_create};

const struct superblock_type rootfs_type = {
    .name = "rootfs", .magic = TMPFS_MAGIC, .writable_tree = true, .create = tmpfs_create};

/* ---- files without a name ---------------------------------------------------------------------- */

int64_t
nameless_open(struct inode *inode, const char *label, struct file **out_file)
{
    struct dentry *dentry = dentry_create_anonymous(anonymous_superblock, label, inode);

    if (dentry == NULL) {
        inode_put(inode);
        return -ENOMEM;
    }
    int64_t error = file_create(dentry, O_RDWR | O_LARGEFILE, out_file);
    dentry_put(dentry);
    if (error == 0) {
        (*out_file)->ops = inode->file_ops;
    }
    return error;
}

/* An empty one: for its owner it is @label. */
static int64_t
nameless_create(const char *label, uint32_t mode, struct file **out_file)
{
    struct inode *inode = tmpfs_inode_create(anonymous_superblock, S_IFREG | mode, 0);

    if (inode == NULL) {
        return -ENOMEM;
    }
    inode->links = 0;
    return nameless_open(inode, label, out_file);
}

int64_t
vfs_create_memfd(const char *name, uint32_t flags, struct file **out_file)
{
    char label[NAME_MAX + 32];

    snprintf(label, sizeof label, "/memfd:%s (deleted)", name);
    int64_t error;
    if (flags & MFD_HUGETLB) {
        struct qr_hugetlb_pool *pool = hugetlb_pool_of_flags(flags);

        error = pool == NULL ? -ENODEV : hugetlb_file_create(label, pool, 0, out_file);
    } else {
        error = nameless_create(label, 0777, out_file);
    }
    if (error == 0) {
        (*out_file)->inode->seals = flags & MFD_ALLOW_SEALING ? 0 : F_SEAL_SEAL;
        if (flags & MFD_NOEXEC_SEAL) {
            (*out_file)->inode->mode &= ~0111u;
            (*out_file)->inode->seals = F_SEAL_EXEC;
        }
    }
    return error;
}

int64_t
vfs_create_memory_file(const char *label, uint64_t bytes, struct file **out_file)
{
    int64_t error = nameless_create(label, 0777, out_file);

    if (error != 0) {
        return error;
    }
    atomic_store(&(*out_file)->inode->size, bytes);
    if (object_get((*out_file)->inode) == NULL) {
        file_put(*out_file);
        return -ENOMEM;
    }
    return 0;
}
