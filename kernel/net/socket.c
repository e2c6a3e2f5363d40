/* SPDX-License-Identifier: MIT */
/*
 * Sockets: life, queues of packets, and the file operations.
 *
 * A socket lives while its file, its peer, or a packet that it sent refers to it.  Two connected
 * sockets refer to each other until one is closed: closing drops that one's reference and leaves
 * the other's, so that the survivor still knows whom it talked to.
 *
 * A packet's memory is charged to its sender until it is read, so a sender that nobody listens to
 * waits (or is told EAGAIN) after socket_send_limit() bytes.  The queue's owner serializes readers
 * by `reading`; senders append under the spin lock only, and copy before they take it.
 */

#include "socket.h"

#include <quire/assert.h>

struct qr_mutex net_lock;

static atomic_uint socket_total;
static struct qr_spin all_lock = QR_SPIN_INIT(QR_RANK_NONE);
static struct qr_list all = QR_LIST_INIT(all); /* all_lock: every socket, by all_link */
static struct wait_queue datagram_room = WAIT_QUEUE_INIT(datagram_room);

/* ---- life ---------------------------------------------------------------------------- */

struct sender_id
sender_id_current(void)
{
    const struct process *process = process_current();

    if (process == NULL) {
        return (struct sender_id){0, 0, 0};
    }
    return (struct sender_id){process->id, process->credentials.euid, process->credentials.egid};
}

struct socket *
socket_create(const struct socket_kind *kind, uint16_t family)
{
    struct socket *socket = kmem_charged_zalloc(sizeof *socket);

    if (socket == NULL) {
        return NULL;
    }
    atomic_init(&socket->refs, 1);
    socket->kind = kind;
    socket->family = family;
    qr_list_init(&socket->packets);
    qr_list_init(&socket->pending);
    qr_list_init(&socket->waiting);
    qr_list_init(&socket->queue_link);
    qr_list_init(&socket->flight_link);
    wait_queue_init(&socket->readable);
    wait_queue_init(&socket->writable);
    if (kind->family == AF_UNIX) {
        qr_list_init(&socket->unix_name.link);
    } else {
        qr_list_init(&socket->inet.link);
    }
    socket->owner = sender_id_current();
    options_init(socket);
    atomic_fetch_add(&socket_total, 1);
    qr_spin_lock(&all_lock);
    qr_list_push_back(&all, &socket->all_link);
    qr_spin_unlock(&all_lock);
    return socket;
}

void
socket_ref(struct socket *socket)
{
    unsigned before = atomic_fetch_add_explicit(&socket->refs, 1, memory_order_relaxed);

    qr_assert(before > 0);
}

void
socket_put(struct socket *socket)
{
    if (atomic_fetch_sub(&socket->refs, 1) != 1) {
        return;
    }
    qr_assert(qr_list_is_empty(&socket->packets) && socket->peer == NULL);
    atomic_fetch_sub(&socket_total, 1);
    qr_spin_lock(&all_lock);
    qr_list_remove(&socket->all_link);
    qr_spin_unlock(&all_lock);
    kmem_charged_free(socket);
}

struct socket *
socket_next(struct socket *previous)
{
    struct socket *found = NULL;

    qr_spin_lock(&all_lock);
    struct qr_list *link = previous == NULL ? all.next : previous->all_link.next;
    for (; link != &all && found == NULL; link = link->next) {
        struct socket *socket = qr_list_entry(link, struct socket, all_link);
        unsigned refs = atomic_load(&socket->refs);

        /* One without references is on its way out. */
        while (refs != 0 && !atomic_compare_exchange_weak(&socket->refs, &refs, refs + 1)) {
        }
        found = refs != 0 ? socket : NULL;
    }
    qr_spin_unlock(&all_lock);
    if (previous != NULL) {
        socket_put(previous);
    }
    return found;
}

unsigned
socket_count(void)
{
    return atomic_load(&socket_total);
}

struct socket *
socket_peer(struct socket *socket)
{
    qr_spin_lock(&socket->lock);
    struct socket *peer = socket->peer;
    if (peer != NULL) {
        socket_ref(peer);
    }
    qr_spin_unlock(&socket->lock);
    return peer;
}

int64_t
socket_take_error(struct socket *socket)
{
    return -(int64_t)atomic_exchange(&socket->error, 0);
}

/* ---- waiting ----------------------------------------------------------------------------- */

int64_t
socket_wait_result(int64_t result, uint64_t deadline)
{
    if (result == -ETIMEDOUT) {
        return -EAGAIN;
    }
    /* A call with a time limit of its own is not started again. */
    return result == -ERESTARTSYS && deadline != WAIT_FOREVER ? -EINTR : result;
}

struct wait_queue *
socket_room_queue(struct socket *socket)
{
    /* Whoever sends datagrams waits for one of many receivers. */
    return socket->kind == &unix_datagram_kind ? &datagram_room : &socket->writable;
}

void
socket_wake(struct socket *socket)
{
    wait_wake_all(&socket->readable);
    wait_wake_all(socket_room_queue(socket));
}

uint32_t
socket_send_limit(struct socket *socket)
{
    uint32_t limit = (uint32_t)atomic_load(&socket->values[VALUE_SEND_BYTES]);

    /* What TCP has sent is on its way or in the receiver's buffer. */
    return socket->kind == &tcp_kind
               ? limit + (uint32_t)atomic_load(&socket->values[VALUE_RECEIVE_BYTES])
               : limit;
}

/* ---- packets --------------------------------------------------------------------------------- */

enum { PACKET_SMALL_BYTES = 16384 };

static void
packet_release(struct packet *packet)
{
    kmem_uncharge(&packet->paid);
    kvmem_free(packet);
}

int64_t
packet_create(struct socket *sender, struct io *io, uint32_t bytes, struct packet **out)
{
    size_t size = sizeof(struct packet) + bytes;
    bool local = sender->kind->family == AF_UNIX;
    struct qr_charge paid;

    if (!kmem_charge(local ? QR_GROUP_SLAB : QR_GROUP_SOCKETS, size, &paid)) {
        return -ENOBUFS;
    }
    struct packet *packet = size <= PACKET_SMALL_BYTES ? kmem_alloc(size) : kvmem_zalloc(size);
    if (packet == NULL) {
        kmem_uncharge(&paid);
        return -ENOBUFS;
    }
    packet->paid = paid;
    if (io_take(io, packet->data, bytes) < bytes) {
        packet_release(packet);
        return -EFAULT;
    }
    socket_ref(sender);
    packet->sender = sender;
    packet->charge = (uint32_t)size;
    packet->offset = 0;
    packet->bytes = bytes;
    packet->rights = NULL;
    atomic_fetch_add(&sender->charged, packet->charge);
    *out = packet;
    return 0;
}

void
packet_free(struct packet *packet)
{
    struct socket *sender = packet->sender;
    uint32_t before = atomic_fetch_sub(&sender->charged, packet->charge);

    /* Whoever waits for room looks again, once there is little enough. */
    if (before >= socket_send_limit(sender) / 4 || sender->kind == &unix_datagram_kind) {
        wait_wake_all(socket_room_queue(sender));
    }
    if (packet->rights != NULL) {
        rights_land(packet->rights);
        rights_free(packet->rights);
    }
    socket_put(sender);
    packet_release(packet);
}

bool
packet_deliver(struct socket *to, struct packet *packet)
{
    qr_spin_lock(&to->lock);
    bool closed = to->closed;
    if (!closed) {
        qr_list_push_back(&to->packets, &packet->link);
        atomic_fetch_add(&to->held, packet->charge);
        atomic_fetch_add(&to->unread, packet->bytes);
        atomic_fetch_add(&to->packet_count, 1);
    }
    qr_spin_unlock(&to->lock);
    if (!closed) {
        wait_wake_all(&to->readable);
    }
    return !closed;
}

struct packet *
packet_first(struct socket *socket)
{
    struct packet *packet = NULL;

    qr_spin_lock(&socket->lock);
    if (!qr_list_is_empty(&socket->packets)) {
        packet = qr_list_entry(socket->packets.next, struct packet, link);
    }
    qr_spin_unlock(&socket->lock);
    return packet;
}

void
packet_take(struct socket *socket, struct packet *packet)
{
    qr_spin_lock(&socket->lock);
    qr_list_remove(&packet->link);
    atomic_fetch_sub(&socket->held, packet->charge);
    atomic_fetch_sub(&socket->unread, packet->bytes - packet->offset);
    atomic_fetch_sub(&socket->packet_count, 1);
    qr_spin_unlock(&socket->lock);
}

int64_t
packet_tell(struct packet *packet, struct message *message)
{
    message->from = packet->from;
    message->has_from = true;
    if (packet->rights == NULL) {
        return 0;
    }
    if (message->flags & MSG_PEEK) {
        message->rights = rights_copy(packet->rights);
        return message->rights == NULL ? -ENOMEM : 0;
    }
    message->rights = packet->rights;
    packet->rights = NULL;
    rights_land(message->rights);
    return 0;
}

/* ---- the end --------------------------------------------------------------------------------------- */

static void
packets_free(struct qr_list *packets)
{
    struct qr_list *link;

    while ((link = qr_list_pop_front(packets)) != NULL) {
        packet_free(qr_list_entry(link, struct packet, link));
    }
}

/* Move a whole list to another head. */
static void
list_move(struct qr_list *from, struct qr_list *to)
{
    struct qr_list *link;

    while ((link = qr_list_pop_front(from)) != NULL) {
        qr_list_push_back(to, link);
    }
}

void
socket_peer_gone(struct socket *socket, bool reset)
{
    bool is_tcp = socket->kind == &tcp_kind;

    qr_spin_lock(&socket->lock);
    uint32_t before = atomic_load(&socket->shutdown);
    if (reset) {
        atomic_store(&socket->error, is_tcp && (before & SHUT_READ) ? EPIPE : ECONNRESET);
    }
    if (is_tcp && !reset) {
        atomic_store(&socket->shutdown, before | SHUT_READ);
    } else {
        atomic_store(&socket->shutdown, SHUT_BOTH);
    }
    if (is_tcp && reset) {
        atomic_store(&socket->state, SOCKET_ENDED);
    }
    qr_spin_unlock(&socket->lock);
    socket_wake(socket);
}

void
socket_end(struct socket *socket, bool reset)
{
    struct qr_list packets = QR_LIST_INIT(packets);

    qr_spin_lock(&socket->lock);
    struct socket *peer = socket->peer;
    socket->peer = NULL;
    socket->closed = true;
    atomic_store(&socket->state, SOCKET_ENDED);
    atomic_store(&socket->shutdown, SHUT_BOTH);
    reset = reset || !qr_list_is_empty(&socket->packets);
    list_move(&socket->packets, &packets);
    qr_spin_unlock(&socket->lock);
    if (peer != NULL && socket->kind->connects) {
        socket_peer_gone(peer, reset);
    }
    if (socket->kind == &unix_datagram_kind) {
        wait_wake_all(&datagram_room);
    }
    packets_free(&packets);
    if (peer != NULL) {
        socket_put(peer);
    }
}

/* ---- files -------------------------------------------------------------------------------------- */

static const struct file_ops socket_file_ops;

struct socket *
socket_of(const struct file *file)
{
    return file->ops == &socket_file_ops ? file->context : NULL;
}

int64_t
socket_file_create(uint32_t flags, struct file **out)
{
    static const struct inode_ops socket_inode_ops = {.open = NULL};
    char name[32];
    struct inode *inode = inode_create(anonymous_superblock, &socket_inode_ops, S_IFSOCK | 0777u);

    if (inode == NULL) {
        return -ENOMEM;
    }
    snprintf(name, sizeof name, "socket:[%lu]", (unsigned long)inode->number);
    struct dentry *dentry = dentry_create_anonymous(anonymous_superblock, name, inode);
    if (dentry == NULL) {
        inode_put(inode);
        return -ENOMEM;
    }
    int64_t error = file_create(dentry, O_RDWR | (flags & O_NONBLOCK), out);
    dentry_put(dentry);
    if (error == 0) {
        (*out)->mode |= FILE_STREAM;
    }
    return error;
}

void
socket_file_attach(struct file *file, struct socket *socket)
{
    file->context = socket;
    file->ops = &socket_file_ops;
    socket->file = file;
    atomic_store(&socket->inode_number, file->inode->number);
}

static void
socket_release(struct file *file)
{
    atomic_store(&((struct socket *)file->context)->inode_number, 0);
    connection_close(file->context);
}

static int64_t
socket_read(struct file *file, struct io *io, uint64_t *position)
{
    struct message message = {.io = *io};

    (void)position;
    if (io->left == 0) {
        return 0; /* recv() would wait */
    }
    int64_t result = socket_receive(file, &message);
    if (message.rights != NULL) {
        rights_free(message.rights); /* read() has nowhere to put them */
    }
    *io = message.io;
    return result;
}

static int64_t
socket_write(struct file *file, struct io *io, uint64_t *position)
{
    struct message message = {.io = *io};

    (void)position;
    int64_t result = socket_send(file, &message);
    *io = message.io;
    return result;
}

enum { FIONREAD = 0x541b, SIOCOUTQ = 0x5411 };

static int64_t
socket_ioctl(struct file *file, uint32_t command, uint64_t argument)
{
    struct socket *socket = file->context;

    switch (command) {
    case FIONREAD:
        if (atomic_load(&socket->state) == SOCKET_LISTENING) {
            return -EINVAL;
        }
        if (!socket->kind->connects) {
            uint32_t next = 0;

            qr_mutex_lock(&socket->reading);
            const struct packet *packet = packet_first(socket);
            next = packet == NULL ? 0 : packet->bytes;
            qr_mutex_unlock(&socket->reading);
            return user_write_u32(argument, next);
        }
        return user_write_u32(argument, atomic_load(&socket->unread));
    case SIOCOUTQ:
        return user_write_u32(argument, atomic_load(&socket->charged));
    default:
        return -ENOTTY;
    }
}

/* Whether poll() calls a sender ready: well below the limit, so that it can go on for a while. */
static bool
has_room(struct socket *socket)
{
    uint32_t charged = atomic_load(&socket->charged), limit = socket_send_limit(socket);

    return socket->kind == &tcp_kind ? charged <= limit / 3 * 2 : charged <= limit / 4;
}

static uint32_t
poll_write(struct socket *socket, uint32_t state, uint32_t shutdown)
{
    const uint32_t can_write = POLLOUT | POLLWRNORM;

    if (socket->kind == &tcp_kind) {
        if (state == SOCKET_CONNECTING) {
            return 0;
        }
        return (shutdown & SHUT_WRITE) || has_room(socket) ? can_write : 0;
    }
    if (socket_is_unix(socket)) {
        return has_room(socket) ? can_write | POLLWRBAND : 0;
    }
    return can_write | POLLWRBAND;
}

static uint32_t
socket_poll(struct file *file, struct poll_table *table)
{
    struct socket *socket = file->context;
    uint32_t events = 0;

    poll_register(table, &socket->readable);
    poll_register(table, socket_room_queue(socket));
    uint32_t state = atomic_load(&socket->state);
    if (state == SOCKET_LISTENING) {
        return atomic_load(&socket->pending_count) > 0 ? POLLIN | POLLRDNORM : 0;
    }
    uint32_t shutdown = atomic_load(&socket->shutdown);
    bool idle = socket->kind->connects && (state == SOCKET_NEW || state == SOCKET_ENDED);

    events |= atomic_load(&socket->error) != 0 ? POLLERR : 0;
    events |= shutdown == SHUT_BOTH || idle ? POLLHUP : 0;
    events |= shutdown & SHUT_READ ? POLLIN | POLLRDNORM | POLLRDHUP : 0;
    events |= atomic_load(&socket->packet_count) > 0 ? POLLIN | POLLRDNORM : 0;
    return events | poll_write(socket, state, shutdown);
}

static const struct file_ops socket_file_ops = {
    .name = "socket",
    .read = socket_read,
    .write = socket_write,
    .ioctl = socket_ioctl,
    .poll = socket_poll,
    .release = socket_release,
};
