/* SPDX-License-Identifier: MIT */
/*
 * AF_INET and AF_INET6 over the loopback: addresses and ports.
 *
 * The machine is its own network: 127.0.0.0/8 and ::1 are all the addresses that there are, and
 * every other one is ENETUNREACH.  An IPv4 address is kept as the IPv6 address that stands for it
 * (::ffff:a.b.c.d), so both families share one name space of ports as they do on Linux: a socket
 * bound to :: also hears IPv4 unless it said IPV6_V6ONLY.
 *
 * A bound socket, and so one that was accepted, stands in a table by its port.  All under net_lock.
 */

#include "socket.h"

#include <quire/assert.h>
#include <quire/port.h>

enum { PORT_BUCKETS = 256, PORT_FIRST = 32768, PORT_LAST = 60999, PORT_PRIVILEGED = 1024 };
enum { IN_BYTES = 16, IN6_BYTES = 28, IN6_LEAST_BYTES = 24, CAP_NET_BIND_SERVICE = 10 };

struct sockaddr_in {
    uint16_t family, port;
    uint8_t address[4];
    uint8_t zero[8];
};
_Static_assert(sizeof(struct sockaddr_in) == IN_BYTES, "Linux ABI");

struct sockaddr_in6 {
    uint16_t family, port;
    uint32_t flow;
    uint8_t address[16];
    uint32_t scope;
};
_Static_assert(sizeof(struct sockaddr_in6) == IN6_BYTES, "Linux ABI");

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
static const uint8_t v6_loopback[16] = {[15] = 1};
static const uint8_t v6_any[16];

static struct qr_list tcp_ports[PORT_BUCKETS]; /* N; a head that was never used is all zero */
static struct qr_list udp_ports[PORT_BUCKETS];

/* ---- addresses ------------------------------------------------------------------------------- */

static uint16_t
swap16(uint16_t value)
{
    return (uint16_t)(value << 8 | value >> 8);
}

static bool
is_v4(const struct endpoint *endpoint)
{
    return memcmp(endpoint->address, v4_prefix, sizeof v4_prefix) == 0;
}

static void
v4_set(struct endpoint *endpoint, const uint8_t address[4])
{
    memcpy(endpoint->address, v4_prefix, sizeof v4_prefix);
    memcpy(endpoint->address + sizeof v4_prefix, address, 4);
}

static bool
is_any(const struct endpoint *endpoint)
{
    static const uint8_t none[4];

    return is_v4(endpoint) ? memcmp(endpoint->address + sizeof v4_prefix, none, 4) == 0
                           : memcmp(endpoint->address, v6_any, sizeof v6_any) == 0;
}

static bool
is_loopback(const struct endpoint *endpoint)
{
    return is_v4(endpoint) ? endpoint->address[12] == 127
                           : memcmp(endpoint->address, v6_loopback, sizeof v6_loopback) == 0;
}

static bool
same_address(const struct endpoint *a, const struct endpoint *b)
{
    return memcmp(a->address, b->address, sizeof a->address) == 0;
}

static bool
same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && same_address(a, b);
}

static bool
v6_only(const struct socket *socket)
{
    return atomic_load(&socket->values[VALUE_V6_ONLY]) != 0;
}

/* What the program's bytes say, whether there is such a place or not. */
static int64_t
address_parse(const struct socket *socket, const struct address *address, struct endpoint *out)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    if (address->bytes < (socket->family == AF_INET ? IN_BYTES : IN6_LEAST_BYTES)) {
        return -EINVAL;
    }
    if (address->family != socket->family) {
        return -EAFNOSUPPORT;
    }
    if (socket->family == AF_INET) {
        memcpy(&in, address->raw, sizeof in);
        out->port = swap16(in.port);
        v4_set(out, in.address);
    } else {
        memcpy(&in6, address->raw, sizeof in6);
        out->port = swap16(in6.port);
        memcpy(out->address, in6.address, sizeof out->address);
    }
    return 0;
}

/* The loopback address of the family of @endpoint. */
static void
loopback_set(struct endpoint *endpoint)
{
    static const uint8_t v4_loopback[4] = {127, 0, 0, 1};

    if (is_v4(endpoint)) {
        v4_set(endpoint, v4_loopback);
    } else {
        memcpy(endpoint->address, v6_loopback, sizeof v6_loopback);
    }
}

int64_t
endpoint_of(struct socket *socket, const struct address *address, struct endpoint *out)
{
    int64_t error = address_parse(socket, address, out);

    if (error != 0) {
        return error;
    }
    if (is_any(out)) {
        loopback_set(out); /* as everywhere: nowhere in particular is here */
    }
    bool wrong_family = socket->family == AF_INET6 && is_v4(out) && v6_only(socket);
    return is_loopback(out) && !wrong_family ? 0 : -ENETUNREACH;
}

void
endpoint_tell(struct socket *socket, const struct endpoint *endpoint, struct address *out)
{
    memset(out, 0, sizeof *out);
    if (socket->family == AF_INET) {
        struct sockaddr_in in = {.family = AF_INET, .port = swap16(endpoint->port)};

        memcpy(in.address, endpoint->address + sizeof v4_prefix, sizeof in.address);
        memcpy(out->raw, &in, sizeof in);
        out->bytes = sizeof in;
    } else {
        struct sockaddr_in6 in6 = {.family = AF_INET6, .port = swap16(endpoint->port)};

        memcpy(in6.address, endpoint->address, sizeof in6.address);
        memcpy(out->raw, &in6, sizeof in6);
        out->bytes = sizeof in6;
    }
}

/* ---- ports --------------------------------------------------------------------------------------- */

static struct qr_list *
port_bucket(const struct socket *socket, uint16_t port)
{
    struct qr_list *table = socket->kind == &tcp_kind ? tcp_ports : udp_ports;
    struct qr_list *bucket = &table[port % PORT_BUCKETS];

    if (bucket->next == NULL) {
        qr_list_init(bucket);
    }
    return bucket;
}

/* Whether @socket, bound, hears what is sent to @address. */
static bool
covers(const struct socket *socket, const struct endpoint *address)
{
    const struct endpoint *own = &socket->inet.own;

    if (same_address(own, address)) {
        return true;
    }
    if (!is_any(own)) {
        return false;
    }
    return is_v4(own) ? is_v4(address) : !is_v4(address) || !v6_only(socket);
}

/* @a may have the port although the address overlaps with that of @b, which has it. */
static bool
may_share(const struct socket *a, const struct socket *b)
{
    if (atomic_load(&a->values[VALUE_REUSE_PORT]) && atomic_load(&b->values[VALUE_REUSE_PORT]) &&
        a->owner.uid == b->owner.uid) {
        return true;
    }
    return atomic_load(&a->values[VALUE_REUSE_ADDRESS]) &&
           atomic_load(&b->values[VALUE_REUSE_ADDRESS]) &&
           atomic_load(&b->state) != SOCKET_LISTENING;
}

/* Whether another socket is in the way of @socket as it is named now. */
static bool
is_taken(struct socket *socket, bool alone)
{
    qr_list_for_each(link, port_bucket(socket, socket->inet.own.port))
    {
        struct socket *other = qr_list_entry(link, struct socket, inet.link);

        if (other == socket || other->inet.own.port != socket->inet.own.port) {
            continue;
        }
        if (alone || ((covers(socket, &other->inet.own) || covers(other, &socket->inet.own)) &&
                      !may_share(socket, other))) {
            return true;
        }
    }
    return false;
}

static void
port_enter(struct socket *socket)
{
    qr_list_push_back(port_bucket(socket, socket->inet.own.port), &socket->inet.link);
}

/* A port of the range for those who do not care, that nobody else has. */
static bool
port_choose(struct socket *socket)
{
    const uint32_t count = PORT_LAST - PORT_FIRST + 1;
    uint32_t start;

    qr_port_random(&start, sizeof start);
    for (uint32_t i = 0; i < count; i++) {
        socket->inet.own.port = (uint16_t)(PORT_FIRST + (start % count + i) % count);
        if (!is_taken(socket, true)) {
            socket->inet.chosen = true;
            port_enter(socket);
            return true;
        }
    }
    socket->inet.own.port = 0;
    return false;
}

/* Before anything was bound: the address of all. */
static void
own_reset(struct socket *socket)
{
    static const uint8_t none[4];

    memset(&socket->inet.own, 0, sizeof socket->inet.own);
    if (socket->family == AF_INET) {
        v4_set(&socket->inet.own, none);
    }
}

static int64_t
inet_bind(struct socket *socket, const struct address *address)
{
    struct endpoint wanted;
    int64_t error = address_parse(socket, address, &wanted);

    /* Programs forgot the family of "any" for so long that it is allowed. */
    if (error == -EAFNOSUPPORT && socket->family == AF_INET && address->family == AF_UNSPEC) {
        struct address any = *address;

        any.family = AF_INET;
        error = address_parse(socket, &any, &wanted);
        error = error == 0 && !is_any(&wanted) ? -EAFNOSUPPORT : error;
    }
    if (error != 0) {
        return error;
    }
    if (!is_any(&wanted) && !is_loopback(&wanted)) {
        return -EADDRNOTAVAIL;
    }
    if (wanted.port != 0 && wanted.port < PORT_PRIVILEGED &&
        !process_has_capability(CAP_NET_BIND_SERVICE)) {
        return -EACCES;
    }
    if (socket->inet.own.port != 0 || atomic_load(&socket->state) != SOCKET_NEW) {
        return -EINVAL;
    }
    socket->inet.own = wanted;
    if (wanted.port == 0) {
        if (!port_choose(socket)) {
            own_reset(socket);
            return -EADDRINUSE;
        }
        socket->inet.chosen = false; /* it was asked for */
        return 0;
    }
    if (is_taken(socket, false)) {
        own_reset(socket);
        return -EADDRINUSE;
    }
    port_enter(socket);
    return 0;
}

/* For listen(), connect() and the first datagram. */
static int64_t
inet_bind_any(struct socket *socket)
{
    if (socket->inet.own.port != 0) {
        /* Several may be bound to a port that one listens at. */
        bool listens = atomic_load(&socket->state) == SOCKET_LISTENING;

        return listens && is_taken(socket, false) ? -EADDRINUSE : 0;
    }
    own_reset(socket);
    return port_choose(socket) ? 0 : -EADDRNOTAVAIL;
}

static struct dentry *
inet_unbind(struct socket *socket)
{
    qr_list_remove(&socket->inet.link);
    qr_list_init(&socket->inet.link);
    return NULL;
}

/* ---- finding ------------------------------------------------------------------------------------------ */

/* Whether @other may get what @from sends to @to. */
static bool
hears(const struct socket *other, const struct endpoint *to, const struct endpoint *from)
{
    if (other->inet.own.port != to->port || !covers(other, to)) {
        return false;
    }
    if (other->kind == &tcp_kind) {
        return atomic_load(&other->state) == SOCKET_LISTENING;
    }
    return other->inet.remote.port == 0 || same_endpoint(&other->inet.remote, from);
}

/* The more exactly it is named, the better. */
static unsigned
exactness(const struct socket *socket)
{
    return (socket->inet.remote.port != 0 ? 4u : 0u) + (is_any(&socket->inet.own) ? 0u : 2u) +
           (is_v4(&socket->inet.own) ? 1u : 0u);
}

/* Where @socket's words come from, for somebody at @to. */
static struct endpoint
source_for(const struct socket *socket, const struct endpoint *to)
{
    struct endpoint source = socket->inet.own;

    if (is_any(&source)) {
        memcpy(source.address, to->address, sizeof source.address);
        loopback_set(&source);
    }
    return source;
}

void
inet_source(struct socket *socket, const struct address *to, struct endpoint *out)
{
    struct endpoint remote;

    *out = socket->inet.own;
    if (endpoint_of(socket, to, &remote) == 0) {
        *out = source_for(socket, &remote);
    }
}

static int64_t
inet_find(struct socket *socket, const struct address *address, struct socket **out)
{
    struct endpoint to;
    struct socket *best = NULL;
    int64_t error = endpoint_of(socket, address, &to);

    if (error != 0) {
        return error;
    }
    struct endpoint from = source_for(socket, &to);
    qr_list_for_each(link, port_bucket(socket, to.port))
    {
        struct socket *other = qr_list_entry(link, struct socket, inet.link);

        if (hears(other, &to, &from) && (best == NULL || exactness(other) > exactness(best))) {
            best = other;
        }
    }
    if (socket->kind == &tcp_kind) {
        socket->inet.remote = to; /* it is connect() that asks */
    }
    if (best == NULL) {
        return -ECONNREFUSED;
    }
    socket_ref(best);
    *out = best;
    return 0;
}

/* connect() of UDP. */
static int64_t
udp_associate(struct socket *socket, const struct address *address)
{
    struct endpoint to = {.port = 0};

    if (address->family != AF_UNSPEC) {
        int64_t error = endpoint_of(socket, address, &to);

        if (error == 0) {
            error = inet_bind_any(socket);
        }
        if (error != 0) {
            return error;
        }
        socket->inet.own = source_for(socket, &to);
    } else if (socket->inet.chosen) {
        inet_unbind(socket);
        own_reset(socket);
        socket->inet.chosen = false;
    }
    socket->inet.remote = to;
    atomic_store(&socket->state, to.port == 0 ? SOCKET_NEW : SOCKET_CONNECTED);
    return 0;
}

static void
tcp_pair(struct socket *client, struct socket *server, struct socket *listener)
{
    qr_assert(listener != NULL);
    client->inet.own = source_for(client, &client->inet.remote);
    server->inet.own = client->inet.remote;
    server->inet.remote = client->inet.own;
    port_enter(server);
}

static void
inet_own_name(struct socket *socket, struct address *out)
{
    if (socket->inet.own.port == 0) {
        own_reset(socket);
    }
    endpoint_tell(socket, &socket->inet.own, out);
}

static int64_t
inet_peer_name(struct socket *socket, struct address *out)
{
    if (atomic_load(&socket->state) != SOCKET_CONNECTED) {
        return -ENOTCONN;
    }
    endpoint_tell(socket, &socket->inet.remote, out);
    return 0;
}

#define INET_OPERATIONS                                                                 \
    .family = AF_INET, .bind = inet_bind, .bind_any = inet_bind_any, .find = inet_find, \
    .associate = udp_associate, .pair = tcp_pair, .unbind = inet_unbind,                \
    .own_name = inet_own_name, .peer_name = inet_peer_name

const struct socket_kind tcp_kind = {INET_OPERATIONS,         .name = "TCP",    .type = SOCK_STREAM,
                                     .protocol = IPPROTO_TCP, .connects = true, .is_stream = true};
const struct socket_kind udp_kind = {INET_OPERATIONS, .name = "UDP", .type = SOCK_DGRAM,
                                     .protocol = IPPROTO_UDP};
