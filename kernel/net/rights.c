/* SPDX-License-Identifier: MIT */
/*
 * Descriptors in messages (SCM_RIGHTS): files that packets refer to.
 *
 * A socket may be sent through itself, or two through each other; then nothing but packets in
 * their own queues refers to them, and no close() will ever come.  Such garbage is found as in
 * Linux: a socket is a candidate if all references to its file are in flight.  From the candidates'
 * count the references by packets that wait at candidates are subtracted; who has some left is
 * reachable from outside, and so is all that waits there, and there, and so on.  The queues of the rest are
 * emptied, which closes them.  The search runs when a descriptor of a socket is closed.
 *
 *      fd --> s1 [ s2 ]          s2: in flight 1, of which 1 at s1; s1 is no candidate:  reachable
 *             s3 [ s4 ]          s3, s4: in flight 1, each at the other:  garbage
 *             s4 [ s3 ]
 *
 * Every move of a reference between a descriptor and a packet is made under the rights' lock, so
 * the counts that the collector compares belong together: what is in flight but in no queue counts
 * as held from outside.
 *
 * Closing a file that a packet held may close a socket whose packets hold files: rights_free() puts
 * these on a list instead of going deeper, so the stack does not grow with the chain.
 *
 * Bound: an unprivileged user's files in flight are no more than RLIMIT_NOFILE (ETOOMANYREFS).
 *
 * Lock: G, sleeping, for all counts and lists here; the spin locks of queues are taken inside.
 */

#include "socket.h"

#include <quire/assert.h>

enum { CAP_SYS_ADMIN = 21, CAP_SYS_RESOURCE = 24 };

struct rights {
    struct qr_list link;  /* G: in `flying`; later in a drain's list */
    uint32_t user;        /* who sent them */
    uint32_t count, room; /* constant once sent */
    struct file *files[];
};

static struct qr_mutex rights_lock;
static struct qr_list flying = QR_LIST_INIT(flying);   /* G: all rights in packets */
static struct qr_list sockets = QR_LIST_INIT(sockets); /* G: Unix sockets in flight */
static atomic_uint sockets_in_flight;                  /* G to write: of that list */

/* ---- life ------------------------------------------------------------------------------- */

struct rights *
rights_create(uint32_t count)
{
    struct rights *rights = kmem_charged_alloc(sizeof *rights + count * sizeof rights->files[0]);

    if (rights != NULL) {
        qr_list_init(&rights->link);
        rights->count = 0;
        rights->room = count;
    }
    return rights;
}

void
rights_add(struct rights *rights, struct file *file)
{
    qr_assert(rights->count < rights->room);
    rights->files[rights->count++] = file;
}

uint32_t
rights_count(const struct rights *rights)
{
    return rights->count;
}

struct file *
rights_file(const struct rights *rights, uint32_t index)
{
    return rights->files[index];
}

/* Threads that close files of rights right now, and what came up meanwhile. */
struct drain {
    struct qr_list link;
    struct thread *thread;
    struct qr_list todo;
};

static struct qr_spin drains_lock;
static struct qr_list drains = QR_LIST_INIT(drains); /* drains_lock; todo is its thread's own */

static struct drain *
drain_of_current(void)
{
    struct drain *found = NULL;

    qr_spin_lock(&drains_lock);
    qr_list_for_each(link, &drains)
    {
        struct drain *drain = qr_list_entry(link, struct drain, link);

        if (drain->thread == thread_current()) {
            found = drain;
            break;
        }
    }
    qr_spin_unlock(&drains_lock);
    return found;
}

static void
drain_run(struct drain *drain)
{
    struct qr_list *link;

    while ((link = qr_list_pop_front(&drain->todo)) != NULL) {
        struct rights *rights = qr_list_entry(link, struct rights, link);

        for (uint32_t i = 0; i < rights->count; i++) {
            file_put(rights->files[i]);
        }
        kmem_charged_free(rights);
        sched_relax();
    }
}

void
rights_free(struct rights *rights)
{
    struct drain *outer = drain_of_current();
    struct drain own = {.thread = thread_current()};

    if (outer != NULL) {
        qr_list_push_back(&outer->todo, &rights->link);
        return;
    }
    qr_list_init(&own.todo);
    qr_list_push_back(&own.todo, &rights->link);
    qr_spin_lock(&drains_lock);
    qr_list_push_back(&drains, &own.link);
    qr_spin_unlock(&drains_lock);
    drain_run(&own);
    qr_spin_lock(&drains_lock);
    qr_list_remove(&own.link);
    qr_spin_unlock(&drains_lock);
}

/* ---- flight -------------------------------------------------------------------------------- */

/* The Unix socket behind a file, or NULL. */
static struct socket *
unix_socket_of(const struct file *file)
{
    struct socket *socket = socket_of(file);

    return socket != NULL && socket_is_unix(socket) ? socket : NULL;
}

/* Files of @user in packets now. G held. */
static uint64_t
user_flying(uint32_t user)
{
    uint64_t count = 0;

    qr_list_for_each(link, &flying)
    {
        const struct rights *rights = qr_list_entry(link, struct rights, link);

        count += rights->user == user ? rights->count : 0;
    }
    return count;
}

static void
flight_begin(struct socket *socket)
{
    if (socket->in_flight++ == 0) {
        qr_list_push_back(&sockets, &socket->flight_link);
        atomic_fetch_add(&sockets_in_flight, 1);
    }
}

static void
flight_end(struct socket *socket)
{
    qr_assert(socket->in_flight > 0);
    if (--socket->in_flight == 0) {
        qr_list_remove(&socket->flight_link);
        qr_list_init(&socket->flight_link);
        atomic_fetch_sub(&sockets_in_flight, 1);
    }
}

int64_t
rights_launch(struct rights *rights)
{
    bool bounded =
        !process_has_capability(CAP_SYS_RESOURCE) && !process_has_capability(CAP_SYS_ADMIN);

    rights->user = process_current()->credentials.uid;
    qr_mutex_lock(&rights_lock);
    if (bounded && user_flying(rights->user) > process_limit(RLIMIT_NOFILE)) {
        qr_mutex_unlock(&rights_lock);
        return -ETOOMANYREFS;
    }
    qr_list_push_back(&flying, &rights->link);
    for (uint32_t i = 0; i < rights->count; i++) {
        struct socket *socket = unix_socket_of(rights->files[i]);

        if (socket != NULL) {
            flight_begin(socket);
        }
    }
    qr_mutex_unlock(&rights_lock);
    return 0;
}

void
rights_land(struct rights *rights)
{
    qr_mutex_lock(&rights_lock);
    qr_list_remove(&rights->link);
    qr_list_init(&rights->link);
    for (uint32_t i = 0; i < rights->count; i++) {
        struct socket *socket = unix_socket_of(rights->files[i]);

        if (socket != NULL) {
            flight_end(socket);
        }
    }
    qr_mutex_unlock(&rights_lock);
}

struct rights *
rights_copy(const struct rights *rights)
{
    struct rights *copy = rights_create(rights->count);

    if (copy == NULL) {
        return NULL;
    }
    qr_mutex_lock(&rights_lock);
    for (uint32_t i = 0; i < rights->count; i++) {
        file_ref(rights->files[i]);
        rights_add(copy, rights->files[i]);
    }
    qr_mutex_unlock(&rights_lock);
    return copy;
}

/* ---- garbage ----------------------------------------------------------------------------------- */

/* `inner` of a socket that is no candidate. */
#define NOT_CANDIDATE UINT32_MAX

typedef void (*child_fn)(struct socket *child, struct qr_list *reached);

/* For every candidate in the packets of one queue. G held. */
static void
visit_queue(struct socket *socket, child_fn visit, struct qr_list *reached)
{
    qr_spin_lock(&socket->lock);
    qr_list_for_each(link, &socket->packets)
    {
        const struct packet *packet = qr_list_entry(link, struct packet, link);

        for (uint32_t i = 0; packet->rights != NULL && i < packet->rights->count; i++) {
            struct socket *child = unix_socket_of(packet->rights->files[i]);

            if (child != NULL && child->inner != NOT_CANDIDATE) {
                visit(child, reached);
            }
        }
    }
    qr_spin_unlock(&socket->lock);
}

/* For every candidate that waits at @socket, or at a connection that waits at @socket. G held. */
static void
visit_children(struct socket *socket, child_fn visit, struct qr_list *reached)
{
    if (atomic_load(&socket->state) != SOCKET_LISTENING) {
        visit_queue(socket, visit, reached);
        return;
    }
    qr_list_for_each(link, &socket->pending)
    {
        visit_queue(qr_list_entry(link, struct socket, queue_link), visit, reached);
    }
}

static void
child_count(struct socket *child, struct qr_list *reached)
{
    (void)reached;
    child->inner--;
}

/* It is reachable: from now on no candidate, and its own children are next. */
static void
child_reach(struct socket *child, struct qr_list *reached)
{
    child->inner = NOT_CANDIDATE;
    qr_list_remove(&child->flight_link);
    qr_list_push_back(reached, &child->flight_link);
}

/* Leave in `sockets` the garbage; all others go to @reached. G and N held. */
static void
garbage_find(struct qr_list *reached)
{
    qr_list_for_each(link, &sockets)
    {
        struct socket *socket = qr_list_entry(link, struct socket, flight_link);

        socket->inner = atomic_load(&socket->file->refs) == socket->in_flight ? socket->in_flight
                                                                              : NOT_CANDIDATE;
    }
    qr_list_for_each(link, &sockets)
    {
        struct socket *socket = qr_list_entry(link, struct socket, flight_link);

        if (socket->inner != NOT_CANDIDATE) {
            visit_children(socket, child_count, reached);
        }
    }
    qr_list_for_each_safe(link, &sockets)
    {
        struct socket *socket = qr_list_entry(link, struct socket, flight_link);

        /* A candidate that a packet elsewhere refers to. */
        if (socket->inner != 0) {
            child_reach(socket, reached);
        }
    }
    /* The list grows at its end while it is walked: nobody's stack does. */
    qr_list_for_each(link, reached)
    {
        if (qr_list_is_empty(&sockets)) {
            break; /* no candidate is left */
        }
        visit_children(qr_list_entry(link, struct socket, flight_link), child_reach, reached);
    }
}

/* Take all packets with rights out of one queue. */
static void
queue_strip(struct socket *socket, struct qr_list *packets)
{
    qr_spin_lock(&socket->lock);
    qr_list_for_each_safe(link, &socket->packets)
    {
        struct packet *packet = qr_list_entry(link, struct packet, link);

        if (packet->rights != NULL) {
            qr_list_remove(link);
            qr_list_push_back(packets, link);
            atomic_fetch_sub(&socket->held, packet->charge);
            atomic_fetch_sub(&socket->unread, packet->bytes - packet->offset);
            atomic_fetch_sub(&socket->packet_count, 1);
        }
    }
    qr_spin_unlock(&socket->lock);
}

static void
garbage_strip(struct qr_list *packets)
{
    qr_list_for_each(link, &sockets)
    {
        struct socket *socket = qr_list_entry(link, struct socket, flight_link);

        queue_strip(socket, packets);
        if (atomic_load(&socket->state) == SOCKET_LISTENING) {
            qr_list_for_each(pending, &socket->pending)
            {
                queue_strip(qr_list_entry(pending, struct socket, queue_link), packets);
            }
        }
    }
}

void
socket_collect(void)
{
    struct qr_list reached = QR_LIST_INIT(reached), packets = QR_LIST_INIT(packets);
    struct qr_list *link;

    if (atomic_load(&sockets_in_flight) == 0) {
        return;
    }
    qr_mutex_lock(&net_lock); /* listeners' queues */
    qr_mutex_lock(&rights_lock);
    garbage_find(&reached);
    garbage_strip(&packets);
    while ((link = qr_list_pop_front(&reached)) != NULL) {
        qr_list_push_back(&sockets, link);
    }
    qr_mutex_unlock(&rights_lock);
    qr_mutex_unlock(&net_lock);
    while ((link = qr_list_pop_front(&packets)) != NULL) {
        packet_free(qr_list_entry(link, struct packet, link));
    }
}
