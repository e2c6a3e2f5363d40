/* SPDX-License-Identifier: MIT */
/*
 * Connections: listen, connect, accept, shutdown and close.
 *
 *      connect()                      listener                       accept()
 *      client -- makes the server's socket, pairs the two -->  pending: server, server, ...
 *
 * Both ends are connected, and the client may send, as soon as connect() has found room in the
 * listener's queue; accept() only takes the server's socket out.  Without room a Unix socket waits for
 * it; a TCP socket, which may not want to wait, stands in the listener's `waiting` with its server's
 * socket made already (the embryo), and the accept() that makes room completes it.
 *
 * All of it happens under net_lock, so a listener that closes finds every socket that
 * counts on it in one of its two lists.  What a close sets free is freed after the lock is gone.
 */

#include "socket.h"

#include <quire/assert.h>

enum { BACKLOG_MAX = 4096 }; /* net.core.somaxconn */

static bool
has_pending_room(const struct socket *listener)
{
    return atomic_load(&listener->pending_count) <= listener->backlog;
}

/* A Unix listener that was shut down stays one, but takes nothing. */
static bool
is_listening(struct socket *socket)
{
    return atomic_load(&socket->state) == SOCKET_LISTENING &&
           !(atomic_load(&socket->shutdown) & SHUT_READ);
}

static void
state_set(struct socket *socket, enum socket_state state)
{
    qr_spin_lock(&socket->lock);
    atomic_store(&socket->state, state);
    qr_spin_unlock(&socket->lock);
}

/* ---- listening ---------------------------------------------------------------------------- */

static int64_t
listen_locked(struct socket *socket, uint32_t backlog)
{
    uint32_t state = atomic_load(&socket->state);

    if (state != SOCKET_NEW && state != SOCKET_LISTENING) {
        return -EINVAL;
    }
    socket->backlog = backlog;
    if (state == SOCKET_LISTENING) {
        return 0;
    }
    state_set(socket, SOCKET_LISTENING);
    int64_t error = socket->kind->bind_any(socket);
    if (error != 0) {
        state_set(socket, SOCKET_NEW);
        return error;
    }
    socket->owner = sender_id_current();
    return 0;
}

int64_t
connection_listen(struct socket *socket, int32_t backlog)
{
    if (!socket->kind->connects) {
        return -EOPNOTSUPP;
    }
    uint32_t bounded = (uint32_t)backlog < BACKLOG_MAX ? (uint32_t)backlog : BACKLOG_MAX;
    qr_mutex_lock(&net_lock);
    int64_t error = listen_locked(socket, bounded);
    qr_mutex_unlock(&net_lock);
    if (error == 0) {
        socket_wake(socket);
    }
    return error;
}

/* ---- connecting ----------------------------------------------------------------------------- */

/* Both ends know each other from now on. N held. */
static void
pair_up(struct socket *client, struct socket *server, struct socket *listener)
{
    socket_ref(client);
    socket_ref(server);
    qr_spin_lock(&server->lock);
    server->peer = client;
    atomic_store(&server->state, SOCKET_CONNECTED);
    qr_spin_unlock(&server->lock);
    qr_spin_lock(&client->lock);
    client->peer = server;
    atomic_store(&client->state, SOCKET_CONNECTED);
    qr_spin_unlock(&client->lock);
    client->kind->pair(client, server, listener);
}

/* @server is the listener's to hand out: its reference goes along. N held. */
static void
pending_add(struct socket *listener, struct socket *client, struct socket *server)
{
    server->family = listener->family; /* an IPv4 client's may be an IPv6 socket */
    options_inherit(server, listener);
    pair_up(client, server, listener);
    qr_list_push_back(&listener->pending, &server->queue_link);
    atomic_fetch_add(&listener->pending_count, 1);
    socket_wake(listener);
    socket_wake(client);
}

/* The client's connect() fails in the background. N held. */
static void
refuse(struct socket *client, int32_t error)
{
    qr_spin_lock(&client->lock);
    atomic_store(&client->error, error);
    atomic_store(&client->shutdown, SHUT_BOTH);
    atomic_store(&client->state, SOCKET_ENDED);
    qr_spin_unlock(&client->lock);
    socket_wake(client);
}

/* How a socket that was connecting stands now. N held. */
static int64_t
outcome_tell(struct socket *socket)
{
    socket->outcome_untold = false;
    if (atomic_load(&socket->state) == SOCKET_CONNECTED) {
        return 0;
    }
    int64_t error = socket_take_error(socket);
    qr_spin_lock(&socket->lock);
    atomic_store(&socket->shutdown, 0);
    atomic_store(&socket->state, SOCKET_NEW);
    qr_spin_unlock(&socket->lock);
    return error != 0 ? error : -ECONNABORTED;
}

/* One connect() in progress. */
struct attempt {
    struct socket *socket;
    const struct address *address;
    bool may_block;
    struct socket *server; /* made in advance; NULL once it is used */
    struct socket *full;   /* a Unix listener to wait for, with a reference */
};

/* The background's answer comes later. N held. */
static int64_t
attempt_leave(struct attempt *attempt)
{
    attempt->socket->outcome_untold = true;
    return -EINPROGRESS;
}

/* N held. */
static int64_t
attempt_listener(struct attempt *attempt, struct socket *listener)
{
    struct socket *socket = attempt->socket;
    bool is_unix = socket_is_unix(socket);

    if (has_pending_room(listener) && qr_list_is_empty(&listener->waiting)) {
        pending_add(listener, socket, attempt->server);
        attempt->server = NULL;
        return is_unix || attempt->may_block ? 0 : attempt_leave(attempt);
    }
    if (is_unix && !attempt->may_block) {
        return -EAGAIN;
    }
    if (is_unix) {
        socket_ref(listener);
        attempt->full = listener;
        return 0;
    }
    socket->embryo = attempt->server;
    attempt->server = NULL;
    qr_list_push_back(&listener->waiting, &socket->queue_link);
    state_set(socket, SOCKET_CONNECTING);
    return attempt_leave(attempt);
}

/* What connect() answers by the socket's state alone; 0: it may begin. N held. */
static int64_t
attempt_check(struct socket *socket)
{
    switch (atomic_load(&socket->state)) {
    case SOCKET_CONNECTED:
        return -EISCONN;
    case SOCKET_CONNECTING:
        return -EALREADY;
    case SOCKET_LISTENING:
        return socket_is_unix(socket) ? -EINVAL : -EISCONN;
    default:
        return 0;
    }
}

/* N held. */
static int64_t
attempt_locked(struct attempt *attempt)
{
    struct socket *socket = attempt->socket, *listener;
    int64_t error = attempt_check(socket);

    if (socket->outcome_untold && error != -EALREADY) {
        return outcome_tell(socket);
    }
    if (error != 0) {
        return error;
    }
    error = socket->kind->find(socket, attempt->address, &listener);
    if (error == 0 || error == -ECONNREFUSED) {
        /* As if it had been new: a reset connection's socket may connect again. */
        int64_t bound = socket_is_unix(socket) ? 0 : socket->kind->bind_any(socket);

        if (bound != 0 && error == 0) {
            socket_put(listener);
        }
        error = bound != 0 ? bound : error;
    }
    if (error == -ECONNREFUSED && !socket_is_unix(socket) && !attempt->may_block) {
        refuse(socket, ECONNREFUSED);
        return attempt_leave(attempt);
    }
    if (error != 0) {
        return error;
    }
    qr_spin_lock(&socket->lock);
    atomic_store(&socket->shutdown, 0);
    qr_spin_unlock(&socket->lock);
    error = attempt_listener(attempt, listener);
    socket_put(listener);
    return error;
}

/* Wait for the outcome of a connect() that goes on in the background. */
static int64_t
outcome_wait(struct socket *socket, uint64_t deadline)
{
    int64_t result;

    SOCKET_WAIT(result, &socket->writable, atomic_load(&socket->state) != SOCKET_CONNECTING,
                deadline);
    if (result != 0) {
        return result == -EAGAIN ? -EINPROGRESS : result;
    }
    qr_mutex_lock(&net_lock);
    result = socket->outcome_untold ? outcome_tell(socket) : 0;
    qr_mutex_unlock(&net_lock);
    return result;
}

static int64_t
full_wait(struct socket *listener, uint64_t deadline)
{
    int64_t result;

    SOCKET_WAIT(result, &listener->writable, has_pending_room(listener) || !is_listening(listener),
                deadline);
    return result;
}

int64_t
connection_connect(struct socket *socket, const struct address *address, const struct message *wait)
{
    struct attempt attempt = {.socket = socket, .address = address, .may_block = wait->may_block};
    int64_t result;

    attempt.server = socket_create(socket->kind, socket->family);
    if (attempt.server == NULL) {
        return -ENOMEM;
    }
    for (bool again = true; again;) {
        attempt.full = NULL;
        qr_mutex_lock(&net_lock);
        result = attempt_locked(&attempt);
        qr_mutex_unlock(&net_lock);
        again = attempt.full != NULL;
        if (again) {
            result = full_wait(attempt.full, wait->deadline);
            again = result == 0;
            socket_put(attempt.full);
        }
    }
    if ((result == -EINPROGRESS || result == -EALREADY) && wait->may_block) {
        result = outcome_wait(socket, wait->deadline);
    }
    if (attempt.server != NULL) {
        socket_put(attempt.server);
    }
    return result;
}

int64_t
connection_pair(struct socket *a, struct socket *b)
{
    qr_mutex_lock(&net_lock);
    pair_up(a, b, NULL);
    qr_mutex_unlock(&net_lock);
    return 0;
}

/* ---- accepting --------------------------------------------------------------------------------- */

/* N held. */
static int64_t
accept_locked(struct socket *listener, struct socket **out)
{
    if (!is_listening(listener)) {
        return -EINVAL;
    }
    struct qr_list *link = qr_list_pop_front(&listener->pending);
    if (link == NULL) {
        return -EAGAIN;
    }
    *out = qr_list_entry(link, struct socket, queue_link);
    qr_list_init(link);
    atomic_fetch_sub(&listener->pending_count, 1);
    link = qr_list_pop_front(&listener->waiting);
    if (link != NULL) {
        struct socket *client = qr_list_entry(link, struct socket, queue_link);
        struct socket *server = client->embryo;

        qr_list_init(link);
        client->embryo = NULL;
        pending_add(listener, client, server);
    }
    wait_wake_all(&listener->writable);
    return 0;
}

int64_t
connection_accept(struct socket *socket, const struct message *wait, struct socket **out)
{
    for (;;) {
        qr_mutex_lock(&net_lock);
        int64_t result = accept_locked(socket, out);
        qr_mutex_unlock(&net_lock);
        if (result != -EAGAIN || !wait->may_block) {
            return result;
        }
        SOCKET_WAIT(result, &socket->readable,
                    atomic_load(&socket->pending_count) > 0 || !is_listening(socket),
                    wait->deadline);
        if (result != 0) {
            return result;
        }
    }
}

/* ---- the end ------------------------------------------------------------------------------------- */

/* Nobody will accept: whoever waits is told.  @doomed gets the sockets to end. N held. */
static void
listener_clear(struct socket *listener, struct qr_list *doomed)
{
    struct qr_list *link;

    while ((link = qr_list_pop_front(&listener->pending)) != NULL) {
        qr_list_push_back(doomed, link);
    }
    atomic_store(&listener->pending_count, 0);
    while ((link = qr_list_pop_front(&listener->waiting)) != NULL) {
        struct socket *client = qr_list_entry(link, struct socket, queue_link);

        qr_list_init(link);
        qr_list_push_back(doomed, &client->embryo->queue_link);
        client->embryo = NULL;
        refuse(client, ECONNREFUSED);
    }
}

/* End what nobody accepted: its clients lose what they sent. */
static void
doomed_end(struct qr_list *doomed)
{
    struct qr_list *link;

    while ((link = qr_list_pop_front(doomed)) != NULL) {
        struct socket *server = qr_list_entry(link, struct socket, queue_link);

        qr_list_init(link);
        qr_mutex_lock(&net_lock);
        struct dentry *dentry = server->kind->unbind(server);
        qr_mutex_unlock(&net_lock);
        qr_assert(dentry == NULL || server->kind->family == AF_UNIX);
        socket_end(server, true);
        if (dentry != NULL) {
            dentry_put(dentry);
        }
        socket_put(server);
    }
}

void
connection_close(struct socket *socket)
{
    struct qr_list doomed = QR_LIST_INIT(doomed);
    bool reset = socket->kind == &tcp_kind && atomic_load(&socket->values[VALUE_LINGER]) != 0 &&
                 atomic_load(&socket->values[VALUE_LINGER_SECONDS]) == 0;

    qr_mutex_lock(&net_lock);
    uint32_t state = atomic_load(&socket->state);
    struct dentry *dentry = socket->kind->unbind(socket);
    if (state == SOCKET_LISTENING) {
        listener_clear(socket, &doomed);
    } else if (state == SOCKET_CONNECTING) {
        qr_list_remove(&socket->queue_link);
        qr_list_push_back(&doomed, &socket->embryo->queue_link);
        socket->embryo = NULL;
    }
    state_set(socket, SOCKET_ENDED);
    qr_mutex_unlock(&net_lock);
    wait_wake_all(&socket->writable); /* who waits for a listener's room */
    doomed_end(&doomed);
    socket_end(socket, reset);
    if (dentry != NULL) {
        dentry_put(dentry);
    }
    socket_put(socket);
}

/* The side of the connection that @how (SHUT_*) closes here is the other one there. */
static uint32_t
mirrored(uint32_t how)
{
    return (how & SHUT_READ ? SHUT_WRITE : 0u) | (how & SHUT_WRITE ? SHUT_READ : 0u);
}

static void
shutdown_add(struct socket *socket, uint32_t how)
{
    qr_spin_lock(&socket->lock);
    atomic_fetch_or(&socket->shutdown, how);
    qr_spin_unlock(&socket->lock);
    socket_wake(socket);
}

/* A TCP listener that is to take no more: it is as new. */
static int64_t
listener_shutdown(struct socket *listener, uint32_t how)
{
    struct qr_list doomed = QR_LIST_INIT(doomed);

    if (!(how & SHUT_READ)) {
        return 0;
    }
    qr_mutex_lock(&net_lock);
    if (is_listening(listener)) {
        listener_clear(listener, &doomed);
        state_set(listener, SOCKET_NEW);
    }
    qr_mutex_unlock(&net_lock);
    socket_wake(listener);
    doomed_end(&doomed);
    return 0;
}

int64_t
connection_shutdown(struct socket *socket, uint32_t how)
{
    uint32_t state = atomic_load(&socket->state);

    if (state == SOCKET_LISTENING && socket->kind == &tcp_kind) {
        return listener_shutdown(socket, how);
    }
    if (!socket_is_unix(socket) && state != SOCKET_CONNECTED && state != SOCKET_CONNECTING) {
        return -ENOTCONN;
    }
    struct socket *peer = socket_peer(socket);
    shutdown_add(socket, how);
    if (peer != NULL && socket->kind->connects) {
        uint32_t there = mirrored(how);

        /* TCP does not tell the sender that nobody will read. */
        shutdown_add(peer, socket->kind == &tcp_kind ? there & SHUT_READ : there);
    }
    if (peer != NULL) {
        socket_put(peer);
    }
    return 0;
}
