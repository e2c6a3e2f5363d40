/* SPDX-License-Identifier: MIT */
/*
 * Memory policies: where pages come from (mbind, set_mempolicy, ...) and moving those that are
 * there (migrate_pages, move_pages).
 *
 * A thread's policy hangs off the thread, which alone uses it; others look at it under the
 * tree lock (numa_maps).  Until the first thread has one, faults do not ask.
 *
 * Every node with memory is allowed to everybody: there are no cpusets.
 */
#include "calls.h"

#include <quire/policy.h>
#include <quire/reclaim.h>

enum {
    MPOL_DEFAULT,
    MPOL_PREFERRED,
    MPOL_BIND,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_PREFERRED_MANY,
    MPOL_WEIGHTED_INTERLEAVE,
    MPOL_COUNT
};

#define MPOL_F_STATIC_NODES   0x8000u
#define MPOL_F_RELATIVE_NODES 0x4000u
#define MPOL_F_NUMA_BALANCING 0x2000u
#define MPOL_MODE_FLAGS       (MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING)

#define MPOL_F_NODE         1u
#define MPOL_F_ADDR         2u
#define MPOL_F_MEMS_ALLOWED 4u

#define MPOL_MF_STRICT   1u
#define MPOL_MF_MOVE     2u
#define MPOL_MF_MOVE_ALL 4u

static const uint8_t library_mode[MPOL_COUNT] = {
    [MPOL_DEFAULT] = QR_POLICY_DEFAULT,
    [MPOL_PREFERRED] = QR_POLICY_PREFERRED,
    [MPOL_BIND] = QR_POLICY_BIND,
    [MPOL_INTERLEAVE] = QR_POLICY_INTERLEAVE,
    [MPOL_LOCAL] = QR_POLICY_LOCAL,
    [MPOL_PREFERRED_MANY] = QR_POLICY_PREFERRED_MANY,
    [MPOL_WEIGHTED_INTERLEAVE] = QR_POLICY_WEIGHTED,
};

/* Pages a node gets in its turn of weighted interleaving; /sys/kernel/mm/mempolicy. */
static atomic_uchar node_weight[CONFIG_MAX_NODES];

/* ---- sets of nodes ----------------------------------------------------------------- */

static bool
set_is_empty(const struct qr_node_set *set)
{
    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (qr_node_set_has(set, node))
            return false;
    }
    return true;
}

static struct qr_node_set
nodes_allowed(void)
{
    struct qr_node_set set = {{0}};

    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (qr_frames_node_exists(memory.frames, node))
            qr_node_set_add(&set, node);
    }
    return set;
}

/* One more than the highest node. */
static unsigned
node_ids(void)
{
    unsigned ids = 1;

    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++)
        ids = qr_frames_node_exists(memory.frames, node) ? node + 1 : ids;
    return ids;
}

static struct qr_node_set
sets_common(const struct qr_node_set *a, const struct qr_node_set *b)
{
    struct qr_node_set set = {{0}};

    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (qr_node_set_has(a, node) && qr_node_set_has(b, node))
            qr_node_set_add(&set, node);
    }
    return set;
}

/* @named counts the nodes of @allowed, and starts again at their end. */
static struct qr_node_set
set_relative(const struct qr_node_set *named, const struct qr_node_set *allowed)
{
    struct qr_node_set set = {{0}};
    unsigned nodes[CONFIG_MAX_NODES], count = 0;

    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (qr_node_set_has(allowed, node))
            nodes[count++] = node;
    }
    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (qr_node_set_has(named, node))
            qr_node_set_add(&set, nodes[node % count]);
    }
    return set;
}

/*
 * The user's set at @address, of @bits_plus_one - 1 bits in words of its own width: an empty one
 * where there is none.  Nodes that cannot exist may not be named.
 */
static int64_t
nodes_from_user(uint64_t address, uint64_t bits_plus_one, struct qr_node_set *out)
{
    const unsigned width = sizeof(uintptr_t) * 8;
    uint64_t bits = (uintptr_t)(bits_plus_one - 1);

    *out = (struct qr_node_set){{0}};
    if (bits == 0 || address == 0)
        return 0;
    if (bits > (uint64_t)QR_PAGE_SIZE * 8)
        return -EINVAL;
    for (uint64_t first = 0; first < bits; first += width) {
        uint64_t word;

        if (user_read_word(&word, address + first / 8) != 0)
            return -EFAULT;
        if (bits - first < width)
            word &= ((uint64_t)1 << (bits - first)) - 1;
        for (unsigned bit = 0; word >> bit != 0; bit++) {
            if (!(word >> bit & 1))
                continue;
            if (first + bit >= CONFIG_MAX_NODES)
                return -EINVAL;
            qr_node_set_add(out, (unsigned)first + bit);
            if (bit == 63)
                break;
        }
    }
    return 0;
}

/* The whole words that the user's bits fill; what is beyond every node is cleared. */
static int64_t
nodes_to_user(uint64_t address, uint64_t bits_plus_one, const struct qr_node_set *set)
{
    const unsigned width = sizeof(uintptr_t) * 8;
    uint64_t words = (bits_plus_one - 1 + width - 1) / width;

    if (words * sizeof(uintptr_t) > QR_PAGE_SIZE &&
        words > ((uint64_t)node_ids() + width - 1) / width)
        return -EINVAL;
    for (uint64_t i = 0; i < words; i++) {
        uint64_t word = 0;

        for (unsigned bit = 0; bit < width && i * width + bit < CONFIG_MAX_NODES; bit++)
            word |= (uint64_t)qr_node_set_has(set, (unsigned)i * width + bit) << bit;
        if (user_write_word(address + i * sizeof(uintptr_t), word) != 0)
            return -EFAULT;
    }
    return 0;
}

/* ---- policies from the user ---------------------------------------------------------- */

struct policy_words {
    uint32_t mode, flags;
    struct qr_node_set named;
};

static int64_t
policy_read(uint64_t mode, uint64_t nodes, uint64_t bits_plus_one, struct policy_words *out)
{
    out->flags = (uint32_t)mode & MPOL_MODE_FLAGS;
    out->mode = (uint32_t)mode & ~MPOL_MODE_FLAGS;
    if (out->mode >= MPOL_COUNT)
        return -EINVAL;
    if ((out->flags & MPOL_F_STATIC_NODES) && (out->flags & MPOL_F_RELATIVE_NODES))
        return -EINVAL;
    if ((out->flags & MPOL_F_NUMA_BALANCING) && out->mode != MPOL_BIND &&
        out->mode != MPOL_PREFERRED_MANY)
        return -EINVAL;
    return nodes_from_user(nodes, bits_plus_one, &out->named);
}

/* Does the mode go with the nodes?  PREFERRED of none is LOCAL. */
static int64_t
policy_check(struct policy_words *words)
{
    bool empty = set_is_empty(&words->named);
    bool named = words->flags & (MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES);

    switch (words->mode) {
    case MPOL_DEFAULT:
        return empty ? 0 : -EINVAL;
    case MPOL_LOCAL:
        return empty && !named ? 0 : -EINVAL;
    case MPOL_PREFERRED:
        if (empty && named)
            return -EINVAL;
        if (empty)
            words->mode = MPOL_LOCAL;
        return 0;
    default:
        return empty ? -EINVAL : 0;
    }
}

static struct qr_node_set
set_first(const struct qr_node_set *set)
{
    struct qr_node_set first = {{0}};

    for (unsigned node = 0; node < CONFIG_MAX_NODES && set_is_empty(&first); node++) {
        if (qr_node_set_has(set, node))
            qr_node_set_add(&first, node);
    }
    return first;
}

/* *@out NULL: the default. */
static int64_t
policy_make(struct policy_words *words, struct qr_mempolicy **out)
{
    enum qr_node_naming naming = words->flags & MPOL_F_STATIC_NODES     ? QR_NODES_STATIC
                                 : words->flags & MPOL_F_RELATIVE_NODES ? QR_NODES_RELATIVE
                                                                        : QR_NODES_ALLOWED;
    struct qr_node_set allowed = nodes_allowed(), nodes;
    uint8_t weights[CONFIG_MAX_NODES];
    struct qr_policy policy;
    int64_t error = policy_check(words);

    *out = NULL;
    if (error != 0 || words->mode == MPOL_DEFAULT)
        return error;
    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++)
        weights[node] = atomic_load(&node_weight[node]);
    nodes = naming == QR_NODES_RELATIVE ? set_relative(&words->named, &allowed)
                                        : sets_common(&words->named, &allowed);
    if (words->mode == MPOL_PREFERRED)
        nodes = set_first(&nodes);
    if (qr_policy_init(&policy, memory.frames, (enum qr_policy_mode)library_mode[words->mode],
                       &nodes, weights) != QR_OK)
        return -EINVAL;
    *out = qr_mempolicy_create(memory.heap, &policy, naming, &words->named);
    if (*out == NULL)
        return -ENOMEM;
    (*out)->balance = words->flags & MPOL_F_NUMA_BALANCING;
    return 0;
}

/* As get_mempolicy tells it. */
static uint32_t
policy_word(const struct qr_mempolicy *policy)
{
    uint32_t mode = MPOL_DEFAULT;

    if (policy == NULL)
        return MPOL_DEFAULT;
    while (library_mode[mode] != policy->policy.mode)
        mode++;
    return mode | (policy->naming == QR_NODES_STATIC ? MPOL_F_STATIC_NODES : 0) |
           (policy->naming == QR_NODES_RELATIVE ? MPOL_F_RELATIVE_NODES : 0) |
           (policy->balance ? MPOL_F_NUMA_BALANCING : 0);
}

static struct qr_node_set
policy_nodes(const struct qr_mempolicy *policy)
{
    if (policy == NULL)
        return (struct qr_node_set){{0}};
    return policy->naming == QR_NODES_ALLOWED ? policy->policy.nodes : policy->named;
}

/* ---- the thread's -------------------------------------------------------------------- */

static struct qr_mempolicy *
thread_policy(void)
{
    return thread_current()->memory_policy;
}

struct qr_mempolicy *
mm_thread_policy_get(struct thread *thread)
{
    struct qr_mempolicy *policy;

    process_tree_lock();
    policy = thread->memory_policy;
    qr_mempolicy_get(policy);
    process_tree_unlock();
    return policy;
}

int64_t
sys_set_mempolicy(const struct syscall_args *args)
{
    struct thread *thread = thread_current();
    struct qr_mempolicy *policy, *old;
    struct policy_words words;
    int64_t error = policy_read(args->arg[0], args->arg[1], args->arg[2], &words);

    if (error == 0)
        error = policy_make(&words, &policy);
    if (error != 0)
        return error;
    if (policy != NULL)
        qr_objects_set_thread_policy(memory.objects, thread_policy);
    process_tree_lock();
    old = thread->memory_policy;
    thread->memory_policy = policy;
    process_tree_unlock();
    qr_mempolicy_put(old);
    return 0;
}

/* MPOL_F_NODE: where the page at @address is; or, of the thread's interleaving, whose turn is. */
static int64_t
policy_node(uint64_t address, uint32_t flags, struct qr_mempolicy *policy, uint32_t *out)
{
    struct qr_frame *frame;
    unsigned here;

    if (flags & MPOL_F_ADDR) {
        if (qr_space_get_frame(current_space(), qr_va_of(address & ~(uint64_t)QR_PAGE_MASK),
                               QR_ACCESS_READ, false, &frame) != QR_OK)
            return -EFAULT;
        *out = qr_frames_zone_node(memory.frames, frame->zone);
        qr_frame_put(memory.frames, frame);
        return 0;
    }
    if (policy == NULL ||
        (policy->policy.mode != QR_POLICY_INTERLEAVE && policy->policy.mode != QR_POLICY_WEIGHTED))
        return -EINVAL;
    here = atomic_load_explicit(&policy->policy.next, memory_order_relaxed);
    *out = qr_policy_node(memory.frames, &policy->policy, 0, here);
    return 0;
}

/* What the flags ask about; *@out_policy is with a reference, or NULL. */
static int64_t
policy_ask(uint64_t address, uint32_t flags, uint32_t *out_word, struct qr_node_set *out_nodes)
{
    struct qr_mempolicy *policy = NULL;
    int64_t error = 0;

    if (flags & ~(MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED))
        return -EINVAL;
    if (flags & MPOL_F_MEMS_ALLOWED) {
        if (flags & (MPOL_F_NODE | MPOL_F_ADDR))
            return -EINVAL;
        *out_word = 0;
        *out_nodes = nodes_allowed();
        return 0;
    }
    if (flags & MPOL_F_ADDR) {
        if (qr_space_get_policy(current_space(), qr_va_of(address), &policy) != QR_OK)
            return -EFAULT;
    } else if (address != 0) {
        return -EINVAL;
    } else {
        policy = mm_thread_policy_get(thread_current());
    }
    *out_word = policy_word(policy);
    *out_nodes = policy_nodes(policy);
    if (flags & MPOL_F_NODE)
        error = policy_node(address, flags, policy, out_word);
    qr_mempolicy_put(policy);
    return error;
}

int64_t
sys_get_mempolicy(const struct syscall_args *args)
{
    uint64_t word_at = args->arg[0], nodes_at = args->arg[1], bits_plus_one = args->arg[2];
    struct qr_node_set nodes;
    uint32_t word;
    int64_t error;

    if (nodes_at != 0 && bits_plus_one < node_ids())
        return -EINVAL;
    error = policy_ask(args->arg[3], (uint32_t)args->arg[4], &word, &nodes);
    if (error != 0)
        return error;
    if (word_at != 0 && user_write_u32(word_at, word) != 0)
        return -EFAULT;
    return nodes_at == 0 ? 0 : nodes_to_user(nodes_at, bits_plus_one, &nodes);
}

/* ---- ranges -------------------------------------------------------------------------------- */

/* The checks on a range of such a call.  *@out_done: it is empty. */
static int64_t
range_check(uint64_t start, uint64_t *length, bool *out_done)
{
    *out_done = false;
    if (start & QR_PAGE_MASK)
        return -EINVAL;
    (void)round_length(length);
    if (range_wraps(start, *length))
        return -EINVAL;
    *out_done = *length == 0;
    return 0;
}

/* Pages of the range that are on other nodes follow the policy. @return how many could not */
static size_t
range_move(uint64_t start, uint64_t length, struct qr_mempolicy *policy,
           const struct policy_words *words, bool shared)
{
    struct qr_move_request request = {
        .start = qr_va_of(start),
        .bytes = length,
        .to = policy == NULL ? NULL : &policy->policy,
        .shared = shared,
    };
    struct qr_move_result result;

    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (!qr_node_set_has(&words->named, node))
            qr_node_set_add(&request.from, node);
    }
    qr_space_move_pages(current_space(), &request, &result);
    return result.failed;
}

static int64_t
policy_status(enum qr_status status)
{
    return status == QR_ERR_RANGE ? -EFAULT : error_of(status);
}

int64_t
sys_mbind(const struct syscall_args *args)
{
    uint64_t start = args->arg[0], length = args->arg[1];
    uint32_t flags = (uint32_t)args->arg[5];
    bool move = flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL), done;
    struct qr_mempolicy *policy;
    struct policy_words words;
    unsigned wanted;
    int64_t error = policy_read(args->arg[2], args->arg[3], args->arg[4], &words);

    if (error != 0)
        return error;
    if (flags & ~(MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL))
        return -EINVAL;
    if ((flags & MPOL_MF_MOVE_ALL) && !process_has_capability(CAP_SYS_NICE))
        return -EPERM;
    error = range_check(start, &length, &done);
    if (error != 0 || done)
        return error;
    error = policy_make(&words, &policy);
    if (error != 0)
        return error;
    if (words.mode == MPOL_DEFAULT)
        flags &= ~MPOL_MF_STRICT;
    wanted = (policy == NULL ? (unsigned)QR_POLICY_HOLES : 0) |
             ((flags & MPOL_MF_STRICT) && !move ? (unsigned)QR_POLICY_STRICT : 0);
    error = policy_status(qr_space_set_policy(current_space(), qr_va_of(start), length, policy,
                                              &words.named, wanted));
    if (error == 0 && move &&
        range_move(start, length, policy, &words, flags & MPOL_MF_MOVE_ALL) != 0 &&
        (flags & MPOL_MF_STRICT))
        error = -EIO;
    qr_mempolicy_put(policy);
    return error;
}

int64_t
sys_set_mempolicy_home_node(const struct syscall_args *args)
{
    uint64_t start = args->arg[0], length = args->arg[1], node = args->arg[2];
    enum qr_status status;
    bool done;
    int64_t error;

    if (start & QR_PAGE_MASK || args->arg[3] != 0)
        return -EINVAL;
    if (node >= CONFIG_MAX_NODES || !qr_frames_node_exists(memory.frames, (unsigned)node))
        return -EINVAL;
    error = range_check(start, &length, &done);
    if (error != 0 || done)
        return error;
    status = qr_space_set_home_node(current_space(), qr_va_of(start), length, (unsigned)node);
    if (status == QR_ERR_NOT_FOUND)
        return -ENOENT;
    return status == QR_ERR_UNSUPPORTED ? -EOPNOTSUPP : policy_status(status);
}

/* ---- other processes' pages ------------------------------------------------------------------ */

/* The memory of process or thread @id (0: the current one), with a reference. */
static int64_t
memory_of(int32_t id, struct mm **out)
{
    struct thread *thread;
    int64_t error;

    *out = NULL;
    if (id == 0) {
        *out = process_current()->mm;
        mm_ref(*out);
        return 0;
    }
    thread = thread_find(id);
    if (thread == NULL || thread->process == NULL) {
        if (thread != NULL)
            thread_put(thread);
        return -ESRCH;
    }
    *out = mm_of_process(thread->process);
    error = *out == NULL ? -EINVAL : 0;
    if (!process_may_inspect(thread->process, *out, false))
        error = -EPERM;
    if (error != 0 && *out != NULL)
        mm_put(*out);
    thread_put(thread);
    return error;
}

/* Pages on node @from go to node @to.  @return how many could not */
static size_t
space_move(struct qr_space *space, unsigned from, unsigned to)
{
    struct qr_move_request request = {.bytes = space->layout.user_end.v};
    struct qr_move_result result;
    struct qr_node_set nodes = {{0}};
    struct qr_policy policy;

    qr_node_set_add(&nodes, to);
    qr_node_set_add(&request.from, from);
    if (qr_policy_init(&policy, memory.frames, QR_POLICY_BIND, &nodes, NULL) != QR_OK)
        return 0;
    request.to = &policy;
    request.shared = process_has_capability(CAP_SYS_NICE);
    qr_space_move_pages(space, &request, &result);
    return result.failed;
}

/* The n-th node of @old goes to the n-th of @new, which starts again at its end. */
static size_t
space_move_all(struct qr_space *space, const struct qr_node_set *old, const struct qr_node_set *new)
{
    unsigned targets[CONFIG_MAX_NODES], count = 0, rank = 0;
    size_t failed = 0;

    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (qr_node_set_has(new, node))
            targets[count++] = node;
    }
    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        unsigned to = targets[rank % count];

        if (!qr_node_set_has(old, node))
            continue;
        rank++;
        /* A node of both sets whose pages would go to another of both stays out of it. */
        if (to != node && !(qr_node_set_has(old, to) && qr_node_set_has(new, node)))
            failed += space_move(space, node, to);
    }
    return failed;
}

int64_t
sys_migrate_pages(const struct syscall_args *args)
{
    struct qr_node_set old, new, allowed = nodes_allowed(), reachable;
    struct mm *mm;
    int64_t result = nodes_from_user(args->arg[2], args->arg[1], &old);

    if (result == 0)
        result = nodes_from_user(args->arg[3], args->arg[1], &new);
    if (result == 0)
        result = memory_of((int32_t)args->arg[0], &mm);
    if (result != 0)
        return result;
    reachable = sets_common(&new, &allowed);
    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (qr_node_set_has(&new, node) && !qr_node_set_has(&allowed, node) &&
            !process_has_capability(CAP_SYS_NICE))
            result = -EPERM;
    }
    if (result == 0)
        result = set_is_empty(&reachable) ? -EINVAL
                                          : (int64_t)space_move_all(mm->space, &old, &reachable);
    mm_put(mm);
    return result;
}

/* A page that somebody faults in or looks at just now can be moved a moment later. */
enum { MOVE_TRIES = 10 };

/* One page to @node.  @return its status: a node or an error */
static int32_t
page_move(struct qr_space *space, uint64_t address, uint32_t node, bool all)
{
    struct qr_move_request request = {
        .start = qr_va_of(address & ~(uint64_t)QR_PAGE_MASK),
        .bytes = QR_PAGE_SIZE,
        .shared = all,
    };
    struct qr_node_set nodes = {{0}};
    struct qr_move_result result;
    struct qr_policy policy;
    unsigned now;
    enum qr_status status;

    if (node >= CONFIG_MAX_NODES || !qr_frames_node_exists(memory.frames, node))
        return -ENODEV;
    status = qr_space_page_node(space, qr_va_of(address), &now);
    if (status != QR_OK)
        return status == QR_ERR_NOT_FOUND ? -ENOENT : -EFAULT;
    if (now == node)
        return (int32_t)node;
    qr_node_set_add(&nodes, node);
    qr_node_set_add(&request.from, now);
    if (qr_policy_init(&policy, memory.frames, QR_POLICY_BIND, &nodes, NULL) != QR_OK)
        return -ENODEV;
    request.to = &policy;
    for (unsigned i = 0; i < MOVE_TRIES; i++) {
        qr_space_move_pages(space, &request, &result);
        if (result.failed == 0 || result.no_memory != 0)
            break;
        sched_yield();
    }
    if (result.moved != 0)
        return (int32_t)node;
    if (result.shared != 0)
        return -EACCES;
    return result.no_memory != 0 ? -ENOMEM : result.failed != 0 ? -EBUSY : -ENOENT;
}

/* The status of page @i, moved first where @nodes is not 0. */
static int64_t
page_status(struct qr_space *space, uint64_t i, uint64_t pages, uint64_t nodes, bool all,
            int32_t *out)
{
    uint64_t address;
    uint32_t node;
    unsigned now;

    if (user_read_word(&address, pages + i * sizeof(uintptr_t)) != 0)
        return -EFAULT;
    if (nodes != 0) {
        if (user_read_u32(&node, nodes + i * 4) != 0)
            return -EFAULT;
        *out = page_move(space, address, node, all);
        return *out == -ENODEV ? -ENODEV : 0;
    }
    switch (qr_space_page_node(space, qr_va_of(address), &now)) {
    case QR_OK:
        *out = (int32_t)now;
        break;
    case QR_ERR_NOT_FOUND:
        *out = -ENOENT;
        break;
    default:
        *out = -EFAULT;
        break;
    }
    return 0;
}

int64_t
sys_move_pages(const struct syscall_args *args)
{
    uint64_t count = args->arg[1], pages = args->arg[2], nodes = args->arg[3];
    uint64_t statuses = args->arg[4];
    uint32_t flags = (uint32_t)args->arg[5];
    struct mm *mm;
    int64_t left = 0, result;

    if (flags & ~(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL))
        return -EINVAL;
    if ((flags & MPOL_MF_MOVE_ALL) && !process_has_capability(CAP_SYS_NICE))
        return -EPERM;
    result = memory_of((int32_t)args->arg[0], &mm);
    if (result != 0)
        return result;
    for (uint64_t i = 0; result == 0 && i < count; i++) {
        int32_t status = 0;

        result = page_status(mm->space, i, pages, nodes, flags & MPOL_MF_MOVE_ALL, &status);
        if (result == 0 && user_write_u32(statuses + i * 4, (uint32_t)status) != 0)
            result = -EFAULT;
        left += nodes != 0 && (status == -EBUSY || status == -ENOMEM);
        if (i % 512 == 511)
            sched_relax();
        if (signal_is_fatal_pending() && result == 0 && i + 1 < count)
            result = -EINTR;
    }
    mm_put(mm);
    return result != 0 ? result : left;
}

/* ---- weights ------------------------------------------------------------------------------------- */

unsigned
mm_node_weight(unsigned node)
{
    unsigned weight = atomic_load(&node_weight[node]);

    return weight == 0 ? 1 : weight;
}

void
mm_set_node_weight(unsigned node, unsigned weight)
{
    atomic_store(&node_weight[node], (unsigned char)weight);
}
