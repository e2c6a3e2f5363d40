/* SPDX-License-Identifier: MIT */
/*
 * System calls that carry bytes through sockets, and what they bring along: addresses,
 * descriptors and credentials.
 *
 * Pointers and lengths in these structures are as wide as the kernel's own, on 32 bits too.
 * Everything that a send can be refused for is read and checked before the first byte moves.
 */

#include "socket.h"
#include "sys_socket.h"

#include "../fs/fd_table.h"
#include "../fs/vector.h"
#include "syscall.h"

enum { SCM_RIGHTS = 1, SCM_CREDENTIALS = 2, CONTROL_MAX = 20480, MESSAGES_MAX = 1024 };
enum { CAP_SETGID = 6, CAP_SETUID = 7, CAP_SYS_ADMIN = 21 };

/** struct msghdr */
struct user_message {
    uintptr_t name;
    int32_t name_bytes;
    uintptr_t pieces;
    size_t piece_count;
    uintptr_t control;
    size_t control_bytes;
    uint32_t flags;
};
_Static_assert(sizeof(struct user_message) == 6 * sizeof(void *) + 8 ||
                   sizeof(struct user_message) == 28,
               "Linux ABI");

/** struct mmsghdr */
struct user_messages {
    struct user_message message;
    uint32_t bytes;
};

/** struct cmsghdr */
struct control_header {
    size_t bytes; /* with the header */
    int32_t level, type;
};

static size_t
control_align(size_t bytes)
{
    return (bytes + sizeof(size_t) - 1) & ~(sizeof(size_t) - 1);
}

/* ---- what a send brings along -------------------------------------------------------------- */

/* One SCM_RIGHTS: its files after those of earlier ones. */
static int64_t
control_rights(struct message *message, const char *data, size_t bytes)
{
    size_t count = bytes / sizeof(int32_t);

    if (message->rights == NULL) {
        message->rights = rights_create(RIGHTS_MAX);
        if (message->rights == NULL) {
            return -ENOMEM;
        }
    }
    if (count > RIGHTS_MAX - rights_count(message->rights)) {
        return -EINVAL;
    }
    for (size_t i = 0; i < count; i++) {
        int32_t fd;

        memcpy(&fd, data + i * sizeof fd, sizeof fd);
        struct file *file = file_get_any(fd);
        if (file == NULL) {
            return -EBADF;
        }
        rights_add(message->rights, file);
    }
    return 0;
}

/* Who a process may say that it is. */
static int64_t
control_credentials(struct message *message, const char *data, size_t bytes)
{
    const struct process *self = process_current();
    const struct credentials *own = &self->credentials;
    struct sender_id id;

    if (bytes != sizeof id) {
        return -EINVAL;
    }
    memcpy(&id, data, sizeof id);
    bool uid_fits = id.uid == own->uid || id.uid == own->euid || id.uid == own->suid;
    bool gid_fits = id.gid == own->gid || id.gid == own->egid || id.gid == own->sgid;
    if ((id.pid != self->id && !process_has_capability(CAP_SYS_ADMIN)) ||
        (!uid_fits && !process_has_capability(CAP_SETUID)) ||
        (!gid_fits && !process_has_capability(CAP_SETGID))) {
        return -EPERM;
    }
    if (id.pid != self->id) {
        struct process *named = process_find(id.pid);

        if (named == NULL) {
            return -ESRCH;
        }
        process_put(named);
    }
    message->from = id;
    message->has_from = true;
    return 0;
}

static int64_t
control_item(struct message *message, const struct control_header *header, const char *data)
{
    size_t bytes = header->bytes - sizeof *header;

    if (header->level != SOL_SOCKET) {
        return 0;
    }
    switch (header->type) {
    case SCM_RIGHTS:
        return control_rights(message, data, bytes);
    case SCM_CREDENTIALS:
        return control_credentials(message, data, bytes);
    default:
        return -EINVAL;
    }
}

/* All of a control buffer in kernel memory. */
static int64_t
control_parse(struct message *message, const char *buffer, size_t bytes)
{
    struct control_header header;

    for (size_t at = 0; bytes - at >= sizeof header;) {
        memcpy(&header, buffer + at, sizeof header);
        if (header.bytes < sizeof header || header.bytes > bytes - at) {
            return -EINVAL;
        }
        int64_t error = control_item(message, &header, buffer + at + sizeof header);
        if (error != 0) {
            return error;
        }
        size_t step = control_align(header.bytes);
        if (step > bytes - at) {
            break;
        }
        at += step;
    }
    return 0;
}

static int64_t
control_read(struct message *message, uint64_t user, size_t bytes)
{
    if (bytes > CONTROL_MAX) {
        return -ENOBUFS;
    }
    char *buffer = kmem_alloc(bytes);
    if (buffer == NULL) {
        return -ENOBUFS;
    }
    int64_t error = user_read(buffer, user, bytes);
    if (error == 0) {
        error = control_parse(message, buffer, bytes);
    }
    kmem_free(buffer);
    return error;
}

/* ---- what a receive tells -------------------------------------------------------------------- */

struct control_writer {
    uint64_t user;
    size_t left;
    uint32_t flags; /* MSG_CTRUNC */
};

/* Step over one item of @bytes with its header. */
static void
control_advance(struct control_writer *writer, size_t bytes)
{
    size_t step = control_align(bytes);

    step = step < writer->left ? step : writer->left;
    writer->user += step;
    writer->left -= step;
}

static int64_t
control_put(struct control_writer *writer, int32_t type, const void *data, size_t bytes)
{
    struct control_header header = {sizeof header + bytes, SOL_SOCKET, type};

    if (writer->left < sizeof header) {
        writer->flags |= MSG_CTRUNC;
        return 0;
    }
    if (writer->left < header.bytes) {
        writer->flags |= MSG_CTRUNC;
        header.bytes = writer->left;
    }
    if (user_write(writer->user, &header, sizeof header) != 0 ||
        user_write(writer->user + sizeof header, data, header.bytes - sizeof header) != 0) {
        return -EFAULT;
    }
    control_advance(writer, header.bytes);
    return 0;
}

/* Install as many files as there is room for; the rest is closed with the message. */
static int64_t
control_put_rights(struct control_writer *writer, const struct rights *rights, bool close_on_exec)
{
    struct control_header header = {sizeof header, SOL_SOCKET, SCM_RIGHTS};
    uint32_t count = rights_count(rights), done = 0;
    size_t room = writer->left < sizeof header ? 0 : (writer->left - sizeof header) / 4;

    while (done < count && done < room) {
        int fd = fd_reserve(0);

        if (fd < 0) {
            break;
        }
        if (user_write_u32(writer->user + sizeof header + done * 4, (uint32_t)fd) != 0) {
            fd_unreserve(fd);
            break;
        }
        struct file *file = rights_file(rights, done);
        file_ref(file);
        fd_fill(fd, file, close_on_exec);
        done++;
    }
    writer->flags |= done < count ? MSG_CTRUNC : 0;
    if (done == 0) {
        return 0;
    }
    header.bytes += done * sizeof(int32_t);
    if (user_write(writer->user, &header, sizeof header) != 0) {
        return -EFAULT;
    }
    control_advance(writer, header.bytes);
    return 0;
}

static int64_t
control_write(struct socket *socket, struct message *message, struct control_writer *writer)
{
    int64_t error = 0;

    if (!message->has_from) {
        return 0;
    }
    if (socket_is_unix(socket) && atomic_load(&socket->values[VALUE_PASS_CREDENTIALS]) != 0) {
        error = control_put(writer, SCM_CREDENTIALS, &message->from, sizeof message->from);
    }
    if (error == 0 && message->rights != NULL) {
        error =
            control_put_rights(writer, message->rights, (message->flags & MSG_CMSG_CLOEXEC) != 0);
    }
    return error;
}

static void
message_free(struct message *message)
{
    if (message->rights != NULL) {
        rights_free(message->rights);
    }
}

/* ---- one range --------------------------------------------------------------------------------- */

static int64_t
range_init(struct message *message, uint64_t user, size_t bytes)
{
    if (!is_user_range(user, bytes)) {
        return -EFAULT;
    }
    io_init_user(&message->io, user, bytes < RW_LIMIT ? bytes : RW_LIMIT);
    return 0;
}

int64_t
sys_sendto(const struct syscall_args *args)
{
    struct message message = {.flags = (uint32_t)args->arg[3]};
    struct file *file;
    struct socket *socket;
    int64_t result = range_init(&message, args->arg[1], (size_t)args->arg[2]);

    if (result == 0) {
        result = socket_get((int32_t)args->arg[0], &file, &socket);
    }
    if (result != 0) {
        return result;
    }
    if (args->arg[4] != 0) {
        result = address_read(&message.name, args->arg[4], (int32_t)args->arg[5]);
    }
    if (result == 0) {
        result = socket_send(file, &message);
    }
    file_put(file);
    return result;
}

int64_t
sys_recvfrom(const struct syscall_args *args)
{
    struct message message = {.flags = (uint32_t)args->arg[3]};
    struct file *file;
    struct socket *socket;
    int64_t result = range_init(&message, args->arg[1], (size_t)args->arg[2]);

    if (result == 0) {
        result = socket_get((int32_t)args->arg[0], &file, &socket);
    }
    if (result != 0) {
        return result;
    }
    result = socket_receive(file, &message);
    message_free(&message);
    file_put(file);
    if (result >= 0 && args->arg[4] != 0) {
        int64_t error = address_write(&message.name, args->arg[4], args->arg[5]);

        result = error != 0 ? error : result;
    }
    return result;
}

/* ---- messages ------------------------------------------------------------------------------------ */

/* Read the structure and its pieces; vector_free() afterwards. */
static int64_t
header_read(struct user_message *header, uint64_t user, struct vector *vector)
{
    if (user_read(header, user, sizeof *header) != 0) {
        return -EFAULT;
    }
    if (header->name == 0) {
        header->name_bytes = 0;
    }
    if (header->name_bytes < 0) {
        return -EINVAL;
    }
    if (header->name_bytes > ADDRESS_BYTES) {
        header->name_bytes = ADDRESS_BYTES;
    }
    if (header->piece_count > IOV_LIMIT) {
        return -EMSGSIZE;
    }
    return vector_read(vector, header->pieces, header->piece_count);
}

/* One message, whose structure is at @user. */
static int64_t
message_send(struct file *file, struct socket *socket, uint64_t user, uint32_t flags)
{
    struct message message = {.flags = flags};
    struct user_message header;
    struct vector vector;
    int64_t result = header_read(&header, user, &vector);

    if (result != 0) {
        return result;
    }
    io_init_pieces(&message.io, vector.pieces, vector.total);
    if (header.name_bytes > 0) {
        result = address_read(&message.name, header.name, header.name_bytes);
    }
    if (result == 0 && header.control_bytes > INT32_MAX) {
        result = -ENOBUFS;
    } else if (result == 0 && header.control_bytes > 0 && socket_is_unix(socket)) {
        result = control_read(&message, header.control, header.control_bytes);
    }
    if (result == 0) {
        result = socket_send(file, &message);
    }
    message_free(&message);
    vector_free(&vector);
    return result;
}

int64_t
sys_sendmsg(const struct syscall_args *args)
{
    struct file *file;
    struct socket *socket;
    int64_t result = socket_get((int32_t)args->arg[0], &file, &socket);

    if (result == 0) {
        result = message_send(file, socket, args->arg[1], (uint32_t)args->arg[2]);
        file_put(file);
    }
    return result;
}

/* What a receive tells in the structure at @user itself. */
static int64_t
header_write(const struct user_message *header, uint64_t user, const struct message *message,
             const struct control_writer *writer)
{
    uint32_t flags = message->out_flags | writer->flags | (message->flags & MSG_CMSG_CLOEXEC);
    uint32_t room = (uint32_t)header->name_bytes;

    if (header->name != 0) {
        room = room < message->name.bytes ? room : message->name.bytes;
        if (user_write(header->name, message->name.raw, room) != 0 ||
            user_write_u32(user + offsetof(struct user_message, name_bytes), message->name.bytes)) {
            return -EFAULT;
        }
    }
    if (user_write_u32(user + offsetof(struct user_message, flags), flags) != 0) {
        return -EFAULT;
    }
    return user_write_word(user + offsetof(struct user_message, control_bytes),
                           header->control_bytes - writer->left);
}

static int64_t
message_receive(struct file *file, struct socket *socket, uint64_t user, uint32_t flags)
{
    struct message message = {.flags = flags};
    struct user_message header;
    struct vector vector;
    int64_t result = header_read(&header, user, &vector);

    if (result != 0) {
        return result;
    }
    io_init_pieces(&message.io, vector.pieces, vector.total);
    result = socket_receive(file, &message);
    if (result >= 0) {
        struct control_writer writer = {header.control,
                                        header.control == 0 ? 0 : header.control_bytes, 0};
        int64_t error = control_write(socket, &message, &writer);

        header.control_bytes = header.control == 0 ? 0 : header.control_bytes;
        if (error == 0) {
            error = header_write(&header, user, &message, &writer);
        }
        result = error != 0 ? error : result;
    }
    message_free(&message);
    vector_free(&vector);
    return result;
}

int64_t
sys_recvmsg(const struct syscall_args *args)
{
    struct file *file;
    struct socket *socket;
    int64_t result = socket_get((int32_t)args->arg[0], &file, &socket);

    if (result == 0) {
        result = message_receive(file, socket, args->arg[1], (uint32_t)args->arg[2]);
        file_put(file);
    }
    return result;
}

/* ---- several at once -------------------------------------------------------------------------------- */

static uint32_t
messages_bounded(uint64_t count)
{
    return (uint32_t)count < MESSAGES_MAX ? (uint32_t)count : MESSAGES_MAX;
}

int64_t
sys_sendmmsg(const struct syscall_args *args)
{
    uint32_t count = messages_bounded(args->arg[2]), done = 0;
    struct file *file;
    struct socket *socket;
    int64_t result = socket_get((int32_t)args->arg[0], &file, &socket);

    if (result != 0) {
        return result;
    }
    for (; done < count; done++) {
        uint64_t user = args->arg[1] + done * sizeof(struct user_messages);

        result = message_send(file, socket, user, (uint32_t)args->arg[3]);
        if (result >= 0) {
            result = user_write_u32(user + offsetof(struct user_messages, bytes), (uint32_t)result);
        }
        if (result < 0) {
            break;
        }
    }
    file_put(file);
    return done > 0 ? (int64_t)done : result;
}

int64_t
sys_recvmmsg(const struct syscall_args *args)
{
    uint32_t count = messages_bounded(args->arg[2]), done = 0, flags = (uint32_t)args->arg[3];
    uint64_t deadline;
    struct file *file;
    struct socket *socket;
    int64_t result = deadline_from_timespec(args->arg[4], &deadline);

    if (result == 0) {
        result = socket_get((int32_t)args->arg[0], &file, &socket);
    }
    if (result != 0) {
        return result;
    }
    while (done < count) {
        uint64_t user = args->arg[1] + done * sizeof(struct user_messages);

        result = message_receive(file, socket, user, flags & ~MSG_WAITFORONE);
        if (result >= 0) {
            result = user_write_u32(user + offsetof(struct user_messages, bytes), (uint32_t)result);
        }
        if (result < 0) {
            break;
        }
        done++;
        flags |= flags & MSG_WAITFORONE ? MSG_DONTWAIT : 0;
        /* As on Linux the time is looked at between messages only. */
        if (args->arg[4] != 0 && clock_monotonic_ns() >= deadline) {
            break;
        }
    }
    file_put(file);
    return done > 0 ? (int64_t)done : result;
}
