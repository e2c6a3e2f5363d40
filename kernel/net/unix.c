/* SPDX-License-Identifier: MIT */
/*
 * AF_UNIX: names.
 *
 * A path names an inode of type socket in the file tree, which knows who is bound to it
 * (inode->socket) as long as that one is open; the name itself stays until it is unlinked.  A
 * name that begins with a zero byte stands in a table of its own, for each kind of socket, and
 * goes with its socket.  All under net_lock.
 */

#include "socket.h"

#include <quire/assert.h>

enum { NAME_BUCKETS = 64, CHOSEN_NAMES = 1 << 20 };

static struct qr_list name_table[NAME_BUCKETS]; /* N; a head that was never used is all zero */
static uint32_t next_chosen;                    /* N */

/* ---- addresses ----------------------------------------------------------------------------- */

/* @return 0 or -EINVAL */
static int64_t
unix_address_check(const struct address *address)
{
    bool fits = address->bytes > FAMILY_BYTES && address->bytes <= FAMILY_BYTES + UNIX_PATH_BYTES;

    return fits && address->family == AF_UNIX ? 0 : -EINVAL;
}

static const char *
address_path(const struct address *address)
{
    return address->raw + FAMILY_BYTES;
}

/* The path, ended by a zero byte whether the program wrote one or not. */
static void
path_copy(const struct address *address, char out[UNIX_PATH_BYTES + 1])
{
    memset(out, 0, UNIX_PATH_BYTES + 1);
    memcpy(out, address_path(address), address->bytes - FAMILY_BYTES);
}

static void
name_tell(const struct unix_name *name, struct address *out)
{
    memset(out, 0, sizeof *out);
    out->family = AF_UNIX;
    out->bytes = FAMILY_BYTES;
    if (name->bytes > 0) {
        memcpy(out->raw + FAMILY_BYTES, name->path, name->bytes);
        out->bytes += name->bytes + (name->path[0] != '\0' ? 1 : 0);
    }
}

/* ---- abstract names --------------------------------------------------------------------------- */

static struct qr_list *
name_bucket(const char *path, uint32_t bytes)
{
    uint32_t hash = 2166136261u;

    for (uint32_t i = 0; i < bytes; i++) {
        hash = (hash ^ (uint8_t)path[i]) * 16777619u;
    }
    struct qr_list *bucket = &name_table[hash % NAME_BUCKETS];
    if (bucket->next == NULL) {
        qr_list_init(bucket);
    }
    return bucket;
}

static struct socket *
name_find(const struct socket_kind *kind, const char *path, uint32_t bytes)
{
    qr_list_for_each(link, name_bucket(path, bytes))
    {
        struct socket *socket = qr_list_entry(link, struct socket, unix_name.link);

        if (socket->kind == kind && socket->unix_name.bytes == bytes &&
            memcmp(socket->unix_name.path, path, bytes) == 0) {
            return socket;
        }
    }
    return NULL;
}

static int64_t
name_enter(struct socket *socket, const char *path, uint32_t bytes)
{
    if (name_find(socket->kind, path, bytes) != NULL) {
        return -EADDRINUSE;
    }
    memcpy(socket->unix_name.path, path, bytes);
    socket->unix_name.bytes = bytes;
    qr_list_push_back(name_bucket(path, bytes), &socket->unix_name.link);
    return 0;
}

/* A name that nobody has: a zero byte and five digits. */
static int64_t
name_choose(struct socket *socket)
{
    char name[8];

    for (uint32_t i = 0; i < CHOSEN_NAMES; i++) {
        name[0] = '\0';
        snprintf(name + 1, sizeof name - 1, "%05x", next_chosen++ % CHOSEN_NAMES);
        if (name_enter(socket, name, 6) == 0) {
            return 0;
        }
    }
    return -ENOSPC;
}

/* ---- binding --------------------------------------------------------------------------------------- */

static int64_t
bind_path(struct socket *socket, const struct address *address)
{
    char path[UNIX_PATH_BYTES + 1];
    struct dentry *dentry = NULL;

    path_copy(address, path);
    int64_t error = name_create(AT_FDCWD, path, S_IFSOCK | (0777u & ~current_umask()), 0);
    if (error != 0) {
        return error == -EEXIST ? -EADDRINUSE : error;
    }
    error = path_lookup(AT_FDCWD, path, LINKS_KEEP, &dentry);
    if (error != 0) {
        (void)name_remove(AT_FDCWD, path, false);
        return error;
    }
    if (!S_ISTYPE(dentry->inode->mode, S_IFSOCK) || dentry->inode->socket != NULL) {
        dentry_put(dentry); /* somebody else's, who was faster */
        return -EADDRINUSE;
    }
    dentry->inode->socket = socket;
    socket->unix_name.dentry = dentry;
    socket->unix_name.bytes = (uint32_t)strlen(path);
    memcpy(socket->unix_name.path, path, socket->unix_name.bytes);
    return 0;
}

static int64_t
unix_bind(struct socket *socket, const struct address *address)
{
    bool chosen = address->bytes == FAMILY_BYTES && address->family == AF_UNIX;
    int64_t error = chosen ? 0 : unix_address_check(address);

    if (error != 0) {
        return error;
    }
    if (socket->unix_name.bytes > 0) {
        return chosen ? 0 : -EINVAL;
    }
    if (chosen) {
        return name_choose(socket);
    }
    const char *path = address_path(address);
    return path[0] == '\0' ? name_enter(socket, path, address->bytes - FAMILY_BYTES)
                           : bind_path(socket, address);
}

/* A listener needs a name that it was given; a sender of datagrams may be asked who it is. */
static int64_t
unix_bind_any(struct socket *socket)
{
    if (socket->unix_name.bytes > 0) {
        return 0;
    }
    if (socket->kind->connects) {
        return -EINVAL;
    }
    return atomic_load(&socket->values[VALUE_PASS_CREDENTIALS]) != 0 ? name_choose(socket) : 0;
}

static struct dentry *
unix_unbind(struct socket *socket)
{
    struct dentry *dentry = socket->unix_name.dentry;

    qr_list_remove(&socket->unix_name.link);
    qr_list_init(&socket->unix_name.link);
    if (dentry != NULL) {
        dentry->inode->socket = NULL;
    }
    socket->unix_name.dentry = NULL;
    return dentry;
}

/* ---- finding ----------------------------------------------------------------------------------------- */

/* Who is bound to a path. */
static int64_t
find_path(struct socket *socket, const struct address *address, struct socket **out)
{
    char path[UNIX_PATH_BYTES + 1];
    struct dentry *dentry;

    path_copy(address, path);
    int64_t error = path_lookup(AT_FDCWD, path, LINKS_FOLLOW, &dentry);
    if (error != 0) {
        return error;
    }
    struct inode *inode = dentry->inode;
    *out = NULL;
    if (!inode_allows(inode, ACCESS_WRITE)) {
        error = -EACCES;
    } else if (!S_ISTYPE(inode->mode, S_IFSOCK) || inode->socket == NULL) {
        error = -ECONNREFUSED;
    } else if (inode->socket->kind != socket->kind) {
        error = -EPROTOTYPE;
    } else {
        *out = inode->socket;
        socket_ref(*out);
    }
    dentry_put(dentry);
    return error;
}

static int64_t
unix_find(struct socket *socket, const struct address *address, struct socket **out)
{
    int64_t error = unix_address_check(address);

    if (error != 0) {
        return error;
    }
    const char *path = address_path(address);
    if (path[0] == '\0') {
        *out = name_find(socket->kind, path, address->bytes - FAMILY_BYTES);
        error = *out == NULL ? -ECONNREFUSED : 0;
        if (error == 0) {
            socket_ref(*out);
        }
    } else {
        error = find_path(socket, address, out);
    }
    if (error == 0 && socket->kind->connects &&
        (atomic_load(&(*out)->state) != SOCKET_LISTENING ||
         (atomic_load(&(*out)->shutdown) & SHUT_READ))) {
        socket_put(*out);
        error = -ECONNREFUSED;
    }
    return error;
}

static int64_t
unix_associate(struct socket *socket, const struct address *address)
{
    struct socket *peer = NULL;
    int64_t error = 0;

    if (address->family != AF_UNSPEC) {
        error = unix_bind_any(socket);
        if (error == 0) {
            error = unix_find(socket, address, &peer);
        }
        if (error == 0 && peer->peer != NULL && peer->peer != socket) {
            socket_put(peer);
            error = -EPERM;
        }
    }
    if (error != 0) {
        return error;
    }
    qr_spin_lock(&socket->lock);
    struct socket *old = socket->peer;
    socket->peer = peer;
    atomic_store(&socket->state, peer == NULL ? SOCKET_NEW : SOCKET_CONNECTED);
    qr_spin_unlock(&socket->lock);
    if (old != NULL) {
        socket_put(old);
    }
    return 0;
}

static void
unix_pair(struct socket *client, struct socket *server, struct socket *listener)
{
    struct sender_id self = sender_id_current();

    server->peer_owner = self;
    client->peer_owner = listener == NULL ? self : listener->owner;
    if (listener != NULL) {
        server->unix_name.bytes = listener->unix_name.bytes;
        memcpy(server->unix_name.path, listener->unix_name.path, listener->unix_name.bytes);
    }
}

static void
unix_own_name(struct socket *socket, struct address *out)
{
    name_tell(&socket->unix_name, out);
}

static int64_t
unix_peer_name(struct socket *socket, struct address *out)
{
    struct socket *peer = socket_peer(socket);

    if (peer == NULL) {
        return -ENOTCONN;
    }
    name_tell(&peer->unix_name, out);
    socket_put(peer);
    return 0;
}

#define UNIX_OPERATIONS                                                                 \
    .family = AF_UNIX, .bind = unix_bind, .bind_any = unix_bind_any, .find = unix_find, \
    .associate = unix_associate, .pair = unix_pair, .unbind = unix_unbind,              \
    .own_name = unix_own_name, .peer_name = unix_peer_name

const struct socket_kind unix_stream_kind = {UNIX_OPERATIONS, .name = "UNIX-STREAM",
                                             .type = SOCK_STREAM, .connects = true,
                                             .is_stream = true};
const struct socket_kind unix_datagram_kind = {UNIX_OPERATIONS, .name = "UNIX", .type = SOCK_DGRAM};
const struct socket_kind unix_packet_kind = {UNIX_OPERATIONS, .name = "UNIX-SEQPACKET",
                                             .type = SOCK_SEQPACKET, .connects = true};
