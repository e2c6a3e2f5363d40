/* SPDX-License-Identifier: MIT */
/*
 * Bytes through sockets.
 *
 * A stream's bytes travel in packets of up to STREAM_PACKET_BYTES and are read across their
 * borders; but as on Linux a read ends behind a packet that brought descriptors, and, where
 * the reader asked for credentials, before one of another sender.  A datagram's packet is read once
 * and whole: what does not fit is lost.
 *
 * A reader holds `reading` while it copies, and lets go of it to wait.  Senders copy first and
 * take the receiver's spin lock after, so a fault leaves nothing half sent.
 */

#include "socket.h"

enum { STREAM_PACKET_BYTES = 16384 - sizeof(struct packet), UNIX_DATAGRAM_QUEUE = 10 };
enum { UDP_BYTES_MAX = 65507, UNIX_DATAGRAM_OVERHEAD = 32 };

/* ---- streams: sending --------------------------------------------------------------------------- */

static bool
stream_has_room(struct socket *socket)
{
    return atomic_load(&socket->charged) < socket_send_limit(socket);
}

static bool
stream_is_broken(struct socket *socket)
{
    return atomic_load(&socket->error) != 0 || (atomic_load(&socket->shutdown) & SHUT_WRITE);
}

/* Why nothing can be sent. */
static int64_t
broken_error(struct socket *socket)
{
    int64_t error = socket->kind == &tcp_kind || !(atomic_load(&socket->shutdown) & SHUT_WRITE)
                        ? socket_take_error(socket)
                        : 0;

    return error != 0 ? error : -EPIPE;
}

/* TCP that connects in the background: wait for the outcome. */
static int64_t
connecting_wait(struct socket *socket, const struct message *message)
{
    int64_t result;

    if (!message->may_block) {
        return -EAGAIN;
    }
    SOCKET_WAIT(result, &socket->writable, atomic_load(&socket->state) != SOCKET_CONNECTING,
                message->deadline);
    return result;
}

/* Hand one packet over. @return 0, or why the stream ends */
static int64_t
stream_deliver(struct socket *socket, struct socket *peer, struct packet *packet)
{
    if (packet_deliver(peer, packet)) {
        return 0;
    }
    packet_free(packet);
    if (socket->kind != &tcp_kind) {
        return -EPIPE;
    }
    /* Nobody is there: TCP learns that from the answer to what it sent. */
    socket_peer_gone(socket, true);
    return 0;
}

/* The next stretch of what is to be sent. @return 0 or -errno */
static int64_t
stream_send_packet(struct socket *socket, struct socket *peer, struct message *message)
{
    size_t left = message->io.left;
    uint32_t limit = socket_send_limit(socket) / 2;
    struct packet *packet;

    limit = limit < STREAM_PACKET_BYTES ? limit : STREAM_PACKET_BYTES;
    int64_t error =
        packet_create(socket, &message->io, left < limit ? (uint32_t)left : limit, &packet);
    if (error != 0) {
        return error;
    }
    packet->from = message->from;
    if (message->rights != NULL) {
        error = rights_launch(message->rights);
        if (error != 0) {
            packet_free(packet);
            return error;
        }
        packet->rights = message->rights;
        message->rights = NULL;
    }
    return stream_deliver(socket, peer, packet);
}

static int64_t
stream_wait_room(struct socket *socket, const struct message *message)
{
    int64_t result;

    if (!message->may_block) {
        return -EAGAIN;
    }
    SOCKET_WAIT(result, &socket->writable, stream_has_room(socket) || stream_is_broken(socket),
                message->deadline);
    return result;
}

static int64_t
stream_send_to(struct socket *socket, struct socket *peer, struct message *message)
{
    size_t all = message->io.left, sent = 0;
    int64_t error = 0;

    while (sent < all) {
        if (stream_is_broken(socket)) {
            error = broken_error(socket);
        } else if (stream_has_room(socket)) {
            error = stream_send_packet(socket, peer, message);
            sent = error == 0 ? all - message->io.left : sent;
        } else {
            error = stream_wait_room(socket, message);
        }
        if (error != 0) {
            return sent > 0 ? (int64_t)sent : error;
        }
    }
    return (int64_t)sent;
}

int64_t
stream_send(struct socket *socket, struct message *message)
{
    bool is_tcp = socket->kind == &tcp_kind;

    if (message->name.bytes > 0 && !is_tcp) {
        return atomic_load(&socket->state) == SOCKET_CONNECTED ? -EISCONN : -EOPNOTSUPP;
    }
    if (atomic_load(&socket->state) == SOCKET_CONNECTING) {
        int64_t error = connecting_wait(socket, message);

        if (error != 0) {
            return error;
        }
    }
    struct socket *peer = socket_peer(socket);
    if (peer == NULL) {
        return is_tcp ? broken_error(socket) : -ENOTCONN;
    }
    if (message->io.left == 0 && stream_is_broken(socket)) {
        socket_put(peer);
        return broken_error(socket);
    }
    int64_t result = stream_send_to(socket, peer, message);
    socket_put(peer);
    return result;
}

/* ---- streams: receiving ---------------------------------------------------------------------------- */

/* Under one lock, or the last bytes of a peer that goes would be missed. */
static struct packet *
stream_next(struct socket *socket, const struct packet *after, bool *out_ended)
{
    struct packet *packet = NULL;

    qr_spin_lock(&socket->lock);
    const struct qr_list *link = after == NULL ? &socket->packets : &after->link;
    if (link->next != &socket->packets) {
        packet = qr_list_entry(link->next, struct packet, link);
    }
    *out_ended = (atomic_load(&socket->shutdown) & SHUT_READ) != 0;
    qr_spin_unlock(&socket->lock);
    return packet;
}

/* Nothing is there: what the call answers, or 0 to wait and look again. R held; dropped to wait. */
static int64_t
stream_starve(struct socket *socket, struct message *message, bool ended, bool *out_done)
{
    uint32_t state = atomic_load(&socket->state);
    int64_t error = socket_take_error(socket);

    *out_done = true;
    if (error != 0 || ended) {
        return error;
    }
    if (state != SOCKET_CONNECTED && state != SOCKET_CONNECTING) {
        return socket->kind == &unix_stream_kind ? -EINVAL : state == SOCKET_ENDED ? 0 : -ENOTCONN;
    }
    if (!message->may_block) {
        return -EAGAIN;
    }
    *out_done = false;
    qr_mutex_unlock(&socket->reading);
    SOCKET_WAIT(error, &socket->readable,
                atomic_load(&socket->packet_count) > 0 || atomic_load(&socket->error) != 0 ||
                    (atomic_load(&socket->shutdown) & SHUT_READ),
                message->deadline);
    qr_mutex_lock(&socket->reading);
    *out_done = error != 0;
    return error;
}

static bool
same_sender(const struct sender_id *a, const struct sender_id *b)
{
    return a->pid == b->pid && a->uid == b->uid && a->gid == b->gid;
}

/* The bytes of @packet from its offset on have been copied, @n of them. R held. */
static void
stream_consume(struct socket *socket, struct packet *packet, uint32_t n)
{
    if (packet->offset + n == packet->bytes) {
        packet_take(socket, packet);
        packet_free(packet);
        return;
    }
    qr_spin_lock(&socket->lock);
    packet->offset += n;
    atomic_fetch_sub(&socket->unread, n);
    qr_spin_unlock(&socket->lock);
}

/* Copy what of @packet is wanted. R held. @return bytes or -EFAULT */
static int64_t
stream_copy(struct packet *packet, struct message *message, bool discard)
{
    uint32_t left = packet->bytes - packet->offset;
    uint32_t want = left < message->io.left ? left : (uint32_t)message->io.left;

    if (discard) {
        io_skip(&message->io, want);
    } else if (io_put(&message->io, packet->data + packet->offset, want) < want) {
        return -EFAULT;
    }
    return want;
}

/* R held. */
static int64_t
stream_receive_locked(struct socket *socket, struct message *message)
{
    bool peek = (message->flags & MSG_PEEK) != 0, done = false, ended;
    bool ids = atomic_load(&socket->values[VALUE_PASS_CREDENTIALS]) != 0;
    bool discard = (message->flags & MSG_TRUNC) && socket->kind == &tcp_kind;
    size_t target = 1, all = message->io.left, total = 0;
    struct packet *last = NULL; /* the last one that was peeked at */
    int64_t error = 0;

    if (message->flags & MSG_WAITALL) {
        target = all;
    } else if (atomic_load(&socket->values[VALUE_LOW_WATER]) > 1) {
        target = (size_t)atomic_load(&socket->values[VALUE_LOW_WATER]);
        target = target < all ? target : all;
    }
    while (!done && (message->io.left > 0 || all == 0)) {
        struct packet *packet = stream_next(socket, last, &ended);

        if (packet == NULL) {
            bool enough = total >= target || peek || ended || atomic_load(&socket->error) != 0;

            if (total > 0 && enough) {
                break;
            }
            error = stream_starve(socket, message, ended, &done);
            continue;
        }
        bool other = total > 0 && ids && !same_sender(&packet->from, &message->from);
        if (other || all == 0) {
            break;
        }
        int64_t copied = stream_copy(packet, message, discard);
        if (copied < 0) {
            error = copied;
            break;
        }
        total += (size_t)copied;
        done = packet->rights != NULL;
        error = packet_tell(packet, message);
        if (peek) {
            last = packet;
        } else {
            stream_consume(socket, packet, (uint32_t)copied);
        }
    }
    return total > 0 ? (int64_t)total : error;
}

int64_t
stream_receive(struct socket *socket, struct message *message)
{
    if (atomic_load(&socket->state) == SOCKET_LISTENING) {
        return socket_is_unix(socket) ? -EINVAL : -ENOTCONN;
    }
    qr_mutex_lock(&socket->reading);
    int64_t result = stream_receive_locked(socket, message);
    qr_mutex_unlock(&socket->reading);
    return result;
}

/* ---- datagrams: sending ------------------------------------------------------------------------------ */

/* Whom to send to, with a reference. */
static int64_t
datagram_target(struct socket *socket, struct message *message, struct socket **out,
                struct endpoint *out_source)
{
    int64_t error = 0;

    if (socket->kind == &unix_packet_kind) {
        if (message->name.bytes > 0) {
            return atomic_load(&socket->state) == SOCKET_CONNECTED ? -EISCONN : -EOPNOTSUPP;
        }
        *out = socket_peer(socket);
        return *out == NULL ? -ENOTCONN : 0;
    }
    if (message->name.bytes == 0 && socket->kind == &unix_datagram_kind) {
        *out = socket_peer(socket);
        return *out == NULL ? -ENOTCONN : 0;
    }
    qr_mutex_lock(&net_lock);
    if (message->name.bytes == 0) {
        /* UDP: to whoever is there now. */
        if (socket->inet.remote.port == 0) {
            error = -EDESTADDRREQ;
        } else {
            endpoint_tell(socket, &socket->inet.remote, &message->name);
        }
    }
    if (error == 0) {
        error = socket->kind->bind_any(socket);
    }
    if (error == 0) {
        error = socket->kind->find(socket, &message->name, out);
    }
    if (error == 0 && socket->kind == &udp_kind) {
        inet_source(socket, &message->name, out_source);
    }
    qr_mutex_unlock(&net_lock);
    return error;
}

static bool
receiver_has_room(struct socket *to)
{
    return to->kind != &unix_datagram_kind ||
           atomic_load(&to->packet_count) <= UNIX_DATAGRAM_QUEUE ||
           (atomic_load(&to->shutdown) & SHUT_READ);
}

static bool
datagram_has_room(struct socket *socket, struct socket *to)
{
    /* UDP never waits for a receiver, or one that does not read would stop the sender for all. */
    if (to->kind == &udp_kind) {
        return true;
    }
    return atomic_load(&socket->charged) < socket_send_limit(socket) && receiver_has_room(to);
}

static bool
datagram_is_broken(struct socket *socket, struct socket *to)
{
    return stream_is_broken(socket) || (atomic_load(&to->shutdown) & SHUT_READ);
}

/* Whether @to takes something from @socket. @return 0 or -errno */
static int64_t
datagram_check(struct socket *socket, struct socket *to)
{
    if (atomic_load(&socket->shutdown) & SHUT_WRITE) {
        return -EPIPE;
    }
    int64_t error = socket_take_error(socket);
    if (error != 0 || to->kind == &udp_kind) {
        return error;
    }
    qr_spin_lock(&to->lock);
    if (to->closed) {
        error = socket->kind == &unix_datagram_kind ? -ECONNREFUSED : -EPIPE;
    } else if (atomic_load(&to->shutdown) & SHUT_READ) {
        error = -EPIPE;
    } else if (to->peer != NULL && to->peer != socket) {
        error = -EPERM; /* it talks to somebody else only */
    }
    qr_spin_unlock(&to->lock);
    return error;
}

static int64_t
datagram_wait(struct socket *socket, struct socket *to, const struct message *message)
{
    int64_t result;

    if (!message->may_block) {
        return -EAGAIN;
    }
    SOCKET_WAIT(result, socket_room_queue(socket),
                datagram_has_room(socket, to) || datagram_is_broken(socket, to), message->deadline);
    return result;
}

static int64_t
datagram_deliver(struct socket *socket, struct socket *to, struct packet *packet)
{
    /* A UDP receiver that does not keep up loses what comes. */
    bool overrun =
        to->kind == &udp_kind && atomic_load(&to->held) + packet->charge >
                                     (uint32_t)atomic_load(&to->values[VALUE_RECEIVE_BYTES]);

    if (!overrun && packet_deliver(to, packet)) {
        return 0;
    }
    packet_free(packet);
    return to->kind == &udp_kind ? 0 : socket->kind == &unix_datagram_kind ? -ECONNREFUSED : -EPIPE;
}

static int64_t
datagram_send_to(struct socket *socket, struct socket *to, struct message *message,
                 const struct endpoint *source)
{
    uint32_t bytes = (uint32_t)message->io.left;
    struct packet *packet;
    int64_t error;

    do {
        error = datagram_check(socket, to);
        if (error == 0 && !datagram_has_room(socket, to)) {
            error = datagram_wait(socket, to, message);
            error = error == 0 ? datagram_check(socket, to) : error;
        }
    } while (error == 0 && !datagram_has_room(socket, to));
    if (error == 0) {
        error = packet_create(socket, &message->io, bytes, &packet);
    }
    if (error != 0) {
        return error;
    }
    packet->from = message->from;
    packet->source = *source;
    if (message->rights != NULL) {
        error = rights_launch(message->rights);
        if (error == 0) {
            packet->rights = message->rights;
            message->rights = NULL;
        }
    }
    if (error != 0) {
        packet_free(packet);
        return error;
    }
    error = datagram_deliver(socket, to, packet);
    return error != 0 ? error : (int64_t)bytes;
}

static size_t
datagram_limit(struct socket *socket)
{
    size_t limit = (size_t)atomic_load(&socket->values[VALUE_SEND_BYTES]);

    return socket->kind == &udp_kind ? UDP_BYTES_MAX : limit - UNIX_DATAGRAM_OVERHEAD;
}

/* The peer that was connected to is closed: there is none from now on. */
static void
peer_forget(struct socket *socket, struct socket *peer)
{
    qr_spin_lock(&socket->lock);
    bool still = socket->peer == peer;
    if (still) {
        socket->peer = NULL;
    }
    qr_spin_unlock(&socket->lock);
    if (still) {
        socket_put(peer);
    }
}

/* Nobody has the port: that comes back as a message, which only a connected socket gets. */
static int64_t
udp_refused(struct socket *socket, const struct message *message, bool connected)
{
    if (connected) {
        atomic_store(&socket->error, ECONNREFUSED);
        socket_wake(socket);
    }
    return (int64_t)message->io.left;
}

int64_t
datagram_send(struct socket *socket, struct message *message)
{
    struct endpoint source = {.port = 0};
    struct socket *to = NULL;

    if (message->io.left > datagram_limit(socket)) {
        return -EMSGSIZE;
    }
    bool connected = message->name.bytes == 0;
    int64_t error = socket_take_error(socket);
    if (error != 0) {
        return error;
    }
    error = datagram_target(socket, message, &to, &source);
    if (error == -ECONNREFUSED && socket->kind == &udp_kind) {
        return udp_refused(socket, message, connected);
    }
    if (error != 0) {
        return error;
    }
    error = datagram_send_to(socket, to, message, &source);
    if (error == -ECONNREFUSED && connected && socket->kind == &unix_datagram_kind) {
        peer_forget(socket, to);
    }
    socket_put(to);
    return error;
}

/* ---- datagrams: receiving ------------------------------------------------------------------------------ */

/* Wait for a packet. R held, dropped to wait. @return 0 with one or, at the end, none; -errno */
static int64_t
datagram_next(struct socket *socket, const struct message *message, struct packet **out)
{
    bool ended;

    for (;;) {
        *out = stream_next(socket, NULL, &ended);
        if (*out != NULL) {
            return 0;
        }
        int64_t error = socket_take_error(socket);
        if (error != 0 || ended) {
            return error;
        }
        if (socket->kind == &unix_packet_kind && atomic_load(&socket->state) != SOCKET_CONNECTED) {
            return -ENOTCONN;
        }
        if (!message->may_block) {
            return -EAGAIN;
        }
        qr_mutex_unlock(&socket->reading);
        SOCKET_WAIT(error, &socket->readable,
                    atomic_load(&socket->packet_count) > 0 || atomic_load(&socket->error) != 0 ||
                        (atomic_load(&socket->shutdown) & SHUT_READ),
                    message->deadline);
        qr_mutex_lock(&socket->reading);
        if (error != 0) {
            return error;
        }
    }
}

static void
source_tell(struct socket *socket, struct packet *packet, struct message *message)
{
    if (!socket_is_unix(socket)) {
        endpoint_tell(socket, &packet->source, &message->name);
    } else if (!socket->kind->connects) {
        qr_mutex_lock(&net_lock);
        packet->sender->kind->own_name(packet->sender, &message->name);
        qr_mutex_unlock(&net_lock);
        if (message->name.bytes <= FAMILY_BYTES) {
            message->name.bytes = 0; /* nobody can answer */
        }
    }
}

int64_t
datagram_receive(struct socket *socket, struct message *message)
{
    bool peek = (message->flags & MSG_PEEK) != 0;
    struct packet *packet;

    if (atomic_load(&socket->state) == SOCKET_LISTENING) {
        return -ENOTCONN;
    }
    qr_mutex_lock(&socket->reading);
    int64_t error = datagram_next(socket, message, &packet);
    if (error != 0 || packet == NULL) {
        qr_mutex_unlock(&socket->reading);
        return error;
    }
    uint32_t bytes = packet->bytes;
    size_t want = bytes < message->io.left ? bytes : message->io.left;
    if (io_put(&message->io, packet->data, want) < want) {
        error = -EFAULT;
    } else {
        message->out_flags |= want < bytes ? MSG_TRUNC : 0;
        error = packet_tell(packet, message);
    }
    if (!peek) {
        packet_take(socket, packet);
    }
    if (error == 0) {
        source_tell(socket, packet, message);
    }
    qr_mutex_unlock(&socket->reading);
    if (!peek) {
        packet_free(packet);
    }
    return error != 0 ? error : message->flags & MSG_TRUNC ? (int64_t)bytes : (int64_t)want;
}

/* ---- both ------------------------------------------------------------------------------------------------ */

static void
patience_set(struct message *message, const struct file *file, uint64_t timeout)
{
    message->may_block =
        !(atomic_load(&file->flags) & O_NONBLOCK) && !(message->flags & MSG_DONTWAIT);
    message->deadline = timeout == 0 ? WAIT_FOREVER : deadline_after(timeout);
}

int64_t
socket_send(struct file *file, struct message *message)
{
    struct socket *socket = file->context;

    if (message->flags & MSG_OOB) {
        return -EOPNOTSUPP;
    }
    if (!message->has_from) {
        const struct process *self = process_current();

        message->from = (struct sender_id){self->id, self->credentials.uid, self->credentials.gid};
    }
    patience_set(message, file, atomic_load(&socket->send_timeout));
    int64_t result =
        socket->kind->is_stream ? stream_send(socket, message) : datagram_send(socket, message);
    if (result == -EPIPE && socket->kind->is_stream && !(message->flags & MSG_NOSIGNAL)) {
        signal_raise(SIGPIPE);
    }
    return result;
}

int64_t
socket_receive(struct file *file, struct message *message)
{
    struct socket *socket = file->context;

    if (message->flags & MSG_OOB) {
        return socket_is_unix(socket) ? -EOPNOTSUPP : -EINVAL;
    }
    if (message->flags & MSG_ERRQUEUE) {
        return -EAGAIN;
    }
    patience_set(message, file, atomic_load(&socket->receive_timeout));
    return socket->kind->is_stream ? stream_receive(socket, message)
                                   : datagram_receive(socket, message);
}
