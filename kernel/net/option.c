/* SPDX-License-Identifier: MIT */
/*
 * Socket options: one table of numbers, and the few that are more than a number.
 *
 * Options that steer a wire (TCP_NODELAY, SO_KEEPALIVE, IP_TTL ...) have nothing to steer here: they
 * are checked, kept and told again.
 */

#include "option.h"

#include "socket.h"

enum { SEND_BYTES = 212992, RECEIVE_BYTES = 212992, TCP_SEND_BYTES = 16384 };
enum { TCP_RECEIVE_BYTES = 131072, SEND_BYTES_LEAST = 4608, RECEIVE_BYTES_LEAST = 2304 };
enum { CAP_NET_ADMIN = 12 };

/* Which sockets know an option. */
enum { ON_UNIX = 1, ON_TCP = 2, ON_UDP = 4, ON_V6 = 8, ON_INET = ON_TCP | ON_UDP, ON_ALL = 7 };

enum {
    SO_DEBUG = 1,
    SO_REUSEADDR = 2,
    SO_TYPE = 3,
    SO_ERROR = 4,
    SO_DONTROUTE = 5,
    SO_BROADCAST = 6,
    SO_SNDBUF = 7,
    SO_RCVBUF = 8,
    SO_KEEPALIVE = 9,
    SO_OOBINLINE = 10,
    SO_PRIORITY = 12,
    SO_LINGER = 13,
    SO_REUSEPORT = 15,
    SO_PASSCRED = 16,
    SO_PEERCRED = 17,
    SO_RCVLOWAT = 18,
    SO_SNDLOWAT = 19,
    SO_RCVTIMEO_OLD = 20,
    SO_SNDTIMEO_OLD = 21,
    SO_TIMESTAMP = 29,
    SO_ACCEPTCONN = 30,
    SO_SNDBUFFORCE = 32,
    SO_RCVBUFFORCE = 33,
    SO_PROTOCOL = 38,
    SO_DOMAIN = 39,
    SO_RCVTIMEO_NEW = 66,
    SO_SNDTIMEO_NEW = 67
};

struct number_row {
    uint16_t level, name;
    uint16_t value; /* enum socket_value */
    uint16_t where;
    bool is_switch; /* whatever is not 0 becomes 1 */
    int32_t least, most, first;
};

enum { NO_LIMIT = INT32_MAX };

static const struct number_row rows[] = {
    {SOL_SOCKET, SO_REUSEADDR, VALUE_REUSE_ADDRESS, ON_ALL, true, 0, 0, 0},
    {SOL_SOCKET, SO_REUSEPORT, VALUE_REUSE_PORT, ON_ALL, true, 0, 0, 0},
    {SOL_SOCKET, SO_PASSCRED, VALUE_PASS_CREDENTIALS, ON_UNIX, true, 0, 0, 0},
    {SOL_SOCKET, SO_RCVLOWAT, VALUE_LOW_WATER, ON_ALL, false, INT32_MIN, NO_LIMIT, 1},
    {IPPROTO_IPV6, 26 /* V6ONLY */, VALUE_V6_ONLY, ON_V6, true, 0, 0, 0},
    {SOL_SOCKET, SO_DEBUG, VALUE_PLAIN + 0, ON_ALL, true, 0, 0, 0},
    {SOL_SOCKET, SO_DONTROUTE, VALUE_PLAIN + 1, ON_ALL, true, 0, 0, 0},
    {SOL_SOCKET, SO_BROADCAST, VALUE_PLAIN + 2, ON_ALL, true, 0, 0, 0},
    {SOL_SOCKET, SO_KEEPALIVE, VALUE_PLAIN + 3, ON_ALL, true, 0, 0, 0},
    {SOL_SOCKET, SO_OOBINLINE, VALUE_PLAIN + 4, ON_ALL, true, 0, 0, 0},
    {SOL_SOCKET, SO_PRIORITY, VALUE_PLAIN + 5, ON_ALL, false, INT32_MIN, NO_LIMIT, 0},
    {SOL_SOCKET, SO_TIMESTAMP, VALUE_PLAIN + 6, ON_ALL, true, 0, 0, 0},
    {IPPROTO_TCP, 1 /* NODELAY */, VALUE_PLAIN + 7, ON_TCP, true, 0, 0, 0},
    {IPPROTO_TCP, 2 /* MAXSEG */, VALUE_PLAIN + 8, ON_TCP, false, 88, 32767, 536},
    {IPPROTO_TCP, 3 /* CORK */, VALUE_PLAIN + 9, ON_TCP, true, 0, 0, 0},
    {IPPROTO_TCP, 4 /* KEEPIDLE */, VALUE_PLAIN + 10, ON_TCP, false, 1, 32767, 7200},
    {IPPROTO_TCP, 5 /* KEEPINTVL */, VALUE_PLAIN + 11, ON_TCP, false, 1, 32767, 75},
    {IPPROTO_TCP, 6 /* KEEPCNT */, VALUE_PLAIN + 12, ON_TCP, false, 1, 127, 9},
    {IPPROTO_TCP, 7 /* SYNCNT */, VALUE_PLAIN + 13, ON_TCP, false, 1, 127, 6},
    {IPPROTO_TCP, 12 /* QUICKACK */, VALUE_PLAIN + 14, ON_TCP, true, 0, 0, 1},
    {IPPROTO_TCP, 18 /* USER_TIMEOUT */, VALUE_PLAIN + 15, ON_TCP, false, 0, NO_LIMIT, 0},
    {IPPROTO_IP, 1 /* TOS */, VALUE_PLAIN + 16, ON_INET, false, INT32_MIN, NO_LIMIT, 0},
    {IPPROTO_IP, 2 /* TTL */, VALUE_PLAIN + 17, ON_INET, false, 1, 255, 64},
    {IPPROTO_IP, 10 /* MTU_DISCOVER */, VALUE_PLAIN + 18, ON_INET, false, 0, 5, 1},
    {IPPROTO_IPV6, 16 /* UNICAST_HOPS */, VALUE_PLAIN + 19, ON_V6, false, -1, 255, 64},
    {IPPROTO_IPV6, 67 /* TCLASS */, VALUE_PLAIN + 20, ON_V6, false, -1, 255, 0},
};

/* ---- numbers ------------------------------------------------------------------------------- */

static uint32_t
place_of(const struct socket *socket)
{
    uint32_t place = socket_is_unix(socket) ? ON_UNIX : socket->kind == &tcp_kind ? ON_TCP : ON_UDP;

    return place | (socket->family == AF_INET6 ? ON_V6 : 0u);
}

static const struct number_row *
row_find(const struct socket *socket, uint32_t level, uint32_t name)
{
    for (size_t i = 0; i < QR_ARRAY_COUNT(rows); i++) {
        if (rows[i].level == level && rows[i].name == name && (rows[i].where & place_of(socket))) {
            return &rows[i];
        }
    }
    return NULL;
}

static void
buffers_init(struct socket *socket)
{
    bool is_tcp = socket->kind == &tcp_kind;

    atomic_init(&socket->values[VALUE_SEND_BYTES], is_tcp ? TCP_SEND_BYTES : SEND_BYTES);
    atomic_init(&socket->values[VALUE_RECEIVE_BYTES], is_tcp ? TCP_RECEIVE_BYTES : RECEIVE_BYTES);
}

void
options_init(struct socket *socket)
{
    for (size_t i = 0; i < QR_ARRAY_COUNT(rows); i++) {
        atomic_init(&socket->values[rows[i].value], rows[i].first);
    }
    buffers_init(socket);
}

void
options_inherit(struct socket *socket, const struct socket *from)
{
    if (socket_is_unix(socket)) {
        int32_t passes = atomic_load(&from->values[VALUE_PASS_CREDENTIALS]);

        atomic_store(&socket->values[VALUE_PASS_CREDENTIALS], passes);
        return;
    }
    for (unsigned i = 0; i < VALUE_COUNT; i++) {
        atomic_store(&socket->values[i], atomic_load(&from->values[i]));
    }
    atomic_store(&socket->send_timeout, atomic_load(&from->send_timeout));
    atomic_store(&socket->receive_timeout, atomic_load(&from->receive_timeout));
}

/* ---- set --------------------------------------------------------------------------------------- */

static int64_t
number_set(struct socket *socket, const struct number_row *row, int32_t value)
{
    if (row->is_switch) {
        value = value != 0;
    } else if (value < row->least || value > row->most) {
        return -EINVAL;
    }
    if (row->value == VALUE_LOW_WATER && value <= 0) {
        value = value < 0 ? NO_LIMIT : 1;
    }
    if (row->value == VALUE_V6_ONLY && socket->inet.own.port != 0) {
        return -EINVAL;
    }
    atomic_store(&socket->values[row->value], value);
    return 0;
}

/* As Linux: twice what is asked for, for what packets cost beyond their bytes. */
static int64_t
buffer_set(struct socket *socket, bool sends, int32_t bytes, bool force)
{
    int32_t most = sends ? SEND_BYTES : RECEIVE_BYTES;
    int32_t least = sends ? SEND_BYTES_LEAST : RECEIVE_BYTES_LEAST;

    if (force && !process_has_capability(CAP_NET_ADMIN)) {
        return -EPERM;
    }
    if (force) {
        most = INT32_MAX / 2;
        bytes = bytes < 0 ? 0 : bytes;
    }
    /* A negative number is a large one, as on Linux. */
    bytes = (uint32_t)bytes > (uint32_t)most ? most : bytes;
    bytes = bytes * 2 > least ? bytes * 2 : least;
    atomic_store(&socket->values[sends ? VALUE_SEND_BYTES : VALUE_RECEIVE_BYTES], bytes);
    if (sends) {
        socket_wake(socket);
    }
    return 0;
}

/* struct timeval: of the program's longs, or of 64 bits. */
static int64_t
timeout_set(_Atomic uint64_t *timeout, uint64_t user, uint32_t bytes, bool wide)
{
    int64_t time[2];
    intptr_t narrow[2];

    if (bytes < (wide ? sizeof time : sizeof narrow)) {
        return -EINVAL;
    }
    if (user_read(wide ? (void *)time : (void *)narrow, user, wide ? sizeof time : sizeof narrow)) {
        return -EFAULT;
    }
    if (!wide) {
        time[0] = narrow[0];
        time[1] = narrow[1];
    }
    if (time[1] < 0 || time[1] >= 1000000) {
        return -EDOM;
    }
    uint64_t ns = time[0] < 0 ? 1 : (uint64_t)time[1] * 1000;
    if (time[0] > INT64_MAX / 1000000000 - 1) {
        ns = 0; /* for ever */
    } else if (time[0] > 0) {
        ns += (uint64_t)time[0] * 1000000000u;
    }
    atomic_store(timeout, ns);
    return 0;
}

static int64_t
linger_set(struct socket *socket, uint64_t user, uint32_t bytes)
{
    int32_t linger[2];

    if (bytes < sizeof linger) {
        return -EINVAL;
    }
    if (user_read(linger, user, sizeof linger) != 0) {
        return -EFAULT;
    }
    atomic_store(&socket->values[VALUE_LINGER], linger[0] != 0);
    atomic_store(&socket->values[VALUE_LINGER_SECONDS], linger[1]);
    return 0;
}

static int64_t
socket_level_set(struct socket *socket, uint32_t name, uint64_t user, uint32_t bytes, int32_t value)
{
    switch (name) {
    case SO_SNDBUF:
    case SO_SNDBUFFORCE:
        return buffer_set(socket, true, value, name == SO_SNDBUFFORCE);
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
        return buffer_set(socket, false, value, name == SO_RCVBUFFORCE);
    case SO_LINGER:
        return linger_set(socket, user, bytes);
    case SO_RCVTIMEO_OLD:
    case SO_RCVTIMEO_NEW:
        return timeout_set(&socket->receive_timeout, user, bytes, name == SO_RCVTIMEO_NEW);
    case SO_SNDTIMEO_OLD:
    case SO_SNDTIMEO_NEW:
        return timeout_set(&socket->send_timeout, user, bytes, name == SO_SNDTIMEO_NEW);
    default:
        return -ENOPROTOOPT;
    }
}

int64_t
option_set(struct socket *socket, uint32_t level, uint32_t name, uint64_t user, int32_t bytes)
{
    const struct number_row *row = row_find(socket, level, name);
    uint32_t value;

    if (bytes < 0) {
        return -EINVAL;
    }
    if (level != SOL_SOCKET && row == NULL) {
        return socket_is_unix(socket) ? -EOPNOTSUPP : -ENOPROTOOPT;
    }
    if ((uint32_t)bytes < sizeof value) {
        return -EINVAL;
    }
    if (user_read_u32(&value, user) != 0) {
        return -EFAULT;
    }
    return row != NULL ? number_set(socket, row, (int32_t)value)
                       : socket_level_set(socket, name, user, (uint32_t)bytes, (int32_t)value);
}

/* ---- get ------------------------------------------------------------------------------------------- */

/* What an option reads as. */
union option_text {
    int32_t number;
    int32_t linger[2];
    int64_t time[2];
    intptr_t narrow_time[2];
    struct sender_id id;
};

static uint32_t
timeout_tell(uint64_t ns, bool wide, union option_text *out)
{
    int64_t seconds = (int64_t)(ns / 1000000000u), fraction = (int64_t)(ns % 1000000000u / 1000);

    if (wide) {
        out->time[0] = seconds;
        out->time[1] = fraction;
        return sizeof out->time;
    }
    out->narrow_time[0] = (intptr_t)seconds;
    out->narrow_time[1] = (intptr_t)fraction;
    return sizeof out->narrow_time;
}

static uint32_t
peer_tell(struct socket *socket, union option_text *out)
{
    qr_mutex_lock(&net_lock);
    out->id = socket->peer_owner;
    if (out->id.pid == 0) {
        out->id.uid = out->id.gid = UINT32_MAX; /* nobody */
    }
    qr_mutex_unlock(&net_lock);
    return sizeof out->id;
}

/* @return bytes of @out, or 0: there is no such option */
static uint32_t
socket_level_get(struct socket *socket, uint32_t name, union option_text *out)
{
    switch (name) {
    case SO_TYPE:
        out->number = socket->kind->type;
        break;
    case SO_PROTOCOL:
        out->number = socket->kind->protocol;
        break;
    case SO_DOMAIN:
        out->number = socket->family;
        break;
    case SO_ERROR:
        out->number = (int32_t)-socket_take_error(socket);
        break;
    case SO_ACCEPTCONN:
        out->number = atomic_load(&socket->state) == SOCKET_LISTENING;
        break;
    case SO_SNDBUF:
        out->number = atomic_load(&socket->values[VALUE_SEND_BYTES]);
        break;
    case SO_RCVBUF:
        out->number = atomic_load(&socket->values[VALUE_RECEIVE_BYTES]);
        break;
    case SO_SNDLOWAT:
        out->number = 1;
        break;
    case SO_LINGER:
        out->linger[0] = atomic_load(&socket->values[VALUE_LINGER]);
        out->linger[1] = atomic_load(&socket->values[VALUE_LINGER_SECONDS]);
        return sizeof out->linger;
    case SO_PEERCRED:
        return peer_tell(socket, out);
    case SO_RCVTIMEO_OLD:
    case SO_RCVTIMEO_NEW:
        return timeout_tell(atomic_load(&socket->receive_timeout), name == SO_RCVTIMEO_NEW, out);
    case SO_SNDTIMEO_OLD:
    case SO_SNDTIMEO_NEW:
        return timeout_tell(atomic_load(&socket->send_timeout), name == SO_SNDTIMEO_NEW, out);
    default:
        return 0;
    }
    return sizeof out->number;
}

/* Whether options of @level, and not this one only, have a meaning for @socket. */
static bool
has_level(const struct socket *socket, uint32_t level)
{
    if (socket_is_unix(socket)) {
        return false;
    }
    return level == IPPROTO_IP || (level == IPPROTO_TCP && socket->kind == &tcp_kind) ||
           (level == IPPROTO_IPV6 && socket->family == AF_INET6);
}

int64_t
option_get(struct socket *socket, uint32_t level, uint32_t name, uint64_t user, uint64_t user_bytes)
{
    const struct number_row *row = row_find(socket, level, name);
    union option_text text;
    uint32_t room, bytes = sizeof text.number;

    if (level != SOL_SOCKET && row == NULL) {
        return has_level(socket, level) ? -ENOPROTOOPT : -EOPNOTSUPP;
    }
    if (user_read_u32(&room, user_bytes) != 0) {
        return -EFAULT;
    }
    if ((int32_t)room < 0) {
        return -EINVAL;
    }
    if (row != NULL) {
        text.number = atomic_load(&socket->values[row->value]);
    } else {
        bytes = socket_level_get(socket, name, &text);
    }
    if (bytes == 0) {
        return -ENOPROTOOPT;
    }
    bytes = bytes < room ? bytes : room;
    if (user_write(user, &text, bytes) != 0) {
        return -EFAULT;
    }
    return user_write_u32(user_bytes, bytes);
}
