/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: a file descriptor that reads page faults and answers them.
 *
 * The mechanism is the library's (quire/listener.h).  Here are the descriptor, Linux's structures and
 * the order of its checks.
 *
 *   region -- listener --+
 *                        | struct uffd -- mm (held: it may be gone before the descriptor is)
 *   file ----------------+
 *
 * Closing the descriptor takes the listener from every region and lets everybody who waits go on as
 * if there had been none.  The structure goes with the last reference: the file's, a region's
 * on its way out, or a waiter's.
 *
 * A thread that waits on behalf of user code leaves for any signal and faults again after its
 * handler; one inside the kernel leaves only to die, and its copy ends with EFAULT.
 *
 * What else happens to the memory, and to whom, is told by userfault_events.c.
 *
 * Pages are filled from a kernel buffer: the frame is written before anybody can see it, with no
 * lock held, since reading the source may itself fault.
 */
#include <quire/assert.h>
#include <quire/listener.h>
#include <quire/user.h>
#include <quire/writer.h>

#include "fs/fs.h"
#include "memory.h"
#include "proc.h"
#include "shm.h"
#include "syscall.h"
#include "userfault.h"
#include "userfault_notice.h"

#define UFFD_USER_MODE_ONLY 1u

#define UFFD_API ((uint64_t)0xaa)

/* What is offered, which is all that Linux 6.1 knows; a program may ask for no more. */
enum {
    FEATURES = FEATURE_PAGEFAULT_FLAG_WP | FEATURE_EVENT_FORK | FEATURE_EVENT_REMAP |
               FEATURE_EVENT_REMOVE | FEATURE_EVENT_UNMAP | FEATURE_MISSING_HUGETLBFS |
               FEATURE_MISSING_SHMEM | FEATURE_SIGBUS | FEATURE_THREAD_ID |
               FEATURE_MINOR_HUGETLBFS | FEATURE_MINOR_SHMEM | FEATURE_EXACT_ADDRESS |
               FEATURE_WP_HUGETLBFS_SHMEM
};

enum {
    REGISTER_MISSING = 1,
    REGISTER_WRITE = 2,
    REGISTER_MINOR = 4,
};

enum { COPY_DONT_WAKE = 1, COPY_WRITE_PROTECT = 2 };
enum { ZERO_DONT_WAKE = 1 };
enum { PROTECT_ON = 1, PROTECT_DONT_WAKE = 2 };
enum { CONTINUE_DONT_WAKE = 1, CONTINUE_WRITE_PROTECT = 2 };

/* Numbers of the operations; the commands hold their structures' sizes, too. */
enum {
    OP_REGISTER,
    OP_UNREGISTER,
    OP_WAKE,
    OP_COPY,
    OP_ZERO,
    OP_PROTECT = 6,
    OP_CONTINUE,
    OP_API = 0x3f
};

/* The operations of a descriptor, and all that there are of a range. */
#define API_COMMANDS ((uint64_t)1 << OP_API | 1 << OP_REGISTER | 1 << OP_UNREGISTER)
#define RANGE_COMMANDS \
    ((uint64_t)1 << OP_WAKE | 1 << OP_COPY | 1 << OP_ZERO | 1 << OP_PROTECT | 1 << OP_CONTINUE)

#define COMMAND_API        0xc018aa3fu
#define COMMAND_REGISTER   0xc020aa00u
#define COMMAND_UNREGISTER 0x8010aa01u
#define COMMAND_WAKE       0x8010aa02u
#define COMMAND_COPY       0xc028aa03u
#define COMMAND_ZERO       0xc020aa04u
#define COMMAND_PROTECT    0xc018aa06u
#define COMMAND_CONTINUE   0xc020aa07u

enum { PAGEFAULT_WRITE = 1, PAGEFAULT_PROTECT = 2, PAGEFAULT_MINOR = 4 };

struct uffd_range {
    uint64_t start, bytes;
};

enum { CAP_SYS_PTRACE = 19 };

/* ---- the listener ---------------------------------------------------------------------- */

static void
uffd_notify(struct qr_listener *listener, struct qr_waiter *waiter)
{
    waiter->tag = (uint64_t)thread_current()->tid;
    wait_wake_all(&uffd_of(listener)->readable);
}

static bool
uffd_wait(struct qr_listener *listener, struct qr_waiter *waiter)
{
    struct wait_queue *queue = &uffd_of(listener)->sleepers;
    int64_t result;

    if (thread_current()->exiting)
        return false; /* whoever would answer may be waiting for its end */
    if (waiter->user_mode)
        WAIT_EVENT_UNTIL(result, queue, atomic_load(&waiter->asleep) == 0, WAIT_INTERRUPTIBLE,
                         WAIT_FOREVER);
    else
        WAIT_EVENT_UNTIL(result, queue, atomic_load(&waiter->asleep) == 0, WAIT_KILLABLE,
                         WAIT_FOREVER);
    return result == 0;
}

static void
uffd_woken(struct qr_listener *listener)
{
    wait_wake_all(&uffd_of(listener)->sleepers);
}

static void
uffd_destroy(struct qr_listener *listener)
{
    struct uffd *uffd = uffd_of(listener);

    mm_release(uffd->mm);
    kmem_charged_free(uffd);
}

static const struct qr_listener_ops listener_ops = {
    .notify = uffd_notify,
    .wait = uffd_wait,
    .woken = uffd_woken,
    .destroy = uffd_destroy,
};

/* ---- reading ------------------------------------------------------------------------------ */

static void
message_of(const struct uffd *uffd, const struct qr_watch_event *event, struct uffd_message *out)
{
    unsigned features = atomic_load(&uffd->features);

    *out = (struct uffd_message){.event = EVENT_PAGEFAULT, .words[1] = event->page.v};
    if (features & FEATURE_EXACT_ADDRESS)
        out->words[1] = event->va.v;
    if (event->access & QR_ACCESS_WRITE)
        out->words[0] |= PAGEFAULT_WRITE;
    if (event->kind == QR_WATCH_WRITE)
        out->words[0] |= PAGEFAULT_PROTECT;
    if (event->kind == QR_WATCH_MINOR)
        out->words[0] |= PAGEFAULT_MINOR;
    if (features & FEATURE_THREAD_ID)
        out->words[2] = (uint32_t)event->tag;
}

/* Take one event, waiting for it unless @nonblock. */
static int64_t
read_event(struct uffd *uffd, bool nonblock, struct uffd_message *out)
{
    struct qr_watch_event event;
    int64_t error;

    while (!qr_listener_take(&uffd->listener, &event)) {
        error = uffd_event_take(uffd, out);
        if (error != -EAGAIN || nonblock)
            return error;
        WAIT_EVENT(error, &uffd->readable,
                   qr_listener_has_events(&uffd->listener) || uffd_has_events(uffd));
        if (error != 0)
            return error;
    }
    message_of(uffd, &event, out);
    return 0;
}

static int64_t
uffd_read(struct file *file, struct io *io, uint64_t *position)
{
    struct uffd *uffd = file->context;
    bool nonblock = (atomic_load(&file->flags) & O_NONBLOCK) != 0;
    int64_t total = 0;

    (void)position;
    if (!atomic_load(&uffd->ready))
        return -EINVAL;
    for (;;) {
        struct uffd_message message;

        if (io->left < sizeof(message))
            return total > 0 ? total : -EINVAL;
        int64_t error = read_event(uffd, nonblock, &message);
        if (error != 0)
            return total > 0 ? total : error;
        if (io_put(io, &message, sizeof(message)) < sizeof(message))
            return total > 0 ? total : -EFAULT;
        total += (int64_t)sizeof(message);
        nonblock = true; /* more only if it is there */
    }
}

static uint32_t
uffd_poll(struct file *file, struct poll_table *table)
{
    struct uffd *uffd = file->context;

    poll_register(table, &uffd->readable);
    /* A reader that polls is to use a descriptor that does not block. */
    if (!atomic_load(&uffd->ready) || !(atomic_load(&file->flags) & O_NONBLOCK))
        return POLLERR;
    return qr_listener_has_events(&uffd->listener) || uffd_has_events(uffd) ? POLLIN : 0;
}

/* ---- operations ------------------------------------------------------------------------------ */

static bool
is_user_range(uint64_t start, uint64_t bytes)
{
    uint64_t limit = mm_user_limit();

    return start < limit && bytes <= limit - start;
}

/* Linux's validate_range(). */
static int64_t
check_range(const struct uffd_range *range)
{
    if ((range->start & QR_PAGE_MASK) || (range->bytes & QR_PAGE_MASK) || range->bytes == 0)
        return -EINVAL;
    return is_user_range(range->start, range->bytes) ? 0 : -EINVAL;
}

static void
wake_range(struct uffd *uffd, uint64_t start, uint64_t bytes)
{
    qr_listener_wake(&uffd->listener, qr_va_of((uintptr_t)start),
                     qr_va_of((uintptr_t)(start + bytes)));
}

static int64_t
error_of(enum qr_status status)
{
    switch (status) {
    case QR_OK:
        return 0;
    case QR_ERR_NOT_FOUND:
        return -ENOENT;
    case QR_ERR_EXISTS:
        return -EEXIST;
    case QR_ERR_BUSY:
        return -EBUSY;
    case QR_ERR_ACCESS:
        return -EPERM;
    case QR_ERR_NO_MEMORY:
    case QR_ERR_LIMIT:
        return -ENOMEM;
    case QR_ERR_RANGE:
    case QR_ERR_FAULT:
        return -EFAULT;
    default:
        return -EINVAL;
    }
}

struct uffd_api {
    uint64_t api, features, ioctls;
};

/* What is asked for can be had, by this process. */
static int64_t
api_check(const struct uffd_api *api)
{
    if (api->api != UFFD_API || (api->features & ~(uint64_t)FEATURES))
        return -EINVAL;
    /* It would get descriptors for the memory of children. */
    return (api->features & FEATURE_EVENT_FORK) && !process_has_capability(CAP_SYS_PTRACE) ? -EPERM
                                                                                           : 0;
}

/* Once. */
static int64_t
api_agree(struct uffd *uffd, unsigned wanted)
{
    bool expected = false;

    if (!atomic_compare_exchange_strong(&uffd->ready, &expected, true))
        return -EINVAL;
    atomic_store(&uffd->features, wanted);
    if (wanted & FEATURE_SIGBUS)
        atomic_fetch_or(&uffd->listener.options, QR_LISTENER_NO_WAIT);
    if (wanted & FEATURE_EVENT_REMAP)
        atomic_fetch_or(&uffd->listener.options, QR_LISTENER_MOVES);
    uffd_events_want(uffd);
    return 0;
}

static int64_t
op_api(struct uffd *uffd, uint64_t user)
{
    static const struct uffd_api none;
    struct uffd_api api;

    if (user_read(&api, user, sizeof(api)) != 0)
        return -EFAULT;
    unsigned wanted = (unsigned)api.features;
    int64_t error = api_check(&api);

    api.features = FEATURES;
    api.ioctls = API_COMMANDS;
    if (error == 0 && user_write(user, &api, sizeof(api)) != 0)
        return -EFAULT;
    if (error == 0)
        error = api_agree(uffd, wanted);
    if (error != 0 && user_write(user, &none, sizeof(none)) != 0)
        error = -EFAULT;
    return error;
}

static bool
is_huge(const struct qr_region *region)
{
    return (region->flags & QR_REGION_HUGETLB) != 0;
}

/* Linux does not watch segments of System V, but for those of huge pages. */
static bool
is_segment(const struct qr_region *region)
{
    return shm_is_file(region->file) && !is_huge(region);
}

static bool
has_region(struct qr_space *space, const struct uffd_range *range,
           bool (*is_one)(const struct qr_region *region))
{
    bool found = false;

    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, qr_va_of((uintptr_t)range->start));
         region != NULL && region->start.v < range->start + range->bytes && !found;
         region = qr_region_next(region))
        found = is_one(region);
    qr_rw_read_unlock(&space->lock);
    return found;
}

static int64_t
op_register(struct uffd *uffd, uint64_t user)
{
    struct {
        struct uffd_range range;
        uint64_t mode, ioctls;
    } request;
    unsigned kinds;

    if (user_read(&request, user, offsetof(__typeof__(request), ioctls)) != 0)
        return -EFAULT;
    if (request.mode == 0 ||
        (request.mode & ~(uint64_t)(REGISTER_MISSING | REGISTER_WRITE | REGISTER_MINOR)))
        return -EINVAL;
    int64_t error = check_range(&request.range);
    if (error != 0)
        return error;
    if (has_region(uffd->mm->space, &request.range, is_segment))
        return -EINVAL;
    kinds = (request.mode & REGISTER_MISSING ? (unsigned)QR_WATCH_MISSING : 0) |
            (request.mode & REGISTER_WRITE ? (unsigned)QR_WATCH_WRITE : 0) |
            (request.mode & REGISTER_MINOR ? (unsigned)QR_WATCH_MINOR : 0);
    enum qr_status status = MM_RETRY(
        uffd->mm->space, qr_space_watch(uffd->mm->space, qr_va_of((uintptr_t)request.range.start),
                                        (size_t)request.range.bytes, &uffd->listener, kinds));
    if (status != QR_OK)
        return status == QR_ERR_NOT_FOUND ? -ENOMEM : error_of(status);
    request.ioctls = (uint64_t)1 << OP_WAKE | 1 << OP_COPY;
    if (!has_region(uffd->mm->space, &request.range, is_huge))
        request.ioctls |= 1 << OP_ZERO;
    if (kinds & QR_WATCH_WRITE)
        request.ioctls |= 1 << OP_PROTECT;
    if (kinds & QR_WATCH_MINOR)
        request.ioctls |= 1 << OP_CONTINUE;
    return user_write_u64(user + offsetof(__typeof__(request), ioctls), request.ioctls);
}

static int64_t
op_unregister(struct uffd *uffd, uint64_t user)
{
    struct uffd_range range;

    if (user_read(&range, user, sizeof(range)) != 0)
        return -EFAULT;
    int64_t error = check_range(&range);
    if (error != 0)
        return error;
    if (has_region(uffd->mm->space, &range, is_segment))
        return -EINVAL;
    enum qr_status status = qr_space_unwatch(uffd->mm->space, qr_va_of((uintptr_t)range.start),
                                             (size_t)range.bytes, &uffd->listener);
    return status == QR_ERR_NOT_FOUND ? -ENOMEM : error_of(status);
}

static int64_t
op_wake(struct uffd *uffd, uint64_t user)
{
    struct uffd_range range;

    if (user_read(&range, user, sizeof(range)) != 0)
        return -EFAULT;
    int64_t error = check_range(&range);
    if (error == 0)
        wake_range(uffd, range.start, range.bytes);
    return error;
}

/* One page that is to be filled. */
struct fill_page {
    uint64_t at, source;
    size_t bytes;
    unsigned flags; /* enum qr_fill_flag */
};
typedef int64_t (*fill_fn)(struct uffd *uffd, const struct fill_page *page);

/* Memory of the caller, as far as it can be read without a fault. */
struct user_source {
    struct qr_page_source source;
    uint64_t from;
};

static bool
user_source_copy(const struct qr_page_source *source, size_t offset, struct qr_frame *frame)
{
    uint64_t from = qr_container_of(source, struct user_source, source)->from + offset;
    char *window = qr_port_window_open(qr_frame_pa(memory.frames, frame));
    bool good = user_read_nofault(window, from, QR_PAGE_SIZE) == 0;

    qr_port_window_close(window);
    return good;
}

/* Have all pages of the source there. */
static int64_t
touch_source(const struct fill_page *page)
{
    int64_t error = 0;
    char byte;

    for (size_t done = 0; done < page->bytes && error == 0; done += QR_PAGE_SIZE)
        error = user_read(&byte, page->source + done, 1);
    return error;
}

/* How often the source of a huge page is touched again, where memory is so short that parts of it
 * go before all are there. */
#define COPY_HUGE_ATTEMPTS 8

static int64_t
fill_copy_huge(struct uffd *uffd, const struct fill_page *page)
{
    const struct user_source source = {.source.copy = user_source_copy, .from = page->source};
    enum qr_status status = QR_ERR_AGAIN;

    for (unsigned i = 0; i < COPY_HUGE_ATTEMPTS && status == QR_ERR_AGAIN; i++) {
        int64_t error = touch_source(page);
        char last;

        /* It may start within a page. */
        if (error == 0)
            error = user_read(&last, page->source + page->bytes - 1, 1);
        if (error != 0)
            return error;
        status = qr_space_fill_huge(uffd->mm->space, qr_va_of((uintptr_t)page->at), &source.source,
                                    page->flags);
    }
    return status == QR_ERR_AGAIN ? -EAGAIN : error_of(status);
}

static int64_t
fill_copy(struct uffd *uffd, const struct fill_page *page)
{
    if (page->bytes > QR_PAGE_SIZE)
        return fill_copy_huge(uffd, page);

    /* In the direct map: there its window stays open while the source faults. */
    struct qr_frame *frame = qr_frame_alloc(memory.frames, QR_ALLOC_MOVABLE);

    if (frame == NULL)
        return -ENOMEM;
    char *window = qr_port_window_open(qr_frame_pa(memory.frames, frame));
    int64_t error = user_read(window, page->source, QR_PAGE_SIZE);
    qr_port_window_close(window);
    if (error == 0)
        error = error_of(
            qr_space_fill(uffd->mm->space, qr_va_of((uintptr_t)page->at), frame, page->flags));
    if (error != 0)
        qr_frame_put(memory.frames, frame);
    return error;
}

static int64_t
fill_zero(struct uffd *uffd, const struct fill_page *page)
{
    return error_of(qr_space_fill_zero(uffd->mm->space, qr_va_of((uintptr_t)page->at)));
}

static int64_t
fill_cached(struct uffd *uffd, const struct fill_page *page)
{
    return error_of(
        qr_space_fill_cached(uffd->mm->space, qr_va_of((uintptr_t)page->at), page->flags));
}

struct fill_request {
    struct uffd_range range;
    uint64_t source;
    unsigned flags; /* enum qr_fill_flag */
    bool wake;
    fill_fn fill;
    uint64_t result; /* where the user wants to know how many bytes, or which error */
};

/* Page by page: what is done stays done.  All of the range is one region's, or nothing is done. */
static int64_t
fill_range(struct uffd *uffd, const struct fill_request *request)
{
    uint64_t done = 0;
    struct fill_page page = {.flags = request->flags};
    int64_t error =
        error_of(qr_space_fill_check(uffd->mm->space, qr_va_of((uintptr_t)request->range.start),
                                     (size_t)request->range.bytes, request->flags, &page.bytes));

    while (done < request->range.bytes && error == 0) {
        page.at = request->range.start + done;
        page.source = request->source + done;
        error = request->fill(uffd, &page);
        if (error == 0)
            done += page.bytes;
        if (signal_is_fatal_pending())
            break;
        sched_relax();
    }
    if (done > 0 && request->wake)
        wake_range(uffd, request->range.start, done);
    int64_t result = done > 0 ? (int64_t)done : error == 0 ? -EAGAIN : error;
    if (user_write_u64(request->result, (uint64_t)result) != 0)
        return -EFAULT;
    if (result < 0)
        return result;
    return done == request->range.bytes ? 0 : -EAGAIN;
}

struct uffd_copy {
    uint64_t to, from, bytes, mode;
    int64_t copied;
};

/* Of ZEROPAGE and CONTINUE. */
struct uffd_zero {
    struct uffd_range range;
    uint64_t mode;
    int64_t done;
};

static int64_t
op_copy(struct uffd *uffd, uint64_t user)
{
    struct uffd_copy copy;
    struct fill_request request = {.fill = fill_copy};

    if (user_read(&copy, user, offsetof(__typeof__(copy), copied)) != 0)
        return -EFAULT;
    request.range = (struct uffd_range){copy.to, copy.bytes};
    int64_t error = check_range(&request.range);
    if (error != 0)
        return error;
    if (copy.from + copy.bytes <= copy.from || !is_user_range(copy.from, copy.bytes) ||
        (copy.mode & ~(uint64_t)(COPY_DONT_WAKE | COPY_WRITE_PROTECT)))
        return -EINVAL;
    request.source = copy.from;
    request.flags = copy.mode & COPY_WRITE_PROTECT ? QR_FILL_WRITE_PROTECT : 0;
    request.wake = !(copy.mode & COPY_DONT_WAKE);
    request.result = user + offsetof(__typeof__(copy), copied);
    return fill_range(uffd, &request);
}

/* ZEROPAGE and CONTINUE: a range, a mode that may not wake or (@protect) protects, a result. */
static int64_t
op_fill(struct uffd *uffd, uint64_t user, fill_fn fill, uint64_t dont_wake, uint64_t protect)
{
    struct uffd_zero zero;
    struct fill_request request = {.fill = fill};

    if (user_read(&zero, user, offsetof(__typeof__(zero), done)) != 0)
        return -EFAULT;
    request.range = zero.range;
    int64_t error = check_range(&request.range);
    if (error != 0)
        return error;
    if (zero.mode & ~(dont_wake | protect))
        return -EINVAL;
    request.flags = zero.mode & protect ? QR_FILL_WRITE_PROTECT : 0;
    request.wake = !(zero.mode & dont_wake);
    request.result = user + offsetof(__typeof__(zero), done);
    return fill_range(uffd, &request);
}

static int64_t
op_protect(struct uffd *uffd, uint64_t user)
{
    struct {
        struct uffd_range range;
        uint64_t mode;
    } protect;

    if (user_read(&protect, user, sizeof(protect)) != 0)
        return -EFAULT;
    int64_t error = check_range(&protect.range);
    if (error != 0)
        return error;
    if ((protect.mode & ~(uint64_t)(PROTECT_ON | PROTECT_DONT_WAKE)) ||
        protect.mode == (PROTECT_ON | PROTECT_DONT_WAKE))
        return -EINVAL;
    error = error_of(
        qr_space_write_protect(uffd->mm->space, qr_va_of((uintptr_t)protect.range.start),
                               (size_t)protect.range.bytes, (protect.mode & PROTECT_ON) != 0));
    if (error == 0 && protect.mode == 0)
        wake_range(uffd, protect.range.start, protect.range.bytes);
    return error;
}

/* Addresses are changing and nobody has read that yet: what was meant may be elsewhere. */
static int64_t
refuse_now(uint64_t result)
{
    return user_write_u64(result, (uint64_t)-EAGAIN) != 0 ? -EFAULT : -EAGAIN;
}

static int64_t
operate(struct uffd *uffd, uint32_t command, uint64_t argument)
{
    switch (command) {
    case COMMAND_REGISTER:
        return op_register(uffd, argument);
    case COMMAND_UNREGISTER:
        return op_unregister(uffd, argument);
    case COMMAND_WAKE:
        return op_wake(uffd, argument);
    case COMMAND_COPY:
        if (uffd_is_changing(uffd))
            return refuse_now(argument + offsetof(struct uffd_copy, copied));
        return op_copy(uffd, argument);
    case COMMAND_ZERO:
        if (uffd_is_changing(uffd))
            return refuse_now(argument + offsetof(struct uffd_zero, done));
        return op_fill(uffd, argument, fill_zero, ZERO_DONT_WAKE, 0);
    case COMMAND_PROTECT:
        return op_protect(uffd, argument);
    case COMMAND_CONTINUE:
        if (uffd_is_changing(uffd))
            return refuse_now(argument + offsetof(struct uffd_zero, done));
        return op_fill(uffd, argument, fill_cached, CONTINUE_DONT_WAKE, CONTINUE_WRITE_PROTECT);
    default:
        return -EINVAL;
    }
}

static int64_t
uffd_ioctl(struct file *file, uint32_t command, uint64_t argument)
{
    struct uffd *uffd = file->context;

    if (command == COMMAND_API)
        return op_api(uffd, argument);
    if (!atomic_load(&uffd->ready))
        return -EINVAL;
    if (!mm_try_ref(uffd->mm))
        return command == COMMAND_REGISTER || command == COMMAND_UNREGISTER ? -ENOMEM : -ESRCH;
    int64_t result = operate(uffd, command, argument);
    mm_put(uffd->mm);
    return result;
}

static void
uffd_release(struct file *file)
{
    struct uffd *uffd = file->context;

    qr_listener_close(&uffd->listener);
    uffd_events_end(uffd);
    if (mm_try_ref(uffd->mm)) {
        qr_space_unwatch_all(uffd->mm->space, &uffd->listener);
        mm_put(uffd->mm);
    }
    qr_listener_put(&uffd->listener);
}

/* As Linux 6.1, which has the highest bit among the features once they were asked for. */
static void
uffd_describe(struct file *file, struct qr_writer *writer)
{
    struct uffd *uffd = file->context;
    size_t total = qr_listener_count(&uffd->listener);
    size_t pending = atomic_load(&uffd->listener.fresh_count);
    unsigned ready = atomic_load(&uffd->ready) ? 1u << 31 : 0;

    qr_writer_printf(writer, "pending:\t%zu\ntotal:\t%zu\nAPI:\t%llx:%x:%llx\n", pending,
                     pending > total ? pending : total, (unsigned long long)UFFD_API,
                     atomic_load(&uffd->features) | ready,
                     (unsigned long long)(API_COMMANDS | RANGE_COMMANDS));
}

static const struct file_ops uffd_file_ops = {
    .name = "userfaultfd",
    .describe = uffd_describe,
    .read = uffd_read,
    .ioctl = uffd_ioctl,
    .poll = uffd_poll,
    .release = uffd_release,
};

/* ---- making -------------------------------------------------------------------------------------- */

struct uffd *
uffd_create(struct mm *mm, unsigned options)
{
    struct uffd *uffd = kmem_charged_zalloc(sizeof(*uffd));

    if (uffd == NULL)
        return NULL;
    qr_listener_init(&uffd->listener, &listener_ops, options);
    uffd->mm = mm;
    mm_hold(mm);
    wait_queue_init(&uffd->readable);
    wait_queue_init(&uffd->sleepers);
    qr_spin_init(&uffd->lock, QR_RANK_NONE);
    qr_list_init(&uffd->events);
    return uffd;
}

int64_t
uffd_install(struct uffd *uffd, uint32_t flags)
{
    struct file *file;
    int64_t error = file_create_anonymous("anon_inode:[userfaultfd]", &uffd_file_ops,
                                          O_RDONLY | (flags & O_NONBLOCK), uffd, &file);

    if (error != 0)
        return error;
    int64_t fd = fd_install(file, 0, (flags & O_CLOEXEC) != 0);
    if (fd < 0)
        qr_listener_get(&uffd->listener); /* the caller's reference stays the caller's */
    file_put(file);
    return fd;
}

static int64_t
uffd_open(uint32_t flags)
{
    if (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY))
        return -EINVAL;
    struct uffd *uffd = uffd_create(
        process_current()->mm, flags & UFFD_USER_MODE_ONLY ? (unsigned)QR_LISTENER_USER_ONLY : 0);

    if (uffd == NULL)
        return -ENOMEM;
    uffd->flags = flags;
    int64_t fd = uffd_install(uffd, flags);
    if (fd < 0)
        qr_listener_put(&uffd->listener);
    return fd;
}

/* vm.unprivileged_userfaultfd: 0, for who stops the kernel must be trusted. */
static _Atomic bool for_everybody;

uint64_t
userfault_unprivileged(void)
{
    return atomic_load(&for_everybody);
}

void
userfault_set_unprivileged(uint64_t value)
{
    atomic_store(&for_everybody, value != 0);
}

int64_t
sys_userfaultfd(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[0];

    if (!(flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK)) && !atomic_load(&for_everybody) &&
        !process_has_capability(CAP_SYS_PTRACE))
        return -EPERM; /* other flags are wrong, or ask for less */
    return uffd_open(flags);
}

/* /dev/userfaultfd: who may open it may have one. */
static int64_t
device_ioctl(struct file *file, uint32_t command, uint64_t argument)
{
    enum { COMMAND_NEW = 0xaa00 };

    (void)file;
    return command == COMMAND_NEW ? uffd_open((uint32_t)argument) : -EINVAL;
}

const struct file_ops userfault_device_ops = {.name = "userfaultfd", .ioctl = device_ioctl};
