/* SPDX-License-Identifier: MIT */
/*
 * System V shared memory.
 *
 * A segment is a nameless tmpfs file, or one of huge pages, with an identifier, an owner and permissions.
 * Each shmat() opens that file once more and maps it:
 *
 *   table -- segment -- inode -- object of pages
 *               ^
 *   region -- file (one an attach)      file->context is the segment
 *
 * shm_nattch counts regions, as in Linux: fork copies them, a munmap() in the middle of one makes
 * two, exec and exit drop them all.  The space layer tells the file of every region that comes or
 * goes (file_ops.mapped and unmapped), so nothing here has to follow those calls.
 *
 * IPC_RMID takes the key away at once; the segment goes with its last attach.
 *
 * An identifier is a place in the table and, above it, how often the search for a free place has
 * come round: places are taken in turn, so that a stale identifier stays wrong for long.  Who restores
 * processes names the next one (kernel.shm_next_id), which the turn takes no notice of.
 *
 * Locks: T the table's, sleeping; held over no user copy and no call that maps, since regions
 * come (`mapped`) with their space's lock held and go (`unmapped`) without.  S a segment's spin
 * lock, inside T or alone.
 */
#include "shm.h"

#include <quire/assert.h>
#include <quire/hugetlb.h>
#include <quire/space.h>
#include <quire/writer.h>

#include "fs/fs.h"
#include "hugetlb.h"
#include "memory.h"
#include "proc.h"
#include "syscall.h"

enum {
    PLACE_BITS = 15,
    PLACES = 1 << PLACE_BITS,
    PLACES_IN_TURN = 64, /* used in turn before the first is used again */
    ROUNDS = 1 << (31 - PLACE_BITS),
};

/* shmget */
enum { IPC_PRIVATE = 0 };
#define IPC_CREAT     01000u
#define IPC_EXCL      02000u
#define SHM_HUGETLB   04000u
#define SHM_NORESERVE 010000u

/* shmat */
#define SHM_RDONLY 010000u
#define SHM_RND    020000u
#define SHM_REMAP  040000u
#define SHM_EXEC   0100000u

/* shmctl */
enum {
    IPC_RMID = 0,
    IPC_SET = 1,
    IPC_STAT = 2,
    IPC_INFO = 3,
    SHM_LOCK = 11,
    SHM_UNLOCK = 12,
    SHM_STAT = 13,
    SHM_INFO = 14,
    SHM_STAT_ANY = 15,
};

#define SHM_DEST   01000u
#define SHM_LOCKED 02000u

enum { CAP_IPC_LOCK = 14, CAP_IPC_OWNER = 15, CAP_SYS_ADMIN = 21 };

struct shm_segment {
    atomic_uint refs;             /* the table and each open file */
    int32_t id;                   /* constant once in the table */
    int32_t key;                  /* T; IPC_PRIVATE: found by its identifier only */
    uint32_t mode;                /* T: permissions, SHM_DEST, SHM_LOCKED */
    uint32_t uid, gid;            /* T */
    uint32_t cuid, cgid;          /* constant */
    uint32_t locker;              /* T: whose limit a locked one counts for */
    uint64_t bytes;               /* constant, as asked for */
    struct qr_hugetlb_pool *pool; /* constant: of its huge pages, or NULL */
    bool no_reserve;              /* constant: these were not promised */
    bool orphan;                  /* T: the process that made it has ended */
    struct file *file;            /* constant: the memory */
    struct qr_spin lock;
    uint32_t attached;                             /* S: regions, and attaches in progress */
    int32_t creator, last_pid;                     /* S */
    int64_t attach_time, detach_time, change_time; /* S */
};

static struct {
    struct qr_mutex lock; /* T */
    struct shm_segment **places;
    size_t place_count;    /* room in places[] */
    unsigned used;         /* segments */
    unsigned last, rounds; /* of the search for a place */
    uint64_t pages;        /* of all segments */
    uint64_t limits[3];    /* by enum shm_limit */
    int32_t next_id;       /* kernel.shm_next_id: of the next segment, if it is free; or -1 */
    bool forced;           /* kernel.shm_rmid_forced: what nobody has attached goes */
} table = {.limits = {SIZE_MAX - (1 << 24), SIZE_MAX - (1 << 24), 4096},
           .last = PLACES_IN_TURN - 1, /* 0 is next */
           .next_id = -1};

static const struct file_ops shm_file_ops;

static uint64_t
pages_of(uint64_t bytes)
{
    return bytes / QR_PAGE_SIZE + (bytes % QR_PAGE_SIZE != 0);
}

/* Of the memory itself. */
static uint64_t
segment_file_bytes(const struct shm_segment *segment)
{
    return segment->pool != NULL ? hugetlb_round_up(segment->pool, segment->bytes)
                                 : pages_of(segment->bytes) * QR_PAGE_SIZE;
}

/* As its creator asked for, but for huge pages. */
static uint64_t
segment_told_bytes(const struct shm_segment *segment)
{
    return segment->pool != NULL ? segment_file_bytes(segment) : segment->bytes;
}

static int64_t
seconds_now(void)
{
    return (int64_t)(clock_realtime_ns() / 1000000000u);
}

/* ---- limits ------------------------------------------------------------------------ */

uint64_t
shm_is_forced(void)
{
    qr_mutex_lock(&table.lock);
    bool forced = table.forced;
    qr_mutex_unlock(&table.lock);
    return forced;
}

int32_t
shm_next_id(void)
{
    qr_mutex_lock(&table.lock);
    int32_t id = table.next_id;
    qr_mutex_unlock(&table.lock);
    return id;
}

void
shm_set_next_id(uint64_t value)
{
    qr_mutex_lock(&table.lock);
    table.next_id = (int32_t)value;
    qr_mutex_unlock(&table.lock);
}

uint64_t
shm_limit(enum shm_limit which)
{
    qr_mutex_lock(&table.lock);
    uint64_t value = table.limits[which];
    qr_mutex_unlock(&table.lock);
    return value;
}

int64_t
shm_set_limit(enum shm_limit which, uint64_t value)
{
    if (which == SHM_LIMIT_COUNT ? value > PLACES : value > SIZE_MAX)
        return -EINVAL;
    qr_mutex_lock(&table.lock);
    table.limits[which] = value;
    qr_mutex_unlock(&table.lock);
    return 0;
}

/* ---- life ----------------------------------------------------------------------------- */

static void
segment_ref(struct shm_segment *segment)
{
    atomic_fetch_add_explicit(&segment->refs, 1, memory_order_relaxed);
}

static void
segment_put(struct shm_segment *segment)
{
    if (atomic_fetch_sub_explicit(&segment->refs, 1, memory_order_acq_rel) != 1)
        return;
    file_put(segment->file);
    kmem_charged_free(segment);
}

/* Take it out of the table. T held; the caller puts the table's reference afterwards. */
static void
segment_remove(struct shm_segment *segment)
{
    table.places[segment->id % PLACES] = NULL;
    table.used--;
    table.pages -= pages_of(segment->bytes);
}

static bool
segment_is_listed(const struct shm_segment *segment)
{
    size_t place = (size_t)segment->id % PLACES;

    return place < table.place_count && table.places[place] == segment;
}

/* An attach or a region is gone: so is the segment, where it was the last and nobody wants it. */
static void
segment_release_attach(struct shm_segment *segment)
{
    bool last;

    qr_mutex_lock(&table.lock);
    qr_spin_lock(&segment->lock);
    last = --segment->attached == 0;
    qr_spin_unlock(&segment->lock);
    last = last && (table.forced || (segment->mode & SHM_DEST)) && segment_is_listed(segment);
    if (last)
        segment_remove(segment);
    qr_mutex_unlock(&table.lock);
    if (last)
        segment_put(segment);
}

/* ---- whose maker has ended ---------------------------------------------------------------- */

/* Out of the table: an orphan that nobody has attached, or any at all; NULL: there is none. */
static struct shm_segment *
take_one(bool any)
{
    struct shm_segment *found = NULL;

    qr_mutex_lock(&table.lock);
    for (size_t i = 0; i < table.place_count && found == NULL; i++) {
        struct shm_segment *segment = table.places[i];

        if (segment == NULL)
            continue;
        qr_spin_lock(&segment->lock);
        if (any || (segment->orphan && segment->attached == 0))
            found = segment;
        qr_spin_unlock(&segment->lock);
    }
    if (found != NULL)
        segment_remove(found);
    qr_mutex_unlock(&table.lock);
    return found;
}

static void
drop_all(bool any)
{
    struct shm_segment *segment;

    while ((segment = take_one(any)) != NULL)
        segment_put(segment);
}

void
shm_set_forced(uint64_t value)
{
    qr_mutex_lock(&table.lock);
    table.forced = value != 0;
    qr_mutex_unlock(&table.lock);
    if (value != 0)
        drop_all(false);
}

void
shm_process_ended(int32_t id)
{
    bool forced;

    if (table.used == 0) /* its own would be seen */
        return;
    qr_mutex_lock(&table.lock);
    forced = table.forced;
    for (size_t i = 0; i < table.place_count; i++) {
        struct shm_segment *segment = table.places[i];

        if (segment != NULL && segment->creator == id)
            segment->orphan = true;
    }
    qr_mutex_unlock(&table.lock);
    if (forced)
        drop_all(false);
}

void
shm_end(void)
{
    drop_all(true);
}

/* ---- the table -------------------------------------------------------------------------- */

/* Room for place @place. T held. @return false without memory */
static bool
table_reach(size_t place)
{
    size_t count = table.place_count == 0 ? PLACES_IN_TURN : table.place_count;
    struct shm_segment **places;

    while (count <= place)
        count *= 2;
    if (count == table.place_count)
        return true;
    places = kvmem_zalloc(count * sizeof(*places));
    if (places == NULL)
        return false;
    if (table.places != NULL)
        memcpy(places, table.places, table.place_count * sizeof(*places));
    kvmem_free(table.places);
    table.places = places;
    table.place_count = count;
    return true;
}

/* The next free place after the last one that was taken, among as many as are used in turn. */
static unsigned
table_next_place(void)
{
    unsigned turn = table.used + table.used / 2;

    if (turn < PLACES_IN_TURN)
        turn = PLACES_IN_TURN;
    if (turn > PLACES)
        turn = PLACES;
    for (unsigned i = 1; i <= turn; i++) {
        unsigned place = (table.last + i) % turn;

        if (place >= table.place_count || table.places[place] == NULL)
            return place;
    }
    qr_panic("more System V segments than places");
}

/* @segment has @id from now on. T held. @return that */
static int64_t
table_enter(struct shm_segment *segment, unsigned id)
{
    segment->id = (int32_t)id;
    segment->file->inode->number = id;
    table.places[id % PLACES] = segment;
    table.used++;
    table.pages += pages_of(segment->bytes);
    return segment->id;
}

/* With the identifier that was asked for, or the next one of its round whose place is free. T held. */
static int64_t
table_add_as(struct shm_segment *segment, unsigned id)
{
    unsigned place = id % PLACES;

    while (place < table.place_count && table.places[place] != NULL)
        place++;
    if (place == PLACES)
        return -ENOSPC;
    return table_reach(place) ? table_enter(segment, id - id % PLACES + place) : -ENOMEM;
}

/* Enter @segment, whose reference the table takes over. T held. @return its identifier or -errno */
static int64_t
table_add(struct shm_segment *segment)
{
    static bool begun;
    int32_t next_id = table.next_id;

    table.next_id = -1;
    if (next_id >= 0)
        return table_add_as(segment, (unsigned)next_id);
    unsigned place = table_next_place();

    if (!table_reach(place))
        return -ENOMEM;
    if (begun && place <= table.last)
        table.rounds = (table.rounds + 1) % ROUNDS;
    begun = true;
    table.last = place;
    return table_enter(segment, table.rounds * PLACES + place);
}

static struct shm_segment *
table_find_key(int32_t key)
{
    for (size_t i = 0; i < table.place_count; i++) {
        if (table.places[i] != NULL && table.places[i]->key == key)
            return table.places[i];
    }
    return NULL;
}

/* T held. @return 0; -EINVAL: none such, or not any more */
static int64_t
table_find_id(int32_t id, struct shm_segment **out)
{
    size_t place = (size_t)id % PLACES;

    if (id < 0 || place >= table.place_count || table.places[place] == NULL)
        return -EINVAL;
    *out = table.places[place];
    return (*out)->id == id ? 0 : -EINVAL;
}

/* Highest place in use; 0 where there is none. T held. */
static unsigned
table_highest(void)
{
    for (size_t i = table.place_count; i > 0; i--) {
        if (table.places[i - 1] != NULL)
            return (unsigned)i - 1;
    }
    return 0;
}

/* ---- permissions ---------------------------------------------------------------------------- */

static bool
in_group(const struct credentials *who, uint32_t gid)
{
    if (who->egid == gid)
        return true;
    for (uint32_t i = 0; i < who->group_count; i++) {
        if (who->groups[i] == gid)
            return true;
    }
    return false;
}

/* Whether all of @wanted (bits as in a mode, in any of its three parts) is granted. T held. */
static bool
segment_allows(const struct shm_segment *segment, uint32_t wanted)
{
    const struct credentials *who = &process_current()->credentials;
    uint32_t granted = segment->mode;

    wanted |= wanted >> 3 | wanted >> 6;
    if (who->euid == segment->cuid || who->euid == segment->uid)
        granted >>= 6;
    else if (in_group(who, segment->cgid) || in_group(who, segment->gid))
        granted >>= 3;
    return (wanted & ~granted & 7) == 0 || process_has_capability(CAP_IPC_OWNER);
}

static bool
segment_is_mine(const struct shm_segment *segment)
{
    uint32_t euid = process_current()->credentials.euid;

    return euid == segment->uid || euid == segment->cuid;
}

/* ---- shmget ------------------------------------------------------------------------------------ */

/* Promise the memory, as Linux does for a whole segment at once. */
static bool
segment_promise(struct qr_object *object, uint64_t pages, uint32_t flags)
{
    bool never = qr_vm_commit_policy(memory.vm).overcommit == QR_OVERCOMMIT_NEVER;

    if ((flags & SHM_NORESERVE) && !never)
        return true;
    if (!qr_vm_may_promise(memory.vm, (size_t)pages))
        return false;
    qr_object_promise(object, (size_t)pages);
    return true;
}

/* Huge pages are for those who may lock memory, and for one group. */
static bool
may_share_huge_pages(void)
{
    return process_has_capability(CAP_IPC_LOCK) ||
           in_group(&process_current()->credentials, atomic_load(&hugetlb_shm_group));
}

/* The memory of a segment of huge pages, all of them promised at once. */
static int64_t
segment_create_huge(struct shm_segment *segment, const char *name, uint32_t flags)
{
    segment->pool = hugetlb_pool_of_flags(flags);
    segment->no_reserve = (flags & SHM_NORESERVE) != 0;
    if (segment->pool == NULL)
        return -EINVAL;
    uint64_t bytes = segment_file_bytes(segment);

    if (bytes < segment->bytes)
        return -EINVAL;
    if (!may_share_huge_pages())
        return -EPERM;
    int64_t error = hugetlb_file_create(name, segment->pool, bytes, &segment->file);

    if (error != 0 || segment->no_reserve)
        return error;
    if (qr_object_hugetlb_reserve(segment->file->inode->object, 0,
                                  (size_t)(bytes >> qr_hugetlb_pool_shift(segment->pool))) == QR_OK)
        return 0;
    file_put(segment->file);
    return -ENOMEM;
}

static int64_t
segment_create_small(struct shm_segment *segment, const char *name, uint32_t flags)
{
    uint64_t pages = pages_of(segment->bytes);
    int64_t error = vfs_create_memory_file(name, pages * QR_PAGE_SIZE, &segment->file);

    if (error != 0 || segment_promise(segment->file->inode->object, pages, flags))
        return error;
    file_put(segment->file);
    return -ENOMEM;
}

static int64_t
segment_create(int32_t key, uint64_t bytes, uint32_t flags, struct shm_segment **out)
{
    const struct credentials *who = &process_current()->credentials;
    struct shm_segment *segment = kmem_charged_zalloc(sizeof(*segment));
    char name[32];

    if (segment == NULL)
        return -ENOMEM;
    snprintf(name, sizeof(name), "/SYSV%08x (deleted)", (unsigned)key);
    segment->bytes = bytes;
    int64_t error = flags & SHM_HUGETLB ? segment_create_huge(segment, name, flags)
                                        : segment_create_small(segment, name, flags);
    if (error != 0) {
        kmem_charged_free(segment);
        return error;
    }
    atomic_init(&segment->refs, 1);
    qr_spin_init(&segment->lock, QR_RANK_NONE);
    segment->key = key;
    segment->mode = flags & 0777;
    segment->uid = segment->cuid = who->euid;
    segment->gid = segment->cgid = who->egid;
    segment->creator = process_current()->id;
    segment->change_time = seconds_now();
    *out = segment;
    return 0;
}

/* May a segment of @bytes be added? T held. */
static int64_t
check_new(uint64_t bytes)
{
    uint64_t pages = pages_of(bytes);

    if (bytes == 0 || bytes > table.limits[SHM_LIMIT_BYTES])
        return -EINVAL;
    if (pages > SIZE_MAX >> QR_PAGE_SHIFT)
        return -ENOSPC;
    if (table.pages + pages < table.pages || table.pages + pages > table.limits[SHM_LIMIT_PAGES])
        return -ENOSPC;
    return table.used >= table.limits[SHM_LIMIT_COUNT] ? -ENOSPC : 0;
}

static int64_t
get_existing(const struct shm_segment *segment, uint64_t bytes, uint32_t flags)
{
    if ((flags & (IPC_CREAT | IPC_EXCL)) == (IPC_CREAT | IPC_EXCL))
        return -EEXIST;
    if (bytes > segment->bytes)
        return -EINVAL;
    return segment_allows(segment, flags & 0777) ? segment->id : -EACCES;
}

/* T held: it is a sleeping lock, and creating touches no user memory and maps nothing. */
static int64_t
get_locked(int32_t key, uint64_t bytes, uint32_t flags)
{
    struct shm_segment *segment = key == IPC_PRIVATE ? NULL : table_find_key(key);

    if (segment != NULL)
        return get_existing(segment, bytes, flags);
    if (key != IPC_PRIVATE && !(flags & IPC_CREAT))
        return -ENOENT;
    int64_t result = check_new(bytes);
    if (result == 0)
        result = segment_create(key, bytes, flags, &segment);
    if (result != 0)
        return result;
    result = table_add(segment);
    if (result < 0)
        segment_put(segment);
    return result;
}

int64_t
sys_shmget(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[2];

    qr_mutex_lock(&table.lock);
    int64_t result = get_locked((int32_t)args->arg[0], args->arg[1], flags);
    qr_mutex_unlock(&table.lock);
    return result;
}

/* ---- shmat and shmdt ------------------------------------------------------------------------------ */

static void
shm_mapped(struct file *file)
{
    struct shm_segment *segment = file->context;

    qr_spin_lock(&segment->lock);
    segment->attached++;
    segment->attach_time = seconds_now();
    segment->last_pid = process_current()->id;
    qr_spin_unlock(&segment->lock);
}

static void
shm_unmapped(struct file *file)
{
    struct shm_segment *segment = file->context;

    qr_spin_lock(&segment->lock);
    segment->detach_time = seconds_now();
    if (process_current() != NULL)
        segment->last_pid = process_current()->id;
    qr_spin_unlock(&segment->lock);
    segment_release_attach(segment);
}

static void
shm_release(struct file *file)
{
    segment_put(file->context);
}

static const struct file_ops shm_file_ops = {
    .name = "shm",
    .mapped = shm_mapped,
    .unmapped = shm_unmapped,
    .release = shm_release,
};

bool
shm_is_file(const struct file *file)
{
    return file != NULL && file->ops == &shm_file_ops;
}

bool
shm_ends_with(const struct file *file, unsigned regions)
{
    struct shm_segment *segment = file->context;

    qr_mutex_lock(&table.lock);
    qr_spin_lock(&segment->lock);
    bool ends = segment->attached <= regions && (table.forced || (segment->mode & SHM_DEST) != 0);
    qr_spin_unlock(&segment->lock);
    qr_mutex_unlock(&table.lock);
    return ends;
}

/* Does the address go with the flags?  Rounds it down. @return 0 or -EINVAL */
static int64_t
attach_address(uint64_t *address, uint32_t flags)
{
    if ((*address & QR_PAGE_MASK) && !(flags & SHM_RND))
        return -EINVAL;
    *address &= ~(uint64_t)QR_PAGE_MASK;
    return (flags & SHM_REMAP) && *address == 0 ? -EINVAL : 0;
}

/* @end: of the segment, not of its last page. @return 0, or why it may not be at @address */
static int64_t
attach_place(uint64_t address, uint64_t end, uint32_t flags, struct qr_map_request *request)
{
    if (end < address && !(flags & SHM_REMAP))
        return -EINVAL;
    if (address > mm_user_limit() || request->bytes > mm_user_limit() - address)
        return -ENOMEM;
    if (address < qr_space_floor(thread_current()->space).v)
        return -EPERM;
    request->hint = qr_va_of((uintptr_t)address);
    request->flags = flags & SHM_REMAP ? QR_MAP_FIXED : QR_MAP_FIXED_NOREPLACE;
    return 0;
}

static int64_t
map_error(enum qr_status status)
{
    switch (status) {
    case QR_OK:
        return 0;
    case QR_ERR_EXISTS:
    case QR_ERR_INVALID:
        return -EINVAL;
    case QR_ERR_AGAIN:
        return -EAGAIN;
    case QR_ERR_SEALED:
        return -EPERM;
    default:
        return -ENOMEM;
    }
}

static int64_t
attach(struct shm_segment *segment, struct qr_map_request *request, uint32_t flags)
{
    struct file *file;
    qr_va va;
    int64_t error =
        file_create(segment->file->dentry, flags & SHM_RDONLY ? O_RDONLY : O_RDWR, &file);

    if (error != 0)
        return error;
    file->ops = &shm_file_ops;
    file->context = segment;
    segment_ref(segment);
    request->object = segment->file->inode->object;
    request->file = file;
    request->region_flags = QR_REGION_SHARED;
    if (segment->pool != NULL)
        request->align_bytes = qr_hugetlb_pool_bytes(segment->pool);
    if (segment->no_reserve)
        request->region_flags |= QR_REGION_NO_RESERVE;
    error = map_error(
        MM_RETRY(thread_current()->space, qr_space_map(thread_current()->space, request, &va)));
    file_put(file);
    return error != 0 ? error : (int64_t)va.v;
}

int64_t
sys_shmat(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[2];
    struct qr_map_request request = {.prot = QR_PROT_READ};
    uint64_t address = args->arg[1];
    struct shm_segment *segment;
    uint32_t wanted = 0444;

    if (!(flags & SHM_RDONLY)) {
        request.prot |= QR_PROT_WRITE;
        wanted |= 0222;
    } else {
        request.max_prot = QR_PROT_READ | QR_PROT_EXEC;
    }
    if (flags & SHM_EXEC) {
        request.prot |= QR_PROT_EXEC;
        wanted |= 0111;
    }
    if ((int32_t)args->arg[0] < 0)
        return -EINVAL;
    int64_t result = attach_address(&address, flags);
    if (result != 0)
        return result;
    qr_mutex_lock(&table.lock);
    result = table_find_id((int32_t)args->arg[0], &segment);
    if (result == 0 && !segment_allows(segment, wanted))
        result = -EACCES;
    if (result == 0) {
        segment_ref(segment);
        qr_spin_lock(&segment->lock);
        segment->attached++; /* keeps it while we map */
        qr_spin_unlock(&segment->lock);
    }
    qr_mutex_unlock(&table.lock);
    if (result != 0)
        return result;
    request.bytes = (size_t)segment_file_bytes(segment);
    /* Rounded to 0 is a place, too, which is not for programs; 0 is any. */
    if (args->arg[1] != 0)
        result = attach_place(address, address + segment_told_bytes(segment), flags, &request);
    if (result == 0)
        result = attach(segment, &request, flags);
    segment_release_attach(segment);
    segment_put(segment);
    return result;
}

/* A region of an attach that began at @base, where it would begin there. */
static bool
is_attached_at(const struct qr_region *region, uint64_t base)
{
    const struct file *file = region->file;

    return shm_is_file(file) && region->start.v >= base &&
           (region->start.v - base) >> QR_PAGE_SHIFT == region->object_page;
}

/*
 * The first region at or above @from that belongs to an attach at @base: of @file where that is
 * given, of any otherwise.  Nothing is kept: the caller's own thread decides what else happens.
 */
static bool
find_attached(uint64_t from, uint64_t base, uint64_t end, const struct file **file,
              struct qr_va_range *out, uint64_t *out_bytes)
{
    struct qr_space *space = thread_current()->space;
    bool found = false;

    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, qr_va_of((uintptr_t)from));
         region != NULL && !found && region->start.v < end; region = qr_region_next(region)) {
        if (!is_attached_at(region, base) || (*file != NULL && region->file != *file))
            continue;
        found = true;
        *file = region->file;
        *out = (struct qr_va_range){region->start, region->end};
        *out_bytes = segment_file_bytes(((struct file *)region->file)->context);
    }
    qr_rw_read_unlock(&space->lock);
    return found;
}

int64_t
sys_shmdt(const struct syscall_args *args)
{
    uint64_t base = args->arg[0], end = UINTPTR_MAX, bytes;
    const struct file *file = NULL; /* compared, never followed */
    struct qr_va_range range = {.start = qr_va_of((uintptr_t)base)};
    int64_t result = -EINVAL;

    if ((base & QR_PAGE_MASK) || base >= mm_user_limit())
        return -EINVAL;
    /* What a munmap() or an mprotect() left of the attach may be several regions. */
    while (find_attached(range.start.v, base, end, &file, &range, &bytes)) {
        if (qr_space_unmap(thread_current()->space, range.start, range.end.v - range.start.v) !=
            QR_OK)
            return -ENOMEM;
        result = 0;
        end = base + bytes;
        range.start = range.end;
    }
    return result;
}

/* ---- shmctl --------------------------------------------------------------------------------------- */

/* The layouts of 64-bit Linux; kernel/arch converts where a program has others. */
struct shm_status_user {
    int32_t key;
    uint32_t uid, gid, cuid, cgid, mode;
    uint16_t sequence, pad[3];
    uint64_t unused[2];
    uint64_t bytes;
    int64_t attach_time, detach_time, change_time;
    int32_t creator, last_pid;
    uint64_t attached;
    uint64_t unused_too[2];
};
_Static_assert(sizeof(struct shm_status_user) == 112, "Linux ABI");

struct shm_limits_user {
    uint64_t max, min, count, per_process, all;
    uint64_t unused[4];
};

struct shm_usage_user {
    int32_t used, pad;
    uint64_t pages, resident, swapped, swap_attempts, swap_successes;
};

static void
segment_status(struct shm_segment *segment, struct shm_status_user *out)
{
    *out = (struct shm_status_user){
        .key = segment->key,
        .uid = segment->uid,
        .gid = segment->gid,
        .cuid = segment->cuid,
        .cgid = segment->cgid,
        .mode = segment->mode,
        .sequence = (uint16_t)(segment->id >> PLACE_BITS),
        .bytes = segment->bytes,
    };
    qr_spin_lock(&segment->lock);
    out->attach_time = segment->attach_time;
    out->detach_time = segment->detach_time;
    out->change_time = segment->change_time;
    out->creator = segment->creator;
    out->last_pid = segment->last_pid;
    out->attached = segment->attached;
    qr_spin_unlock(&segment->lock);
}

static int64_t
control_stat(int32_t id, int command, uint64_t user)
{
    struct shm_segment *segment = NULL;
    struct shm_status_user status;
    int64_t result = 0;

    qr_mutex_lock(&table.lock);
    if (command == IPC_STAT)
        result = table_find_id(id, &segment);
    else if ((size_t)id < table.place_count && table.places[id] != NULL)
        segment = table.places[id];
    else
        result = -EINVAL;
    if (result == 0 && command != SHM_STAT_ANY && !segment_allows(segment, 0444))
        result = -EACCES;
    if (result == 0) {
        segment_status(segment, &status);
        if (command != IPC_STAT)
            result = segment->id;
    }
    qr_mutex_unlock(&table.lock);
    if (result >= 0 && user_write(user, &status, sizeof(status)) != 0)
        return -EFAULT;
    return result;
}

static int64_t
control_limits(uint64_t user)
{
    qr_mutex_lock(&table.lock);
    struct shm_limits_user limits = {
        .max = table.limits[SHM_LIMIT_BYTES],
        .min = 1,
        .count = table.limits[SHM_LIMIT_COUNT],
        .per_process = table.limits[SHM_LIMIT_COUNT],
        .all = table.limits[SHM_LIMIT_PAGES],
    };
    int64_t highest = table_highest();
    qr_mutex_unlock(&table.lock);
    return user_write(user, &limits, sizeof(limits)) != 0 ? -EFAULT : highest;
}

static int64_t
control_usage(uint64_t user)
{
    struct shm_usage_user usage = {0};

    qr_mutex_lock(&table.lock);
    usage.used = (int32_t)table.used;
    usage.pages = table.pages;
    for (size_t i = 0; i < table.place_count; i++) {
        if (table.places[i] == NULL)
            continue;
        usage.resident += qr_object_resident(table.places[i]->file->inode->object);
        usage.swapped += qr_object_swapped(table.places[i]->file->inode->object);
    }
    int64_t highest = table_highest();
    qr_mutex_unlock(&table.lock);
    return user_write(user, &usage, sizeof(usage)) != 0 ? -EFAULT : highest;
}

static void
segment_touch(struct shm_segment *segment)
{
    qr_spin_lock(&segment->lock);
    segment->change_time = seconds_now();
    qr_spin_unlock(&segment->lock);
}

/* T held. @return whether the table's reference is to be put */
static bool
segment_destroy(struct shm_segment *segment)
{
    bool unused;

    segment->key = IPC_PRIVATE;
    segment->mode |= SHM_DEST;
    qr_spin_lock(&segment->lock);
    unused = segment->attached == 0;
    qr_spin_unlock(&segment->lock);
    if (unused)
        segment_remove(segment);
    return unused;
}

static int64_t
control_owner(int32_t id, int command, uint64_t user)
{
    struct shm_status_user status = {0};
    struct shm_segment *segment;
    bool gone = false;

    if (command == IPC_SET && user_read(&status, user, sizeof(status)) != 0)
        return -EFAULT;
    qr_mutex_lock(&table.lock);
    int64_t result = table_find_id(id, &segment);
    if (result == 0 && !segment_is_mine(segment) && !process_has_capability(CAP_SYS_ADMIN))
        result = -EPERM;
    if (result == 0 && command == IPC_RMID) {
        gone = segment_destroy(segment);
    } else if (result == 0) {
        if (status.uid == UINT32_MAX || status.gid == UINT32_MAX) {
            result = -EINVAL;
        } else {
            segment->uid = status.uid;
            segment->gid = status.gid;
            segment->mode = (segment->mode & ~0777u) | (status.mode & 0777);
            segment_touch(segment);
        }
    }
    qr_mutex_unlock(&table.lock);
    if (gone)
        segment_put(segment);
    return result;
}

/* What @uid has locked already. T held. */
static uint64_t
pages_locked_by(uint32_t uid)
{
    uint64_t pages = 0;

    for (size_t i = 0; i < table.place_count; i++) {
        const struct shm_segment *segment = table.places[i];

        if (segment != NULL && (segment->mode & SHM_LOCKED) != 0 && segment->locker == uid)
            pages += pages_of(segment->bytes);
    }
    return pages;
}

/* Pages of a locked segment stay in memory; those that are in swap come when they are needed. */
static int64_t
control_lock(int32_t id, int command)
{
    uint32_t uid = process_current()->credentials.uid;
    struct shm_segment *segment;

    qr_mutex_lock(&table.lock);
    int64_t result = table_find_id(id, &segment);
    if (result == 0 && !process_has_capability(CAP_IPC_LOCK)) {
        if (!segment_is_mine(segment) ||
            (command == SHM_LOCK && process_limit(RLIMIT_MEMLOCK) == 0))
            result = -EPERM;
        else if (command == SHM_LOCK && (segment->mode & SHM_LOCKED) == 0 &&
                 pages_locked_by(uid) + pages_of(segment->bytes) >
                     process_limit(RLIMIT_MEMLOCK) / QR_PAGE_SIZE)
            result = -ENOMEM;
    }
    if (result == 0 && segment->pool != NULL)
        ; /* as in Linux: they are always there */
    else if (result == 0 && command == SHM_LOCK) {
        if ((segment->mode & SHM_LOCKED) == 0)
            segment->locker = uid;
        segment->mode |= SHM_LOCKED;
        qr_object_set_kept(segment->file->inode->object, true);
    } else if (result == 0) {
        segment->mode &= ~SHM_LOCKED;
        qr_object_set_kept(segment->file->inode->object, false);
    }
    qr_mutex_unlock(&table.lock);
    return result;
}

int64_t
sys_shmctl(const struct syscall_args *args)
{
    int32_t id = (int32_t)args->arg[0];
    int command = (int)args->arg[1];

    if (id < 0 || command < 0)
        return -EINVAL;
    switch (command) {
    case IPC_INFO:
        return control_limits(args->arg[2]);
    case SHM_INFO:
        return control_usage(args->arg[2]);
    case IPC_STAT:
    case SHM_STAT:
    case SHM_STAT_ANY:
        return control_stat(id, command, args->arg[2]);
    case IPC_SET:
    case IPC_RMID:
        return control_owner(id, command, args->arg[2]);
    case SHM_LOCK:
    case SHM_UNLOCK:
        return control_lock(id, command);
    default:
        return -EINVAL;
    }
}

/* ---- /proc/sysvipc/shm --------------------------------------------------------------------------------- */

/* A size column: as wide as the largest number of the machine. */
static void
write_size(struct qr_writer *writer, uint64_t value)
{
    qr_writer_printf(writer, sizeof(uintptr_t) == 8 ? " %21llu" : " %10llu",
                     (unsigned long long)value);
}

static void
write_title(struct qr_writer *writer, const char *title)
{
    qr_writer_printf(writer, sizeof(uintptr_t) == 8 ? " %21s" : " %10s", title);
}

/* The permissions with their two marks, in octal. */
static unsigned
mode_as_digits(uint32_t mode)
{
    return (mode >> 9 & 7) * 1000 + (mode >> 6 & 7) * 100 + (mode >> 3 & 7) * 10 + (mode & 7);
}

static void
write_segment(struct qr_writer *writer, struct shm_segment *segment)
{
    struct shm_status_user status;

    segment_status(segment, &status);
    qr_writer_printf(writer, "%10d %10d  %4u", status.key, segment->id,
                     mode_as_digits(status.mode));
    write_size(writer, status.bytes);
    qr_writer_printf(writer, " %5d %5d  %5llu %5u %5u %5u %5u %10lld %10lld %10lld", status.creator,
                     status.last_pid, (unsigned long long)status.attached, status.uid, status.gid,
                     status.cuid, status.cgid, (long long)status.attach_time,
                     (long long)status.detach_time, (long long)status.change_time);
    write_size(writer, (uint64_t)qr_object_resident(segment->file->inode->object) << QR_PAGE_SHIFT);
    write_size(writer, (uint64_t)qr_object_swapped(segment->file->inode->object) << QR_PAGE_SHIFT);
    qr_writer_printf(writer, "\n");
}

void
shm_write_table(struct qr_writer *writer)
{
    qr_writer_printf(writer, "       key      shmid perms");
    write_title(writer, "size");
    qr_writer_printf(writer, "  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime"
                             "      ctime");
    write_title(writer, "rss");
    write_title(writer, "swap");
    qr_writer_printf(writer, "\n");
    qr_mutex_lock(&table.lock);
    for (size_t i = 0; i < table.place_count; i++) {
        if (table.places[i] != NULL)
            write_segment(writer, table.places[i]);
    }
    qr_mutex_unlock(&table.lock);
}
