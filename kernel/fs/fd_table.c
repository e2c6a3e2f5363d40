/* SPDX-License-Identifier: MIT */
/*
 * Descriptor tables.
 *
 * A slot is one word: a pointer to the file with the close-on-exec mark in its lowest bit, zero
 * for a free descriptor, or SLOT_RESERVED for one that a call in progress will fill.  Reserving
 * first means that open() fails with EMFILE before it creates anything, and cannot fail after.
 *
 * The table grows by doubling, up to FD_LIMIT.  RLIMIT_NOFILE and fs.nr_open bound what is handed out.
 *
 * Lock: table->lock, a spin lock, for slots, capacity and hint.  The thread that is the only
 * user of its table reads a slot without it: nobody else can change the table then.
 */

#include <quire/assert.h>

#include "fd_table.h"
#include "fs.h"
#include "proc.h"

#define SLOT_CLOEXEC  ((uintptr_t)1)
#define SLOT_RESERVED ((uintptr_t)2)

enum { FD_INLINE = 16 };

struct fd_table {
    atomic_uint refs;
    struct qr_spin lock;
    uint32_t capacity;        /* lock */
    uint32_t lowest_free;     /* lock: no free slot below */
    _Atomic uintptr_t *slots; /* lock */
    _Atomic uintptr_t first[FD_INLINE];
};

static struct file *
slot_file(uintptr_t slot)
{
    return slot == SLOT_RESERVED ? NULL : (struct file *)(slot & ~SLOT_CLOEXEC);
}

struct fd_table *
fd_table_create(void)
{
    struct fd_table *table = kmem_charged_zalloc(sizeof *table);

    if (table == NULL) {
        return NULL;
    }
    atomic_init(&table->refs, 1);
    table->capacity = FD_INLINE;
    table->slots = table->first;
    return table;
}

void
fd_table_ref(struct fd_table *table)
{
    atomic_fetch_add(&table->refs, 1);
}

static void
table_free(struct fd_table *table)
{
    if (table->slots != table->first) {
        kmem_charged_free(table->slots);
    }
    kmem_charged_free(table);
}

bool
fd_table_is_shared(struct fd_table *table)
{
    return atomic_load(&table->refs) > 1;
}

void
fd_table_put(struct fd_table *table)
{
    if (atomic_fetch_sub(&table->refs, 1) != 1) {
        return;
    }
    bool sockets = false;
    for (uint32_t fd = 0; fd < table->capacity; fd++) {
        struct file *file = slot_file(table->slots[fd]);

        if (file != NULL) {
            sockets = sockets || S_ISTYPE(file->inode->mode, S_IFSOCK);
            flock_table_closed(table, file->inode);
            file_put(file);
        }
    }
    if (sockets) {
        socket_collect();
    }
    table_free(table);
}

/* One past the highest descriptor in use. Lock held. */
static uint32_t
table_used(const struct fd_table *table)
{
    uint32_t used = table->capacity;

    while (used > 0 && table->slots[used - 1] == 0) {
        used--;
    }
    return used;
}

static uint32_t
capacity_for(uint32_t slots)
{
    uint32_t capacity = FD_INLINE;

    while (capacity < slots) {
        capacity *= 2;
    }
    return capacity;
}

/* Make room for descriptor @fd. Lock held; dropped while memory is sought. */
static bool
table_grow(struct fd_table *table, uint32_t fd)
{
    while (fd >= table->capacity) {
        uint32_t capacity = capacity_for(fd + 1);

        qr_spin_unlock(&table->lock);
        _Atomic uintptr_t *slots = kmem_charged_calloc(capacity, sizeof *slots);
        qr_spin_lock(&table->lock);
        if (slots == NULL) {
            return false;
        }
        _Atomic uintptr_t *unused = slots;
        if (capacity > table->capacity) {
            for (uint32_t i = 0; i < table->capacity; i++) {
                slots[i] = table->slots[i];
            }
            unused = table->slots;
            table->slots = slots;
            table->capacity = capacity;
        }
        if (unused != table->first) {
            qr_spin_unlock(&table->lock);
            kmem_charged_free(unused);
            qr_spin_lock(&table->lock);
        }
    }
    return true;
}

/* An empty copy large enough for @table as it is; the lock is held on success. */
static struct fd_table *
clone_prepare(struct fd_table *table)
{
    struct fd_table *clone = fd_table_create();

    if (clone == NULL) {
        return NULL;
    }
    for (;;) {
        qr_spin_lock(&table->lock);
        uint32_t used = table_used(table);
        if (used <= clone->capacity) {
            return clone;
        }
        qr_spin_unlock(&table->lock);

        qr_spin_lock(&clone->lock);
        bool grown = table_grow(clone, used - 1);
        qr_spin_unlock(&clone->lock);
        if (!grown) {
            table_free(clone);
            return NULL;
        }
    }
}

struct fd_table *
fd_table_clone(struct fd_table *table)
{
    struct fd_table *clone = clone_prepare(table);

    if (clone == NULL) {
        return NULL;
    }
    uint32_t used = table_used(table);
    for (uint32_t fd = 0; fd < used; fd++) {
        struct file *file = slot_file(table->slots[fd]);

        if (file != NULL) {
            file_ref(file);
            clone->slots[fd] = table->slots[fd];
        }
    }
    qr_spin_unlock(&table->lock);
    return clone;
}

/* Empty one slot. Lock held. @return what was in it, 0 for nothing or a reservation */
static uintptr_t
slot_take(struct fd_table *table, uint32_t fd)
{
    uintptr_t slot = fd < table->capacity ? table->slots[fd] : 0;

    if (slot == 0 || slot == SLOT_RESERVED) {
        return 0;
    }
    table->slots[fd] = 0;
    if (fd < table->lowest_free) {
        table->lowest_free = fd;
    }
    return slot;
}

static void
file_close(struct fd_table *table, struct file *file)
{
    bool is_socket = S_ISTYPE(file->inode->mode, S_IFSOCK);

    flock_table_closed(table, file->inode);
    file_put(file);
    if (is_socket) {
        socket_collect();
    }
}

void
fd_table_close_on_exec(struct fd_table *table)
{
    for (uint32_t fd = 0; fd < table->capacity; fd++) {
        uintptr_t slot = 0;

        qr_spin_lock(&table->lock);
        if (table->slots[fd] & SLOT_CLOEXEC) {
            slot = slot_take(table, fd);
        }
        qr_spin_unlock(&table->lock);
        if (slot != 0) {
            file_close(table, slot_file(slot));
        }
    }
}

size_t
fd_table_count(struct fd_table *table)
{
    size_t count = 0;

    qr_spin_lock(&table->lock);
    for (uint32_t fd = 0; fd < table->capacity; fd++) {
        count += slot_file(table->slots[fd]) != NULL;
    }
    qr_spin_unlock(&table->lock);
    return count;
}

uint32_t
fd_table_capacity(struct fd_table *table)
{
    qr_spin_lock(&table->lock);
    uint32_t capacity = table->capacity;
    qr_spin_unlock(&table->lock);
    return capacity;
}

int
fd_table_next(struct fd_table *table, int from)
{
    int found = -1;

    qr_spin_lock(&table->lock);
    for (uint32_t fd = from < 0 ? 0 : (uint32_t)from; fd < table->capacity; fd++) {
        if (slot_file(table->slots[fd]) != NULL) {
            found = (int)fd;
            break;
        }
    }
    qr_spin_unlock(&table->lock);
    return found;
}

/* ---- looking up ---------------------------------------------------------------- */

struct file *
fd_table_get(struct fd_table *table, int fd)
{
    struct file *file = NULL;

    qr_spin_lock(&table->lock);
    if (fd >= 0 && (uint32_t)fd < table->capacity) {
        file = slot_file(table->slots[fd]);
        if (file != NULL) {
            file_ref(file);
        }
    }
    qr_spin_unlock(&table->lock);
    return file;
}

static inline struct file *
current_file(int fd)
{
    struct thread *thread = thread_current();
    struct fd_table *table = thread == NULL ? NULL : thread->files;

    if (table == NULL) {
        return NULL;
    }
    if (atomic_load_explicit(&table->refs, memory_order_acquire) != 1) {
        return fd_table_get(table, fd);
    }
    if (fd < 0 || (uint32_t)fd >= table->capacity) {
        return NULL;
    }
    struct file *file = slot_file(table->slots[fd]);
    if (file != NULL) {
        file_ref(file);
    }
    return file;
}

struct file *
file_get_any(int fd)
{
    return current_file(fd);
}

struct file *
file_get(int fd)
{
    struct file *file = current_file(fd);

    if (file != NULL && (file->mode & FILE_PATH_ONLY)) {
        file_put(file);
        return NULL;
    }
    return file;
}

/* ---- handing out ------------------------------------------------------------------- */

static uint32_t
descriptor_limit(void)
{
    uint64_t limit = process_limit(RLIMIT_NOFILE);
    uint64_t most = atomic_load(&file_nr_open);

    return (uint32_t)(limit < most ? limit : most);
}

/* The lowest free slot from @minimum on, marked as reserved. Lock held. */
static int
slot_reserve(struct fd_table *table, uint32_t minimum, uint32_t limit)
{
    for (;;) {
        bool from_hint = minimum <= table->lowest_free;
        uint32_t fd = from_hint ? table->lowest_free : minimum;

        while (fd < table->capacity && table->slots[fd] != 0) {
            fd++;
        }
        if (fd >= limit) {
            return -EMFILE;
        }
        if (fd < table->capacity) {
            table->slots[fd] = SLOT_RESERVED;
            if (from_hint) {
                table->lowest_free = fd + 1;
            }
            return (int)fd;
        }
        /* Each turn makes the table larger, up to the limit: this ends. */
        if (!table_grow(table, fd)) {
            return -ENOMEM;
        }
    }
}

int
fd_reserve(int minimum)
{
    struct fd_table *table = thread_current()->files;
    uint32_t limit = descriptor_limit();

    if (minimum < 0 || (uint32_t)minimum >= limit) {
        return minimum == 0 ? -EMFILE : -EINVAL;
    }
    qr_spin_lock(&table->lock);
    int fd = slot_reserve(table, (uint32_t)minimum, limit);
    qr_spin_unlock(&table->lock);
    return fd;
}

void
fd_fill(int fd, struct file *file, bool close_on_exec)
{
    struct fd_table *table = thread_current()->files;

    qr_spin_lock(&table->lock);
    qr_assert(table->slots[fd] == SLOT_RESERVED);
    table->slots[fd] = (uintptr_t)file | (close_on_exec ? SLOT_CLOEXEC : 0);
    qr_spin_unlock(&table->lock);
}

void
fd_unreserve(int fd)
{
    struct fd_table *table = thread_current()->files;

    qr_spin_lock(&table->lock);
    qr_assert(table->slots[fd] == SLOT_RESERVED);
    table->slots[fd] = 0;
    if ((uint32_t)fd < table->lowest_free) {
        table->lowest_free = (uint32_t)fd;
    }
    qr_spin_unlock(&table->lock);
}

int
fd_install(struct file *file, int minimum, bool close_on_exec)
{
    int fd = fd_reserve(minimum);

    if (fd >= 0) {
        file_ref(file);
        fd_fill(fd, file, close_on_exec);
    }
    return fd;
}

int
fd_close(int fd)
{
    struct fd_table *table = thread_current()->files;

    if (fd < 0) {
        return -EBADF;
    }
    qr_spin_lock(&table->lock);
    uintptr_t slot = slot_take(table, (uint32_t)fd);
    qr_spin_unlock(&table->lock);
    if (slot == 0) {
        return -EBADF;
    }
    file_close(table, slot_file(slot));
    return 0;
}

int
fd_replace(int fd, struct file *file, bool close_on_exec)
{
    struct fd_table *table = thread_current()->files;
    uintptr_t old = 0;
    int result = fd;

    if (fd < 0 || (uint32_t)fd >= descriptor_limit()) {
        return -EBADF;
    }
    qr_spin_lock(&table->lock);
    if (!table_grow(table, (uint32_t)fd)) {
        result = -ENOMEM;
    } else if (table->slots[fd] == SLOT_RESERVED) {
        result = -EBUSY;
    } else {
        old = table->slots[fd];
        file_ref(file);
        table->slots[fd] = (uintptr_t)file | (close_on_exec ? SLOT_CLOEXEC : 0);
    }
    qr_spin_unlock(&table->lock);
    if (old != 0) {
        file_close(table, slot_file(old));
    }
    return result;
}

int
fd_table_get_cloexec(struct fd_table *table, int fd)
{
    int result = -EBADF;

    qr_spin_lock(&table->lock);
    if (fd >= 0 && (uint32_t)fd < table->capacity && slot_file(table->slots[fd]) != NULL) {
        result = (table->slots[fd] & SLOT_CLOEXEC) != 0;
    }
    qr_spin_unlock(&table->lock);
    return result;
}

int
fd_get_cloexec(int fd)
{
    return fd_table_get_cloexec(thread_current()->files, fd);
}

int
fd_set_cloexec(int fd, bool close_on_exec)
{
    struct fd_table *table = thread_current()->files;
    int result = -EBADF;

    qr_spin_lock(&table->lock);
    if (fd >= 0 && (uint32_t)fd < table->capacity && slot_file(table->slots[fd]) != NULL) {
        uintptr_t slot = table->slots[fd] & ~SLOT_CLOEXEC;

        table->slots[fd] = slot | (close_on_exec ? SLOT_CLOEXEC : 0);
        result = 0;
    }
    qr_spin_unlock(&table->lock);
    return result;
}
