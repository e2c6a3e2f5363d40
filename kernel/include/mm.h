/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_MM_H
#define KERNEL_MM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/group.h>
#include <quire/lock.h>

/*
 * The memory of processes: a thin layer between the system calls and the
 * library's address spaces, and the wrappers through which the whole kernel
 * reaches user memory and the heap.
 */

struct file;
struct process;
struct qr_mempolicy;
struct qr_space;
struct thread;

/** Words of the saved auxiliary vector (/proc/PID/auxv). */
enum { MM_AUXV_WORDS = 48 };

/** One user address space. Shared by the threads of a process and by vfork and CLONE_VM children. */
struct mm {
    atomic_uint users;      /* processes, and whoever looks at it from outside */
    atomic_uint holders;    /* of the structure: all users together, and mm_hold() */
    struct qr_space *space; /* constant */
    struct file *exe;       /* constant after exec; one reference; NULL for none */
    uint64_t code_start, code_end, data_start, data_end; /* constant after exec */
    uint64_t stack_start;                                /* constant after exec */
    uint64_t sigreturn; /* constant after exec; arch_sigreturn_code()'s copy, or 0 */
    uint64_t arg_start, arg_end, env_start, env_end; /* lock */
    uintptr_t auxv[MM_AUXV_WORDS];                   /* constant after exec */
    struct qr_spin lock;
    atomic_uint barriers; /* membarrier() commands that its threads may give */
    bool dumpable;
    atomic_uint core_filter; /* what core files hold of it: enum core_filter */
    uint32_t keys;           /* lock: the protection keys that are allocated */
};

/** Once, at the start. */
void mm_init(void);

/** The limits or capabilities of @process have changed: what binds its calls on memory from now on. */
void mm_apply_limits(struct process *process);

/**
 * The status of @p call on @p space, which changes nothing where it has no memory: where that was so because
 * the group of @p space may have no more, or because of a table, room is made (qr_space_make_room()), and @p call
 * evaluated again.  Nothing locked.
 */
#define MM_RETRY(space, call)                                                          \
    ({                                                                                 \
        enum qr_status retry_status;                                                   \
        unsigned retry_count = 0;                                                      \
                                                                                       \
        do {                                                                           \
            retry_status = (call);                                                     \
        } while ((retry_status == QR_ERR_NO_MEMORY || retry_status == QR_ERR_LIMIT) && \
                 qr_space_make_room(space, retry_count++));                            \
        retry_status;                                                                  \
    })

/** An empty address space with one user; NULL without memory. */
struct mm *mm_create(void);

/** A copy for fork(). Runs in the parent. @return 0 or -ENOMEM */
int64_t mm_fork(struct mm *from, struct mm **out);

void mm_ref(struct mm *mm);
/** The last user tears the space down; may sleep. */
void mm_put(struct mm *mm);

/** Keep the structure, not the memory: for who outlives the process. */
void mm_hold(struct mm *mm);
void mm_release(struct mm *mm);
/** A user of what is held. @return false where the last user is gone, and the memory with it */
bool mm_try_ref(struct mm *mm);

/** The memory of @process with a reference, or NULL (kernel thread, zombie). */
struct mm *mm_of_process(struct process *process);

/**
 * Read or write another space's memory through its own page tables, faulting pages in:
 * /proc/PID/mem, cmdline, environ, process_vm_readv. @return bytes moved (0 when none could be)
 */
enum mm_access_kind {
    MM_READ,       /**< only where the mapping may be read */
    MM_WRITE,      /**< only where it may be written */
    MM_FORCE_READ, /**< as a debugger reads: whatever is mapped */
    MM_FORCE_WRITE /**< as a debugger writes: read-only private memory gets a copy */
};
size_t mm_access(struct mm *mm, uint64_t address, void *buffer, size_t n, enum mm_access_kind kind);

/**
 * What names the memory at @address in every space that shares it: its object and offset, or
 * @mm and @address for private memory. @return 0 or -EFAULT (nothing mapped there)
 */
int64_t mm_shared_place(struct mm *mm, uint64_t address, const void **out_owner,
                        uint64_t *out_place);

/** The memory policy of @thread with a reference; NULL: the default. */
struct qr_mempolicy *mm_thread_policy_get(struct thread *thread);
/** Pages that @node gets in its turn of weighted interleaving, for policies made from now on. */
unsigned mm_node_weight(unsigned node);
void mm_set_node_weight(unsigned node, unsigned weight);

/** The protection key of the mapping at @address; 0 for none. */
unsigned mm_key_at(struct mm *mm, uint64_t address);

/** Does the current thread's register of rights forbid @access (QR_ACCESS_*) to what has that key? */
bool mm_key_denies(struct mm *mm, uint64_t address, unsigned access);

/** Address spaces that exist: for the leak check. */
unsigned mm_count(void);

/** Whether new address spaces are laid out at random. */
bool mm_is_random(void);

/** User addresses are below this. */
uint64_t mm_user_limit(void);

/* ---- user copies: the current thread's space ------------------------------------ */

/** All or nothing for the caller. @return 0 or -EFAULT (part may have been copied) */
int64_t user_read(void *to, uint64_t user_from, size_t n);
int64_t user_write(uint64_t user_to, const void *from, size_t n);

/** Partial: @return bytes copied, short where memory faults; at least one if one could be. */
size_t user_read_partial(void *to, uint64_t user_from, size_t n);
size_t user_write_partial(uint64_t user_to, const void *from, size_t n);
size_t user_clear_partial(uint64_t user_to, size_t n);

/** @return length without terminator; -EFAULT; -ENAMETOOLONG when @size bytes held no terminator */
int64_t user_read_string(char *to, uint64_t user_from, size_t size);

/** Never sleep: -EFAULT where a page is not there now. With spin locks held. */
int64_t user_read_nofault(void *to, uint64_t user_from, size_t n);
int64_t user_read_u32_nofault(uint32_t *to, uint64_t user_from);

/** Scalars: 0 or -EFAULT. */
int64_t user_read_u32(uint32_t *to, uint64_t user_from);
int64_t user_read_u64(uint64_t *to, uint64_t user_from);
int64_t user_write_u32(uint64_t user_to, uint32_t value);
int64_t user_write_u64(uint64_t user_to, uint64_t value);
/** A pointer or long of the program: as wide as the kernel's. */
int64_t user_read_word(uint64_t *to, uint64_t user_from);
int64_t user_write_word(uint64_t user_to, uint64_t value);

/**
 * Supplied by kernel/arch where pointers have 32 bits: the kernel memory behind an
 * address that no pointer of a program can hold, which a call got whose structures
 * were converted.  NULL: there is none.
 */
void *arch_exchange(uint64_t address, size_t n);

/* ---- heap ----------------------------------------------------------------------- */

/** NULL without memory, or when @bytes is 0. Any context (nothing here sleeps). */
void *kmem_alloc(size_t bytes);
void *kmem_zalloc(size_t bytes);
void *kmem_calloc(size_t count, size_t bytes);
void kmem_free(void *block);

/**
 * The same for what a program can pile up, of any size: charged to the group of the running thread's memory
 * until it is freed, by whomever, with kmem_charged_free() alone.  Where that group may have no more, room is made
 * in it first, so this may sleep where interrupts are on; where they are off, nobody is charged.
 */
void *kmem_charged_alloc(size_t bytes);
void *kmem_charged_zalloc(size_t bytes);
void *kmem_charged_calloc(size_t count, size_t bytes);
/** Context: thread for blocks above 16 KiB, else any; NULL is allowed. */
void kmem_charged_free(void *block);

/** Charge that group for memory from elsewhere: @p bytes, until kmem_uncharge(). @return false: it refused */
bool kmem_charge(enum qr_group_kind kind, size_t bytes, struct qr_charge *out_charge);
void kmem_uncharge(struct qr_charge *charge);
/** A frame in the direct map with undefined contents, charged until it is free; NULL as above. */
struct qr_frame *kmem_charged_frame(void);

/** Cleared, of any size, page-aligned above 16 KiB; NULL as above.  Context: thread, may sleep. */
void *kvmem_zalloc(size_t bytes);
/** Free what kvmem_zalloc() or kmem_*() gave.  Context: thread, may sleep; NULL is allowed. */
void kvmem_free(void *block);

#endif
