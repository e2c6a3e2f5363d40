/* SPDX-License-Identifier: MIT */
/*
 * getsockopt(2), setsockopt(2), ioctl and fcntl of sockets.
 */
#include "net.h"

static int zero = 0, one = 1, minus = -1, many = 1 << 30;
static socklen_t four = 4, two = 2, below = (socklen_t)-1;
static int value[8];

#define SET(fd, level, name, number)      \
    {                                     \
        fd, level, name, (long)&number, 4 \
    }
#define GET(fd, level, name)                      \
    {                                             \
        fd, level, name, (long)value, (long)&four \
    }

static const struct net_row rows[] = {
    {"setsockopt: reuse", SYS_setsockopt, SET(TCP_NEW, SOL_SOCKET, SO_REUSEADDR, one), 0},
    {"setsockopt: no delay", SYS_setsockopt, SET(TCP_NEW, IPPROTO_TCP, TCP_NODELAY, one), 0},
    {"setsockopt: keep alive", SYS_setsockopt, SET(TCP_NEW, SOL_SOCKET, SO_KEEPALIVE, one), 0},
    {"setsockopt: keep idle, none", SYS_setsockopt, SET(TCP_NEW, IPPROTO_TCP, TCP_KEEPIDLE, zero),
     -EINVAL},
    {"setsockopt: keep count, too many", SYS_setsockopt,
     SET(TCP_NEW, IPPROTO_TCP, TCP_KEEPCNT, many), -EINVAL},
    {"setsockopt: ttl", SYS_setsockopt, SET(UDP_NEW, IPPROTO_IP, IP_TTL, one), 0},
    {"setsockopt: ttl beyond", SYS_setsockopt, SET(UDP_NEW, IPPROTO_IP, IP_TTL, many), -EINVAL},
    {"setsockopt: tcp's on unix", SYS_setsockopt, SET(UNIX_A, IPPROTO_TCP, TCP_NODELAY, one),
     -EOPNOTSUPP},
    {"setsockopt: tcp's on udp", SYS_setsockopt, SET(UDP_NEW, IPPROTO_TCP, TCP_NODELAY, one),
     -ENOPROTOOPT},
    {"setsockopt: no such name", SYS_setsockopt, SET(TCP_NEW, SOL_SOCKET, 9999, one), -ENOPROTOOPT},
    {"setsockopt: no such name of tcp", SYS_setsockopt, SET(TCP_NEW, IPPROTO_TCP, 9999, one),
     -ENOPROTOOPT},
    {"setsockopt: only to be read", SYS_setsockopt, SET(TCP_NEW, SOL_SOCKET, SO_TYPE, one),
     -ENOPROTOOPT},
    {"setsockopt: too short",
     SYS_setsockopt,
     {TCP_NEW, SOL_SOCKET, SO_REUSEADDR, (long)&one, 3},
     -EINVAL},
    {"setsockopt: below zero",
     SYS_setsockopt,
     {TCP_NEW, SOL_SOCKET, SO_REUSEADDR, (long)&one, -1},
     -EINVAL},
    {"setsockopt: no value there",
     SYS_setsockopt,
     {TCP_NEW, SOL_SOCKET, SO_REUSEADDR, BAD_PTR, 4},
     -EFAULT},
    {"setsockopt: linger too short", SYS_setsockopt, SET(TCP_NEW, SOL_SOCKET, SO_LINGER, one),
     -EINVAL},
    {"setsockopt: time too short", SYS_setsockopt, SET(TCP_NEW, SOL_SOCKET, SO_RCVTIMEO, one),
     -EINVAL},
    {"setsockopt: no descriptor", SYS_setsockopt, SET(NO_FD, SOL_SOCKET, SO_REUSEADDR, one),
     -EBADF},
    {"setsockopt: no socket", SYS_setsockopt, SET(A_FILE, SOL_SOCKET, SO_REUSEADDR, one),
     -ENOTSOCK},
    {"getsockopt: type", SYS_getsockopt, GET(TCP_NEW, SOL_SOCKET, SO_TYPE), 0},
    {"getsockopt: no such name", SYS_getsockopt, GET(TCP_NEW, SOL_SOCKET, 9999), -ENOPROTOOPT},
    {"getsockopt: tcp's on unix", SYS_getsockopt, GET(UNIX_A, IPPROTO_TCP, TCP_NODELAY),
     -EOPNOTSUPP},
    {"getsockopt: tcp's on udp", SYS_getsockopt, GET(UDP_NEW, IPPROTO_TCP, TCP_NODELAY),
     -EOPNOTSUPP},
    {"getsockopt: below zero",
     SYS_getsockopt,
     {TCP_NEW, SOL_SOCKET, SO_TYPE, (long)value, (long)&below},
     -EINVAL},
    {"getsockopt: nowhere",
     SYS_getsockopt,
     {TCP_NEW, SOL_SOCKET, SO_TYPE, BAD_PTR, (long)&four},
     -EFAULT},
    {"getsockopt: no length there",
     SYS_getsockopt,
     {TCP_NEW, SOL_SOCKET, SO_TYPE, (long)value, BAD_PTR},
     -EFAULT},
    {"getsockopt: no descriptor", SYS_getsockopt, GET(NO_FD, SOL_SOCKET, SO_TYPE), -EBADF},
    {"getsockopt: no socket", SYS_getsockopt, GET(A_PIPE, SOL_SOCKET, SO_TYPE), -ENOTSOCK},
    {"ioctl: no such thing", SYS_ioctl, {TCP_CLIENT, 0x12345, 0}, -ENOTTY},
    {"ioctl: what a listener has", SYS_ioctl, {TCP_LISTENER, FIONREAD, (long)value}, -EINVAL},
    {"ioctl: nowhere", SYS_ioctl, {UNIX_A, FIONREAD, BAD_PTR}, -EFAULT},
    {"fsync", SYS_fsync, {UNIX_A}, -EINVAL},
    {"ftruncate", SYS_ftruncate, {UNIX_A, 0}, -EINVAL},
};

static int
number(int fd, int level, int name)
{
    socklen_t length = sizeof(int);
    int got = -12345;

    if (getsockopt(fd, level, name, &got, &length) != 0 || length != sizeof(int))
        return -errno;
    return got;
}

static int
number_set(int fd, int level, int name, int to)
{
    setsockopt(fd, level, name, &to, sizeof(to));
    return number(fd, level, name);
}

TOPIC(options)
{
    NET_RUN(rows);
    EXPECT(number(TCP_NEW, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    EXPECT(number(TCP_NEW, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    EXPECT(number(TCP6_NEW, SOL_SOCKET, SO_DOMAIN), AF_INET6);
    EXPECT(number(UNIX_DGRAM, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
    EXPECT(number(UNIX_DGRAM, SOL_SOCKET, SO_PROTOCOL), 0);
    EXPECT(number(TCP_LISTENER, SOL_SOCKET, SO_ACCEPTCONN), 1);
    EXPECT(number(TCP_NEW, SOL_SOCKET, SO_ACCEPTCONN), 0);
    EXPECT(number(TCP_NEW, SOL_SOCKET, SO_ERROR), 0);
    EXPECT(number(TCP_NEW, SOL_SOCKET, SO_RCVLOWAT), 1);
    EXPECT(number(TCP_NEW, IPPROTO_TCP, TCP_KEEPIDLE), 7200);
    EXPECT(number(UDP_NEW, IPPROTO_IP, IP_TTL), 64);
    EXPECT(number_set(TCP_NEW, IPPROTO_TCP, TCP_NODELAY, 5), 1);
    EXPECT(number_set(TCP_NEW, IPPROTO_TCP, TCP_KEEPINTVL, 33), 33);
    EXPECT(number_set(TCP_NEW, SOL_SOCKET, SO_KEEPALIVE, 1), 1);
    EXPECT(number_set(UNIX_A, SOL_SOCKET, SO_PASSCRED, 1), 1);
    EXPECT(number_set(TCP6_NEW, IPPROTO_IPV6, IPV6_V6ONLY, 1), 1);

    /* Twice what is asked for, within bounds. */
    EXPECT(number(UNIX_A, SOL_SOCKET, SO_SNDBUF), 212992);
    EXPECT(number_set(UNIX_A, SOL_SOCKET, SO_SNDBUF, 20000), 40000);
    EXPECT(number_set(UNIX_A, SOL_SOCKET, SO_RCVBUF, 20000), 40000);
    if (on_quire()) /* net.core.wmem_max */
        EXPECT(number_set(UNIX_A, SOL_SOCKET, SO_SNDBUF, 1 << 29), 2 * 212992);
    EXPECT(number_set(UNIX_A, SOL_SOCKET, SO_RCVBUF, 1), 2304);
    EXPECT(number_set(UNIX_A, SOL_SOCKET, SO_SNDBUF, 1) >= 4096, 1);

    struct linger linger = {1, 7};
    socklen_t length = sizeof(linger);
    EXPECT(setsockopt(TCP_NEW, SOL_SOCKET, SO_LINGER, &linger, length), 0);
    linger = (struct linger){0, 0};
    EXPECT(getsockopt(TCP_NEW, SOL_SOCKET, SO_LINGER, &linger, &length), 0);
    EXPECT(linger.l_onoff == 1 && linger.l_linger == 7, 1);
    /* Cut to the room there is. */
    memset(value, 0xff, sizeof(value));
    EXPECT(getsockopt(TCP_LISTENER, SOL_SOCKET, SO_ACCEPTCONN, value, &two), 0);
    EXPECT(two, 2);
    EXPECT((unsigned)value[0], 0xffff0001u);
    (void)minus;

    /* An error is told once. */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct pollfd wait = {fd, POLLOUT, 0};
    connect(fd, (struct sockaddr *)&free_address, 16);
    poll(&wait, 1, 10000);
    EXPECT(number(fd, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    EXPECT(number(fd, SOL_SOCKET, SO_ERROR), 0);
    close(fd);
    EXPECT(ioctl(UNIX_A, FIONBIO, &one), 0);
    EXPECT(fcntl(UNIX_A, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    EXPECT(R(read(UNIX_A, value, 1)), -EAGAIN);
    EXPECT(ioctl(UNIX_A, FIONBIO, &zero), 0);
    EXPECT(fcntl(UNIX_A, F_GETFL) & O_NONBLOCK, 0);
}
