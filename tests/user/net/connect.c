/* SPDX-License-Identifier: MIT */
/*
 * listen(2), connect(2), accept(2), accept4(2), getpeername(2).
 */
#include "net.h"

#include <pthread.h>

#define AN(address, length) (long)&address, length
static struct sockaddr_un plain_file = {AF_UNIX, "/dev/null"};
static struct sockaddr_in unspecified = {.sin_family = AF_UNSPEC};
static char name[200];
static socklen_t full = sizeof(name), minus = (socklen_t)-1;

static const struct net_row rows[] = {
    {"listen: again", SYS_listen, {TCP_LISTENER, 1}, 0},
    {"listen: tcp without a name", SYS_listen, {TCP_NEW, 1}, 0},
    {"listen: unix without a name", SYS_listen, {UNIX_NEW, 1}, -EINVAL},
    {"listen: connected", SYS_listen, {TCP_CLIENT, 1}, -EINVAL},
    {"listen: unix connected", SYS_listen, {UNIX_A, 1}, -EINVAL},
    {"listen: datagrams", SYS_listen, {UNIX_DGRAM, 1}, -EOPNOTSUPP},
    {"listen: udp", SYS_listen, {UDP_NEW, 1}, -EOPNOTSUPP},
    {"listen: no descriptor", SYS_listen, {NO_FD, 1}, -EBADF},
    {"listen: no socket", SYS_listen, {A_FILE, 1}, -ENOTSOCK},
    {"connect: unix", SYS_connect, {UNIX_NEW, AN(unix_address, sizeof(unix_address))}, 0},
    {"connect: unix, no name",
     SYS_connect,
     {UNIX_NEW, AN(absent_address, sizeof(absent_address))},
     -ENOENT},
    {"connect: unix, a plain file",
     SYS_connect,
     {UNIX_NEW, AN(plain_file, sizeof(plain_file))},
     -ECONNREFUSED},
    {"connect: unix, another type",
     SYS_connect,
     {UNIX_NEW, AN(dgram_address, sizeof(dgram_address))},
     -EPROTOTYPE},
    {"connect: unix, abstract and absent",
     SYS_connect,
     {UNIX_NEW, AN(abstract_address, 15)},
     -ECONNREFUSED},
    {"connect: unix, connected",
     SYS_connect,
     {UNIX_A, AN(unix_address, sizeof(unix_address))},
     -EISCONN},
    {"connect: unix, a listener",
     SYS_connect,
     {UNIX_LISTENER, AN(unix_address, sizeof(unix_address))},
     -EINVAL},
    {"connect: unix, no length", SYS_connect, {UNIX_NEW, AN(unix_address, 2)}, -EINVAL},
    {"connect: unix, another family", SYS_connect, {UNIX_NEW, AN(tcp_address, 16)}, -EINVAL},
    {"connect: unix datagrams",
     SYS_connect,
     {UNIX_DGRAM, AN(dgram_address, sizeof(dgram_address))},
     0},
    {"connect: unix datagrams to a stream",
     SYS_connect,
     {UNIX_DGRAM, AN(unix_address, sizeof(unix_address))},
     -EPROTOTYPE},
    {"connect: tcp", SYS_connect, {TCP_NEW, AN(tcp_address, 16)}, 0},
    {"connect: tcp, nobody there", SYS_connect, {TCP_NEW, AN(free_address, 16)}, -ECONNREFUSED},
    {"connect: tcp, connected", SYS_connect, {TCP_CLIENT, AN(tcp_address, 16)}, -EISCONN},
    {"connect: tcp, a listener", SYS_connect, {TCP_LISTENER, AN(tcp_address, 16)}, -EISCONN},
    {"connect: tcp, too short", SYS_connect, {TCP_NEW, AN(tcp_address, 15)}, -EINVAL},
    {"connect: tcp, another family", SYS_connect, {TCP_NEW, AN(unix_address, 16)}, -EAFNOSUPPORT},
    {"connect: tcp6, nobody there", SYS_connect, {TCP6_NEW, AN(tcp6_address, 28)}, -ECONNREFUSED},
    {"connect: udp, nobody there", SYS_connect, {UDP_NEW, AN(free_address, 16)}, 0},
    {"connect: udp, forget", SYS_connect, {UDP_NEW, AN(unspecified, 16)}, 0},
    {"connect: no address there", SYS_connect, {TCP_NEW, BAD_PTR, 16}, -EFAULT},
    {"connect: length below zero", SYS_connect, {TCP_NEW, AN(tcp_address, -1)}, -EINVAL},
    {"connect: no descriptor", SYS_connect, {NO_FD, AN(tcp_address, 16)}, -EBADF},
    {"connect: no socket", SYS_connect, {A_PIPE, AN(tcp_address, 16)}, -ENOTSOCK},
    {"accept4: nobody, and no wait", SYS_accept4, {TCP_CLIENT, 0, 0, 0}, -EINVAL},
    {"accept4: unix, does not listen", SYS_accept4, {UNIX_NEW, 0, 0, 0}, -EINVAL},
    {"accept4: datagrams", SYS_accept4, {UDP_NEW, 0, 0, 0}, -EOPNOTSUPP},
    {"accept4: unknown flags", SYS_accept4, {TCP_LISTENER, 0, 0, 1}, -EINVAL},
    {"accept4: no descriptor", SYS_accept4, {NO_FD, 0, 0, 0}, -EBADF},
    {"accept4: no socket", SYS_accept4, {A_FILE, 0, 0, 0}, -ENOTSOCK},
    {"getpeername", SYS_getpeername, {TCP_CLIENT, (long)name, (long)&full}, 0},
    {"getpeername: not connected", SYS_getpeername, {TCP_NEW, (long)name, (long)&full}, -ENOTCONN},
    {"getpeername: unix, not connected",
     SYS_getpeername,
     {UNIX_NEW, (long)name, (long)&full},
     -ENOTCONN},
    {"getpeername: a listener",
     SYS_getpeername,
     {TCP_LISTENER, (long)name, (long)&full},
     -ENOTCONN},
    {"getpeername: length below zero",
     SYS_getpeername,
     {TCP_CLIENT, (long)name, (long)&minus},
     -EINVAL},
    {"getpeername: nowhere", SYS_getpeername, {TCP_CLIENT, BAD_PTR, (long)&full}, -EFAULT},
    {"getpeername: no descriptor", SYS_getpeername, {NO_FD, (long)name, (long)&full}, -EBADF},
    {"getpeername: no socket", SYS_getpeername, {A_PIPE, (long)name, (long)&full}, -ENOTSOCK},
};

static long
accept_now(int listener)
{
    fcntl(listener, F_SETFL, O_NONBLOCK);
    return R(accept(listener, NULL, NULL));
}

static void
queue_of(int listener, int family, int type, const void *address, socklen_t length, bool waits)
{
    int clients[3], accepted;

    EXPECT(accept_now(listener), -EAGAIN);
    EXPECT(poll_now(listener), 0);
    EXPECT(listen(listener, 1), 0);
    /* One more than the number. */
    for (int i = 0; i < 3; i++)
        clients[i] = must(socket(family, type | (i == 2 ? SOCK_NONBLOCK : 0), 0));
    EXPECT(connect(clients[0], address, length), 0);
    EXPECT(connect(clients[1], address, length), 0);
    EXPECT(R(connect(clients[2], address, length)), waits ? -EINPROGRESS : -EAGAIN);
    if (waits)
        EXPECT(R(connect(clients[2], address, length)), -EALREADY);
    EXPECT(poll_now(listener), POLLIN);
    /* What is connected may send before anybody accepts. */
    EXPECT(write(clients[0], "early", 5), 5);
    accepted = (int)accept_now(listener);
    EXPECT(accepted > 0, 1);
    EXPECT(read(accepted, bytes_in, 10), 5);
    close(accepted);
    for (int i = 0; i < 3; i++)
        close(clients[i]);
}

static void
nonblocking_tcp(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), error = -1;
    socklen_t length = sizeof(error);
    struct pollfd one = {fd, POLLOUT, 0};

    net_arena();
    EXPECT(R(connect(fd, (struct sockaddr *)&tcp_address, 16)), -EINPROGRESS);
    EXPECT(poll(&one, 1, 10000), 1);
    EXPECT(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    EXPECT(error, 0);
    EXPECT(R(connect(fd, (struct sockaddr *)&tcp_address, 16)), 0);
    EXPECT(R(connect(fd, (struct sockaddr *)&tcp_address, 16)), -EISCONN);
    close(fd);
    fd = one.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    EXPECT(R(connect(fd, (struct sockaddr *)&free_address, 16)), -EINPROGRESS);
    EXPECT(poll(&one, 1, 10000), 1);
    EXPECT(one.revents, POLLOUT | POLLERR | POLLHUP);
    EXPECT(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    EXPECT(error, ECONNREFUSED);
    /* It may try again. */
    EXPECT(R(connect(fd, (struct sockaddr *)&free_address, 16)), -ECONNABORTED);
    EXPECT(R(connect(fd, (struct sockaddr *)&tcp_address, 16)), -EINPROGRESS);
    close(fd);
}

static void *
connect_unix(void *argument)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    long result = R(connect(fd, argument, sizeof(struct sockaddr_un)));

    close(fd);
    return (void *)result;
}

/* connect() waits for room; accept() makes some, and a close tells who waits. */
static void
full_unix(bool closes)
{
    pthread_t waiter;
    void *result;
    int first[2];

    net_arena();
    for (int i = 0; i < 2; i++) {
        first[i] = socket(AF_UNIX, SOCK_STREAM, 0);
        EXPECT(connect(first[i], (struct sockaddr *)&unix_address, sizeof(unix_address)), 0);
    }
    EXPECT(pthread_create(&waiter, NULL, connect_unix, &unix_address), 0);
    usleep(20000);
    if (closes)
        close(UNIX_LISTENER);
    else
        EXPECT(close(accept(UNIX_LISTENER, NULL, NULL)), 0);
    pthread_join(waiter, &result);
    EXPECT((long)result, closes ? -ECONNREFUSED : 0);
    close(first[0]);
    close(first[1]);
}

/* Who was not accepted yet when the listener goes. */
static void
orphans(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);

    net_arena();
    EXPECT(connect(fd, (struct sockaddr *)&unix_address, sizeof(unix_address)), 0);
    EXPECT(connect(tcp, (struct sockaddr *)&tcp_address, 16), 0);
    close(UNIX_LISTENER);
    close(TCP_LISTENER);
    EXPECT(R(read(fd, bytes_in, 1)), -ECONNRESET);
    EXPECT(R(read(fd, bytes_in, 1)), 0);
    EXPECT(R(read(tcp, bytes_in, 1)), -ECONNRESET);
    EXPECT(R(read(tcp, bytes_in, 1)), 0);
    close(fd);
    close(tcp);
}

static void
peers(void)
{
    struct sockaddr_in got, own;
    struct sockaddr_un path;
    socklen_t length = sizeof(got);
    int fd;

    net_arena();
    EXPECT(getpeername(TCP_CLIENT, (struct sockaddr *)&got, &length), 0);
    EXPECT(length, sizeof(got));
    EXPECT(memcmp(&got, &tcp_address, sizeof(got)), 0);
    EXPECT(getsockname(TCP_SERVER, (struct sockaddr *)&own, &length), 0);
    EXPECT(memcmp(&got, &own, sizeof(got)), 0);
    EXPECT(getsockname(TCP_CLIENT, (struct sockaddr *)&got, &length), 0);
    EXPECT(getpeername(TCP_SERVER, (struct sockaddr *)&own, &length), 0);
    EXPECT(memcmp(&got, &own, sizeof(got)), 0);
    EXPECT(ntohl(got.sin_addr.s_addr), INADDR_LOOPBACK);

    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT(connect(fd, (struct sockaddr *)&unix_address, sizeof(unix_address)), 0);
    length = sizeof(path);
    EXPECT(getpeername(fd, (struct sockaddr *)&path, &length), 0);
    EXPECT(length, 2 + sizeof(UNIX_PATH));
    EXPECT(strcmp(path.sun_path, UNIX_PATH), 0);
    length = sizeof(path);
    int server =
        accept4(UNIX_LISTENER, (struct sockaddr *)&path, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    EXPECT(server > 0, 1);
    EXPECT(length, 2); /* the client has no name */
    EXPECT(fcntl(server, F_GETFD), FD_CLOEXEC);
    EXPECT(fcntl(server, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    length = sizeof(path);
    EXPECT(getsockname(server, (struct sockaddr *)&path, &length), 0);
    EXPECT(length, 2 + sizeof(UNIX_PATH));
    close(server);
    length = sizeof(path);
    EXPECT(getpeername(fd, (struct sockaddr *)&path, &length), 0); /* remembered */
    close(fd);
}

static void
families(void)
{
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(FREE_PORT)}, got;
    struct sockaddr_in zero = {.sin_family = AF_INET, .sin_port = htons(FREE_PORT)};
    int listener = socket(AF_INET6, SOCK_STREAM, 0), on = 1, fd, server;
    socklen_t length = sizeof(got);

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    EXPECT(bind(listener, (struct sockaddr *)&any6, sizeof(any6)), 0);
    EXPECT(listen(listener, 5), 0);
    /* IPv4 comes in as ::ffff:127.0.0.1; the address of all is here. */
    fd = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(connect(fd, (struct sockaddr *)&zero, sizeof(zero)), 0);
    server = accept(listener, (struct sockaddr *)&got, &length);
    EXPECT(length, sizeof(got));
    EXPECT(IN6_IS_ADDR_V4MAPPED(&got.sin6_addr), 1);
    EXPECT(got.sin6_addr.s6_addr[12], 127);
    close(fd); /* first: no TIME_WAIT at the server's port */
    close(server);
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    EXPECT(connect(fd, (struct sockaddr *)&tcp6_address, sizeof(tcp6_address)), 0);
    server = accept(listener, (struct sockaddr *)&got, &length);
    EXPECT(memcmp(&got.sin6_addr, &in6addr_loopback, 16), 0);
    close(fd);
    close(server);
    close(listener);
}

TOPIC(connect)
{
    NET_RUN(rows);
    queue_of(UNIX_LISTENER, AF_UNIX, SOCK_STREAM, &unix_address, sizeof(unix_address), false);
    net_arena();
    queue_of(TCP_LISTENER, AF_INET, SOCK_STREAM, &tcp_address, sizeof(tcp_address), true);
    nonblocking_tcp();
    full_unix(false);
    full_unix(true);
    orphans();
    peers();
    families();
}
