/* SPDX-License-Identifier: MIT */
/*
 * poll, ppoll, select, pselect6: waiting for one of many files.
 *
 * One scan asks every file and, the first time, puts the thread on every wait queue behind it;
 * later scans only ask.  The thread declares itself asleep before each scan, so that an event
 * between the question and the sleep wakes it.
 *
 * select() is turned into a list for poll().
 */

#include "poll.h"

#include <quire/assert.h>

#include "fd_table.h"
#include "fs.h"
#include "proc.h"
#include "syscall.h"

enum { POLL_INLINE_ENTRIES = 8, POLL_BLOCK_ENTRIES = 32, FD_SET_LEAST = 64, FD_SET_LIMIT = 1024 };

struct entry_block {
    struct entry_block *next;
    unsigned used;
    struct wait_entry entries[POLL_BLOCK_ENTRIES];
};

/* Where the thread waits, for one call. */
struct poller {
    struct poll_table table; /* first */
    unsigned inline_used;
    struct wait_entry inline_entries[POLL_INLINE_ENTRIES];
    struct entry_block *blocks;
    bool failed; /* no memory for an entry */
};

void
poll_register(struct poll_table *table, struct wait_queue *queue)
{
    if (table != NULL) {
        table->add(table, queue);
    }
}

static struct wait_entry *
poller_entry(struct poller *poller)
{
    if (poller->inline_used < POLL_INLINE_ENTRIES) {
        return &poller->inline_entries[poller->inline_used++];
    }
    struct entry_block *block = poller->blocks;
    if (block == NULL || block->used == POLL_BLOCK_ENTRIES) {
        block = kmem_zalloc(sizeof *block);
        if (block == NULL) {
            return NULL;
        }
        block->next = poller->blocks;
        poller->blocks = block;
    }
    return &block->entries[block->used++];
}

static void
poller_add(struct poll_table *table, struct wait_queue *queue)
{
    struct poller *poller = (struct poller *)table;
    struct wait_entry *entry = poller_entry(poller);

    if (entry == NULL) {
        poller->failed = true;
        return;
    }
    wait_entry_init(entry, NULL);
    wait_add(queue, entry);
}

static void
poller_finish(struct poller *poller)
{
    for (unsigned i = 0; i < poller->inline_used; i++) {
        wait_remove(&poller->inline_entries[i]);
    }
    while (poller->blocks != NULL) {
        struct entry_block *block = poller->blocks;

        poller->blocks = block->next;
        for (unsigned i = 0; i < block->used; i++) {
            wait_remove(&block->entries[i]);
        }
        kmem_free(block);
    }
}

uint32_t
file_poll(struct file *file, struct poll_table *table)
{
    if (file->ops->poll == NULL) {
        return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
    }
    return file->ops->poll(file, table);
}

/* ---- the wait ---------------------------------------------------------------------- */

struct pollfd {
    int32_t fd;
    int16_t events;
    int16_t revents;
};

static unsigned
scan(struct pollfd *fds, struct file **files, size_t count, struct poll_table *table)
{
    unsigned ready = 0;

    for (size_t i = 0; i < count; i++) {
        uint32_t wanted = (uint16_t)fds[i].events | POLLERR | POLLHUP;
        uint32_t events = 0;

        if (files[i] != NULL) {
            events = file_poll(files[i], table) & wanted;
        } else if (fds[i].fd >= 0) {
            events = POLLNVAL;
        }
        fds[i].revents = (int16_t)events;
        if (events != 0) {
            ready++;
            table = NULL; /* there will be no sleep */
        }
    }
    return ready;
}

/* @return ready files, 0 at the deadline, -ERESTARTNOHAND, -ENOMEM */
static int64_t
poll_wait(struct pollfd *fds, struct file **files, size_t count, uint64_t deadline)
{
    struct poller poller = {.table = {.add = poller_add}};
    struct poll_table *table = deadline == 0 ? NULL : &poller.table;
    int64_t result = 0;

    for (;;) {
        wait_begin(WAIT_INTERRUPTIBLE);
        unsigned ready = scan(fds, files, count, table);

        table = NULL;
        if (ready > 0 || deadline == 0 || result != 0) {
            result = ready > 0 ? (int64_t)ready : result;
            break;
        }
        if (poller.failed) {
            result = -ENOMEM;
            break;
        }
        result = wait_sleep(deadline);
    }
    wait_end();
    poller_finish(&poller);
    return result == -ETIMEDOUT ? 0 : result == -ERESTARTSYS ? -ERESTARTNOHAND : result;
}

static int64_t
poll_files(struct pollfd *fds, size_t count, uint64_t deadline)
{
    struct file *few[8];
    struct file **files = few;

    if (count > QR_ARRAY_COUNT(few)) {
        files = kvmem_zalloc(count * sizeof(struct file *));
        if (files == NULL) {
            return -ENOMEM;
        }
    }
    for (size_t i = 0; i < count; i++) {
        files[i] = fds[i].fd < 0 ? NULL : file_get(fds[i].fd);
    }
    int64_t result = poll_wait(fds, files, count, deadline);
    for (size_t i = 0; i < count; i++) {
        if (files[i] != NULL) {
            file_put(files[i]);
        }
    }
    if (files != few) {
        kvmem_free(files);
    }
    return result;
}

/* ---- poll ------------------------------------------------------------------------------ */

static int64_t
poll_user(uint64_t user_fds, uint64_t count, uint64_t deadline)
{
    struct pollfd few[8];
    struct pollfd *fds = few;

    if (count > process_limit(RLIMIT_NOFILE)) {
        return -EINVAL;
    }
    if (count > QR_ARRAY_COUNT(few)) {
        fds = kvmem_zalloc((size_t)count * sizeof *fds);
        if (fds == NULL) {
            return -ENOMEM;
        }
    }
    int64_t result = user_read(fds, user_fds, (size_t)count * sizeof *fds);
    if (result == 0) {
        result = poll_files(fds, (size_t)count, deadline);
    }
    if (result >= 0 && user_write(user_fds, fds, (size_t)count * sizeof *fds) != 0) {
        result = -EFAULT;
    }
    if (fds != few) {
        kvmem_free(fds);
    }
    return result;
}

uint64_t
deadline_after(uint64_t ns)
{
    uint64_t now = clock_monotonic_ns();

    return ns >= WAIT_FOREVER - now ? WAIT_FOREVER : now + ns;
}

int64_t
deadline_from_timespec(uint64_t user, uint64_t *out_deadline)
{
    int64_t time[2];

    if (user == 0) {
        *out_deadline = WAIT_FOREVER;
        return 0;
    }
    if (user_read(time, user, sizeof time) != 0) {
        return -EFAULT;
    }
    time[1] = (intptr_t)time[1]; /* a long: on 32 bits the rest is padding */
    if (time[0] < 0 || time[1] < 0 || time[1] >= 1000000000) {
        return -EINVAL;
    }
    if (time[0] == 0 && time[1] == 0) {
        *out_deadline = 0;
    } else if (time[0] > INT64_MAX / 1000000000 - 1) {
        *out_deadline = WAIT_FOREVER;
    } else {
        *out_deadline = deadline_after((uint64_t)time[0] * 1000000000u + (uint64_t)time[1]);
    }
    return 0;
}

/* What is left goes back to the caller; a failure to write it does not matter. */
static void
remaining_write(uint64_t user, uint64_t deadline, uint64_t unit_ns)
{
    if (user == 0 || deadline == WAIT_FOREVER) {
        return;
    }
    uint64_t now = clock_monotonic_ns();
    uint64_t left = deadline > now ? deadline - now : 0;
    int64_t time[2] = {(int64_t)(left / 1000000000u), (int64_t)(left % 1000000000u / unit_ns)};
    if (user_write(user, time, sizeof time) != 0) {
        return;
    }
}

int64_t
sys_poll(const struct syscall_args *args)
{
    int32_t timeout = (int32_t)args->arg[2];
    uint64_t deadline = timeout < 0    ? WAIT_FOREVER
                        : timeout == 0 ? 0
                                       : deadline_after((uint64_t)timeout * 1000000u);

    return poll_user(args->arg[0], (uint32_t)args->arg[1], deadline);
}

int64_t
sys_ppoll(const struct syscall_args *args)
{
    uint64_t deadline;
    int64_t result = deadline_from_timespec(args->arg[2], &deadline);

    if (result == 0) {
        result = signal_mask_borrow(args->arg[3], args->arg[4]);
    }
    if (result != 0) {
        return result;
    }
    result = poll_user(args->arg[0], (uint32_t)args->arg[1], deadline);
    signal_mask_return(result == -ERESTARTNOHAND);
    remaining_write(args->arg[2], deadline, 1);
    return result;
}

/* ---- select ------------------------------------------------------------------------------ */

enum { SET_READ, SET_WRITE, SET_EXCEPT, SETS };

struct select_sets {
    uint64_t words[SETS][FD_SET_LIMIT / 64];
};

static const uint32_t set_events[SETS] = {
    [SET_READ] = POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR,
    [SET_WRITE] = POLLOUT | POLLWRNORM | POLLERR,
    [SET_EXCEPT] = POLLPRI,
};

static bool
set_has(const struct select_sets *sets, unsigned set, unsigned fd)
{
    return (sets->words[set][fd / 64] >> fd % 64 & 1) != 0;
}

/* Whole words of the program. */
static size_t
set_bytes(unsigned count)
{
    const size_t word_bits = sizeof(uintptr_t) * 8;

    return (count + word_bits - 1) / word_bits * sizeof(uintptr_t);
}

static int64_t
sets_read(struct select_sets *sets, const uint64_t user[SETS], unsigned count)
{
    size_t bytes = set_bytes(count);

    memset(sets, 0, sizeof *sets);
    for (unsigned set = 0; set < SETS; set++) {
        if (user[set] != 0 && user_read(sets->words[set], user[set], bytes) != 0) {
            return -EFAULT;
        }
    }
    return 0;
}

static int64_t
sets_write(const struct select_sets *sets, const uint64_t user[SETS], unsigned count)
{
    size_t bytes = set_bytes(count);

    for (unsigned set = 0; set < SETS; set++) {
        if (user[set] != 0 && user_write(user[set], sets->words[set], bytes) != 0) {
            return -EFAULT;
        }
    }
    return 0;
}

/* The poll list for @sets. @return its length, or -EBADF */
static int64_t
sets_to_list(const struct select_sets *sets, unsigned count, struct pollfd *list)
{
    unsigned length = 0;

    for (unsigned fd = 0; fd < count; fd++) {
        uint32_t events = 0;

        for (unsigned set = 0; set < SETS; set++) {
            events |= set_has(sets, set, fd) ? set_events[set] : 0;
        }
        if (events == 0) {
            continue;
        }
        struct file *file = file_get((int)fd);
        if (file == NULL) {
            return -EBADF;
        }
        file_put(file);
        list[length++] = (struct pollfd){.fd = (int32_t)fd, .events = (int16_t)events};
    }
    return length;
}

static int64_t
list_to_sets(const struct pollfd *list, unsigned length, struct select_sets *sets)
{
    struct select_sets wanted = *sets;
    int64_t ready = 0;

    memset(sets, 0, sizeof *sets);
    for (unsigned i = 0; i < length; i++) {
        unsigned fd = (unsigned)list[i].fd;

        for (unsigned set = 0; set < SETS; set++) {
            if (set_has(&wanted, set, fd) && ((uint16_t)list[i].revents & set_events[set])) {
                sets->words[set][fd / 64] |= (uint64_t)1 << fd % 64;
                ready++;
            }
        }
    }
    return ready;
}

/* Sets are looked at no further than the descriptor table reaches, as on Linux. */
static unsigned
select_width(unsigned count)
{
    unsigned width = fd_table_capacity(thread_current()->files);

    width = width < FD_SET_LEAST ? FD_SET_LEAST : width;
    width = width < FD_SET_LIMIT ? width : FD_SET_LIMIT;
    return count < width ? count : width;
}

static int64_t
select_user(int32_t count, const uint64_t user[SETS], uint64_t deadline)
{
    struct select_sets sets;

    if (count < 0) {
        return -EINVAL;
    }
    unsigned used = select_width((unsigned)count);
    int64_t result = sets_read(&sets, user, used);
    if (result != 0) {
        return result;
    }
    struct pollfd *list = kmem_calloc(used + 1u, sizeof *list);
    if (list == NULL) {
        return -ENOMEM;
    }
    result = sets_to_list(&sets, used, list);
    if (result >= 0) {
        unsigned length = (unsigned)result;

        result = poll_files(list, length, deadline);
        if (result >= 0) {
            result = list_to_sets(list, length, &sets);
        }
        if (result >= 0 && sets_write(&sets, user, used) != 0) {
            result = -EFAULT;
        }
    }
    kmem_free(list);
    return result;
}

int64_t
sys_select(const struct syscall_args *args)
{
    const uint64_t user[SETS] = {args->arg[1], args->arg[2], args->arg[3]};
    uint64_t deadline = WAIT_FOREVER;
    int64_t time[2];

    if (args->arg[4] != 0) {
        if (user_read(time, args->arg[4], sizeof time) != 0) {
            return -EFAULT;
        }
        if (time[0] < 0 || time[1] < 0) {
            return -EINVAL;
        }
        bool now = time[0] == 0 && time[1] == 0;
        bool far = time[0] > INT32_MAX || time[1] > INT32_MAX;
        deadline =
            now   ? 0
            : far ? WAIT_FOREVER
                  : deadline_after((uint64_t)time[0] * 1000000000u + (uint64_t)time[1] * 1000u);
    }
    int64_t result = select_user((int32_t)args->arg[0], user, deadline);
    remaining_write(args->arg[4], deadline, 1000);
    return result;
}

int64_t
sys_pselect6(const struct syscall_args *args)
{
    const uint64_t user[SETS] = {args->arg[1], args->arg[2], args->arg[3]};
    uint64_t mask[2] = {0, 0};
    uint64_t deadline;
    int64_t result = deadline_from_timespec(args->arg[4], &deadline);

    if (result == 0 && args->arg[5] != 0) {
        result = user_read_word(&mask[0], args->arg[5]);
        if (result == 0) {
            result = user_read_word(&mask[1], args->arg[5] + sizeof(uintptr_t));
        }
    }
    if (result == 0) {
        result = signal_mask_borrow(mask[0], mask[1]);
    }
    if (result != 0) {
        return result;
    }
    result = select_user((int32_t)args->arg[0], user, deadline);
    signal_mask_return(result == -ERESTARTNOHAND);
    remaining_write(args->arg[4], deadline, 1);
    return result;
}
