/* SPDX-License-Identifier: MIT */
/*
 * /proc/net: the sockets that there are, in Linux's columns.
 *
 * There is one network, so it is a directory and not a link into the process's.  Columns about what does
 * not exist here (timers, retransmissions, windows) are what they are on Linux while nothing happens;
 * the addresses of structures are 0, as Linux shows them to those who may not know.  No packet crosses
 * a device, so the loopback has counted none.
 */
#include "proc_net.h"

#include "../fs/text.h"
#include "memory.h"
#include "socket.h"

enum { TCP_COLUMNS = 149, UDP_COLUMNS = 127 };

/* Linux's numbers of states. */
enum {
    LINUX_ESTABLISHED = 1,
    LINUX_SYN_SENT = 2,
    LINUX_FIN_WAIT = 5,
    LINUX_CLOSED = 7,
    LINUX_CLOSE_WAIT = 8,
    LINUX_LISTENING = 10
};

/* What a line tells, taken while nobody changes it. */
struct view {
    uint32_t state, shutdown;
    struct endpoint own, remote;
    struct unix_name name; /* without its dentry */
    bool has_peer;
    uint32_t to_send, to_read, uid;
    uint64_t inode;
};

static void
view_take(struct socket *socket, struct view *out)
{
    struct socket *peer = socket_peer(socket);

    *out = (struct view){
        .state = atomic_load(&socket->state),
        .shutdown = atomic_load(&socket->shutdown),
        .has_peer = peer != NULL,
        .inode = atomic_load(&socket->inode_number),
    };
    out->to_read =
        atomic_load(out->state == SOCKET_LISTENING ? &socket->pending_count : &socket->unread);
    qr_mutex_lock(&net_lock);
    out->uid = socket->owner.uid;
    if (socket_is_unix(socket)) {
        out->name.bytes = socket->unix_name.bytes;
        memcpy(out->name.path, socket->unix_name.path, sizeof out->name.path);
    } else {
        out->own = socket->inet.own;
        out->remote = socket->inet.remote;
    }
    qr_mutex_unlock(&net_lock);
    if (peer != NULL) {
        socket_put(peer);
    }
}

/* ---- internet families ------------------------------------------------------------------ */

/* 0: a socket of this kind is not shown in that state. */
static unsigned
tcp_state(const struct view *view)
{
    switch (view->state) {
    case SOCKET_LISTENING:
        return LINUX_LISTENING;
    case SOCKET_CONNECTING:
        return LINUX_SYN_SENT;
    case SOCKET_CONNECTED:
        return view->shutdown & SHUT_WRITE  ? LINUX_FIN_WAIT
               : view->shutdown & SHUT_READ ? LINUX_CLOSE_WAIT
                                            : LINUX_ESTABLISHED;
    default:
        return 0;
    }
}

static unsigned
udp_state(const struct view *view)
{
    if (view->own.port == 0) {
        return 0;
    }
    return view->remote.port != 0 ? LINUX_ESTABLISHED : LINUX_CLOSED;
}

/* As Linux's words of an address, the lowest byte of each first. */
static void
endpoint_write(struct qr_writer *writer, const struct endpoint *endpoint, uint16_t family)
{
    for (unsigned word = family == AF_INET ? 3 : 0; word < 4; word++) {
        const uint8_t *bytes = &endpoint->address[4 * word];

        qr_writer_printf(writer, "%02X%02X%02X%02X", bytes[3], bytes[2], bytes[1], bytes[0]);
    }
    qr_writer_printf(writer, ":%04X ", endpoint->port);
}

struct table {
    const struct socket_kind *kind;
    uint16_t family;
    unsigned columns; /* lines are filled up to; 0: not */
    unsigned (*state)(const struct view *view);
    const char *header;
};

static void
inet_line(struct qr_writer *to, const struct table *table, const struct view *view, unsigned number)
{
    unsigned state = table->state(view);
    bool is_tcp = table->kind == &tcp_kind, listens = state == LINUX_LISTENING;
    char text[256];
    struct qr_buffer_writer line;

    qr_buffer_writer_init(&line, text, sizeof text);
    qr_writer_printf(&line.writer, is_tcp ? "%4u: " : "%5u: ", number);
    endpoint_write(&line.writer, &view->own, table->family);
    endpoint_write(&line.writer, &view->remote, table->family);
    qr_writer_printf(&line.writer, "%02X %08X:%08X 00:00000000 00000000 %5u        0 %llu %u %016u",
                     state, view->to_send, view->to_read, view->uid,
                     (unsigned long long)view->inode, listens ? 1u : 2u, 0u);
    qr_writer_printf(&line.writer, !is_tcp ? " 0" : listens ? " 100 0 0 10 0" : " 20 4 0 10 -1");
    qr_writer_printf(to, "%s", text);
    for (size_t at = strlen(text); at < table->columns; at++) {
        qr_writer_printf(to, " ");
    }
    qr_writer_printf(to, "\n");
}

static void
table_write(struct qr_writer *writer, const struct table *table)
{
    unsigned number = 0;

    qr_writer_printf(writer, "%s", table->header);
    for (size_t at = strlen(table->header); at < table->columns; at++) {
        qr_writer_printf(writer, " ");
    }
    qr_writer_printf(writer, "\n");
    for (struct socket *socket = socket_next(NULL); socket != NULL; socket = socket_next(socket)) {
        struct view view;

        if (socket->kind != table->kind || socket->family != table->family) {
            continue;
        }
        view_take(socket, &view);
        if (table->state(&view) != 0) {
            inet_line(writer, table, &view, number++);
        }
    }
}

#define TABLE_NODE(id, kind_, family_, columns_, header_)                             \
    static void show_##id(const struct text_target *target, struct qr_writer *writer) \
    {                                                                                 \
        static const struct table table = {.kind = &kind_##_kind,                     \
                                           .family = (family_),                       \
                                           .columns = (columns_),                     \
                                           .state = kind_##_state,                    \
                                           .header = (header_)};                      \
                                                                                      \
        (void)target;                                                                 \
        table_write(writer, &table);                                                  \
    }

#define V4 \
    "local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
#define V6                                                                      \
    "  sl  local_address                         remote_address               " \
    "         st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"

TABLE_NODE(tcp, tcp, AF_INET, TCP_COLUMNS, "  sl  " V4)
TABLE_NODE(tcp6, tcp, AF_INET6, 0, V6)
TABLE_NODE(udp, udp, AF_INET, UDP_COLUMNS, "   sl  " V4 " ref pointer drops")
TABLE_NODE(udp6, udp, AF_INET6, 0, V6 " ref pointer drops")

/* ---- the others -------------------------------------------------------------------------- */

static void
unix_line(struct qr_writer *writer, const struct socket *socket, const struct view *view)
{
    char path[UNIX_PATH_BYTES + 1] = "";

    memcpy(path, view->name.path, view->name.bytes);
    if (view->name.bytes > 0 && path[0] == '\0') {
        for (uint32_t i = 0; i < view->name.bytes; i++) {
            path[i] = path[i] == '\0' ? '@' : path[i];
        }
    }
    qr_writer_printf(writer, "%016u: %08X 00000000 %08X %04X %02X %5llu%s%s\n", 0u,
                     view->has_peer ? 3u : 2u, view->state == SOCKET_LISTENING ? 0x10000u : 0u,
                     socket->kind->type, view->state == SOCKET_CONNECTED ? 3u : 1u,
                     (unsigned long long)view->inode, path[0] != '\0' ? " " : "", path);
}

static void
show_unix(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "Num       RefCount Protocol Flags    Type St Inode Path\n");
    for (struct socket *socket = socket_next(NULL); socket != NULL; socket = socket_next(socket)) {
        struct view view;

        if (socket_is_unix(socket)) {
            view_take(socket, &view);
            unix_line(writer, socket, &view);
        }
    }
}

static void
show_sockstat(const struct text_target *target, struct qr_writer *writer)
{
    unsigned used = 0, tcp = 0, tcp_all = 0, udp = 0;
    uint64_t tcp_bytes = 0, udp_bytes = 0;

    (void)target;
    for (struct socket *socket = socket_next(NULL); socket != NULL; socket = socket_next(socket)) {
        struct view view;

        used += atomic_load(&socket->inode_number) != 0;
        if (socket_is_unix(socket)) {
            continue;
        }
        view_take(socket, &view);
        if (socket->kind == &tcp_kind) {
            tcp += socket->family == AF_INET && tcp_state(&view) != 0;
            tcp_all++;
            tcp_bytes += atomic_load(&socket->held);
        } else {
            udp += socket->family == AF_INET && udp_state(&view) != 0;
            udp_bytes += atomic_load(&socket->held);
        }
    }
    qr_writer_printf(writer,
                     "sockets: used %u\nTCP: inuse %u orphan 0 tw 0 alloc %u mem %llu\n"
                     "UDP: inuse %u mem %llu\nUDPLITE: inuse 0\nRAW: inuse 0\n"
                     "FRAG: inuse 0 memory 0\n",
                     used, tcp, tcp_all, (unsigned long long)(tcp_bytes / FS_PAGE_BYTES), udp,
                     (unsigned long long)(udp_bytes / FS_PAGE_BYTES));
}

static void
show_dev(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(
        writer, "Inter-|   Receive                                                |  Transmit\n"
                " face |bytes    packets errs drop fifo frame compressed multicast|"
                "bytes    packets errs drop fifo colls carrier compressed\n"
                "    lo:       0       0    0    0    0     0          0         0"
                "        0       0    0    0    0     0       0          0\n");
}

static const struct text_node nodes[] = {
    {.name = "dev", .mode = 0444, .show = show_dev},
    {.name = "sockstat", .mode = 0444, .show = show_sockstat},
    {.name = "tcp", .mode = 0444, .show = show_tcp},
    {.name = "tcp6", .mode = 0444, .show = show_tcp6},
    {.name = "udp", .mode = 0444, .show = show_udp},
    {.name = "udp6", .mode = 0444, .show = show_udp6},
    {.name = "unix", .mode = 0444, .show = show_unix},
};

bool
proc_net_add(struct dentry *root)
{
    struct dentry *net = text_directory_add(root, "net");

    return net != NULL && text_nodes_add(net, nodes, QR_ARRAY_COUNT(nodes));
}
