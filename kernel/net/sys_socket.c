/* SPDX-License-Identifier: MIT */
/*
 * System calls of sockets, but for those that carry bytes (sys_message.c).
 */

#include "option.h"
#include "socket.h"
#include "sys_socket.h"

#include "../fs/fd_table.h"
#include "syscall.h"

#define SOCK_TYPE_MASK 0xfu
#define SOCK_FLAGS     ((uint32_t)(O_CLOEXEC | O_NONBLOCK))

/* ---- descriptors ------------------------------------------------------------------------- */

int64_t
socket_get(int fd, struct file **out_file, struct socket **out)
{
    struct file *file = file_get(fd);

    if (file == NULL) {
        return -EBADF;
    }
    *out = socket_of(file);
    if (*out == NULL) {
        file_put(file);
        return -ENOTSOCK;
    }
    *out_file = file;
    return 0;
}

/* ---- addresses -------------------------------------------------------------------------------- */

int64_t
address_read(struct address *out, uint64_t user, int32_t bytes)
{
    if (bytes < 0 || bytes > ADDRESS_BYTES) {
        return -EINVAL;
    }
    memset(out, 0, sizeof *out);
    out->bytes = (uint32_t)bytes;
    return bytes == 0 ? 0 : user_read(out->raw, user, (size_t)bytes);
}

int64_t
address_write(const struct address *address, uint64_t user, uint64_t user_bytes)
{
    uint32_t room;

    if (user_read_u32(&room, user_bytes) != 0) {
        return -EFAULT;
    }
    if ((int32_t)room < 0) {
        return -EINVAL;
    }
    room = room < address->bytes ? room : address->bytes;
    if (room > 0 && user_write(user, address->raw, room) != 0) {
        return -EFAULT;
    }
    return user_write_u32(user_bytes, address->bytes);
}

/* ---- making ------------------------------------------------------------------------------------- */

/* By family and type. @return 0, -EAFNOSUPPORT, -EINVAL, -ESOCKTNOSUPPORT, -EPROTONOSUPPORT, -EPERM */
static int64_t
kind_of(uint32_t family, uint32_t type, uint32_t protocol, const struct socket_kind **out)
{
    if (family != AF_UNIX && family != AF_INET && family != AF_INET6) {
        return -EAFNOSUPPORT;
    }
    if (type >= 11) {
        return -EINVAL;
    }
    if (family == AF_UNIX) {
        if (protocol != 0 && protocol != AF_UNIX) {
            return -EPROTONOSUPPORT;
        }
        *out = type == SOCK_STREAM                      ? &unix_stream_kind
               : type == SOCK_DGRAM || type == SOCK_RAW ? &unix_datagram_kind
               : type == SOCK_SEQPACKET                 ? &unix_packet_kind
                                                        : NULL;
        return *out == NULL ? -ESOCKTNOSUPPORT : 0;
    }
    if (type == SOCK_RAW && protocol != 0) {
        return -EPERM; /* nobody may */
    }
    *out = type == SOCK_STREAM ? &tcp_kind : type == SOCK_DGRAM ? &udp_kind : NULL;
    if (*out == NULL) {
        return -ESOCKTNOSUPPORT;
    }
    return protocol == 0 || protocol == (*out)->protocol ? 0 : -EPROTONOSUPPORT;
}

/* A socket and its file. */
static int64_t
socket_make(uint32_t family, uint32_t type, uint32_t protocol, struct file **out)
{
    const struct socket_kind *kind;
    uint32_t flags = type & ~SOCK_TYPE_MASK;

    if (flags & ~SOCK_FLAGS) {
        return -EINVAL;
    }
    int64_t error = kind_of(family, type & SOCK_TYPE_MASK, protocol, &kind);
    if (error != 0) {
        return error;
    }
    struct socket *socket = socket_create(kind, (uint16_t)family);
    struct file *file;
    if (socket == NULL) {
        return -ENOMEM;
    }
    error = socket_file_create(flags, &file);
    if (error != 0) {
        socket_put(socket);
        return error;
    }
    socket_file_attach(file, socket);
    *out = file;
    return 0;
}

int64_t
sys_socket(const struct syscall_args *args)
{
    uint32_t type = (uint32_t)args->arg[1];
    struct file *file;
    int64_t result = socket_make((uint32_t)args->arg[0], type, (uint32_t)args->arg[2], &file);

    if (result == 0) {
        result = fd_install(file, 0, (type & O_CLOEXEC) != 0);
        file_put(file);
    }
    return result;
}

/* Both descriptors, told before they name anything. */
static int64_t
pair_install(struct file *files[2], uint64_t user, bool close_on_exec)
{
    int32_t fds[2];

    fds[0] = fd_reserve(0);
    if (fds[0] < 0) {
        return fds[0];
    }
    fds[1] = fd_reserve(0);
    int64_t error = fds[1] < 0 ? fds[1] : user_write(user, fds, sizeof fds);
    if (error != 0) {
        fd_unreserve(fds[0]);
        if (fds[1] >= 0) {
            fd_unreserve(fds[1]);
        }
        return error;
    }
    for (unsigned i = 0; i < 2; i++) {
        file_ref(files[i]);
        fd_fill(fds[i], files[i], close_on_exec);
    }
    return 0;
}

int64_t
sys_socketpair(const struct syscall_args *args)
{
    uint32_t family = (uint32_t)args->arg[0], type = (uint32_t)args->arg[1];
    struct file *files[2] = {NULL, NULL};
    int64_t error = socket_make(family, type, (uint32_t)args->arg[2], &files[0]);

    if (error == 0 && family != AF_UNIX) {
        error = -EOPNOTSUPP;
    }
    if (error == 0) {
        error = socket_make(family, type, (uint32_t)args->arg[2], &files[1]);
    }
    if (error == 0) {
        connection_pair(socket_of(files[0]), socket_of(files[1]));
        error = pair_install(files, args->arg[3], (type & O_CLOEXEC) != 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (files[i] != NULL) {
            file_put(files[i]);
        }
    }
    return error;
}

/* ---- names --------------------------------------------------------------------------------------- */

int64_t
sys_bind(const struct syscall_args *args)
{
    struct file *file;
    struct socket *socket;
    struct address address;
    int64_t error = socket_get((int32_t)args->arg[0], &file, &socket);

    if (error != 0) {
        return error;
    }
    error = address_read(&address, args->arg[1], (int32_t)args->arg[2]);
    if (error == 0) {
        qr_mutex_lock(&net_lock);
        error = socket->kind->bind(socket, &address);
        qr_mutex_unlock(&net_lock);
    }
    file_put(file);
    return error;
}

int64_t
sys_listen(const struct syscall_args *args)
{
    struct file *file;
    struct socket *socket;
    int64_t error = socket_get((int32_t)args->arg[0], &file, &socket);

    if (error == 0) {
        error = connection_listen(socket, (int32_t)args->arg[1]);
        file_put(file);
    }
    return error;
}

static struct message
patience_of(const struct file *file, uint64_t timeout)
{
    return (struct message){
        .may_block = !(atomic_load(&file->flags) & O_NONBLOCK),
        .deadline = timeout == 0 ? WAIT_FOREVER : deadline_after(timeout),
    };
}

/* connect() without a connection: only a default for what is sent. */
static int64_t
associate(struct socket *socket, const struct address *address)
{
    qr_mutex_lock(&net_lock);
    int64_t error = socket->kind->associate(socket, address);
    qr_mutex_unlock(&net_lock);
    return error;
}

int64_t
sys_connect(const struct syscall_args *args)
{
    struct file *file;
    struct socket *socket;
    struct address address;
    int64_t error = socket_get((int32_t)args->arg[0], &file, &socket);

    if (error != 0) {
        return error;
    }
    error = address_read(&address, args->arg[1], (int32_t)args->arg[2]);
    if (error == 0 && address.bytes < FAMILY_BYTES) {
        error = -EINVAL;
    }
    if (error == 0 && !socket->kind->connects) {
        error = associate(socket, &address);
    } else if (error == 0) {
        struct message wait = patience_of(file, atomic_load(&socket->send_timeout));

        error = connection_connect(socket, &address, &wait);
    }
    file_put(file);
    return error;
}

int64_t
sys_getsockname(const struct syscall_args *args)
{
    struct file *file;
    struct socket *socket;
    struct address address;
    int64_t error = socket_get((int32_t)args->arg[0], &file, &socket);

    if (error != 0) {
        return error;
    }
    qr_mutex_lock(&net_lock);
    socket->kind->own_name(socket, &address);
    qr_mutex_unlock(&net_lock);
    file_put(file);
    return address_write(&address, args->arg[1], args->arg[2]);
}

int64_t
sys_getpeername(const struct syscall_args *args)
{
    struct file *file;
    struct socket *socket;
    struct address address;
    int64_t error = socket_get((int32_t)args->arg[0], &file, &socket);

    if (error != 0) {
        return error;
    }
    qr_mutex_lock(&net_lock);
    error = socket->kind->peer_name(socket, &address);
    qr_mutex_unlock(&net_lock);
    file_put(file);
    return error != 0 ? error : address_write(&address, args->arg[1], args->arg[2]);
}

/* ---- accept ---------------------------------------------------------------------------------------- */

/* Who the other end of an accepted socket is. */
static int64_t
accepted_tell(struct socket *accepted, uint64_t user, uint64_t user_bytes)
{
    struct address address;

    if (user == 0) {
        return 0;
    }
    qr_mutex_lock(&net_lock);
    int64_t error = accepted->kind->peer_name(accepted, &address);
    qr_mutex_unlock(&net_lock);
    if (error != 0) {
        return -ECONNABORTED; /* it is gone already */
    }
    return address_write(&address, user, user_bytes);
}

/* Everything that may fail but the wait is done before a connection is taken. */
static int64_t
accept_call(const struct syscall_args *args, uint32_t flags)
{
    struct file *file, *made = NULL;
    struct socket *socket, *accepted;

    if (flags & ~SOCK_FLAGS) {
        return -EINVAL;
    }
    int64_t result = socket_get((int32_t)args->arg[0], &file, &socket);
    if (result != 0) {
        return result;
    }
    int fd = -1;
    if (!socket->kind->connects) {
        result = -EOPNOTSUPP;
    } else {
        fd = fd_reserve(0);
        result = fd < 0 ? fd : 0;
    }
    if (result == 0) {
        result = socket_file_create(flags, &made);
    }
    if (result == 0) {
        struct message wait = patience_of(file, atomic_load(&socket->receive_timeout));

        result = connection_accept(socket, &wait, &accepted);
    }
    if (result == 0) {
        socket_file_attach(made, accepted);
        result = accepted_tell(accepted, args->arg[1], args->arg[2]);
    }
    if (result == 0) {
        fd_fill(fd, made, (flags & O_CLOEXEC) != 0);
        result = fd;
    } else {
        if (made != NULL) {
            file_put(made);
        }
        if (fd >= 0) {
            fd_unreserve(fd);
        }
    }
    file_put(file);
    return result;
}

int64_t
sys_accept(const struct syscall_args *args)
{
    return accept_call(args, 0);
}

int64_t
sys_accept4(const struct syscall_args *args)
{
    return accept_call(args, (uint32_t)args->arg[3]);
}

/* ---- the rest ----------------------------------------------------------------------------------------- */

int64_t
sys_shutdown(const struct syscall_args *args)
{
    uint32_t how = (uint32_t)args->arg[1];
    struct file *file;
    struct socket *socket;
    int64_t error = socket_get((int32_t)args->arg[0], &file, &socket);

    if (error == 0) {
        /* SHUT_RD, SHUT_WR and SHUT_RDWR are one less than the bits. */
        error = how > 2 ? -EINVAL : connection_shutdown(socket, how + 1);
        file_put(file);
    }
    return error;
}

int64_t
sys_setsockopt(const struct syscall_args *args)
{
    struct file *file;
    struct socket *socket;
    int64_t error = socket_get((int32_t)args->arg[0], &file, &socket);

    if (error == 0) {
        error = option_set(socket, (uint32_t)args->arg[1], (uint32_t)args->arg[2], args->arg[3],
                           (int32_t)args->arg[4]);
        file_put(file);
    }
    return error;
}

int64_t
sys_getsockopt(const struct syscall_args *args)
{
    struct file *file;
    struct socket *socket;
    int64_t error = socket_get((int32_t)args->arg[0], &file, &socket);

    if (error == 0) {
        error = option_get(socket, (uint32_t)args->arg[1], (uint32_t)args->arg[2], args->arg[3],
                           args->arg[4]);
        file_put(file);
    }
    return error;
}
