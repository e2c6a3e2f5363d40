/* SPDX-License-Identifier: MIT */
/*
 * send(2), sendto(2), recv(2), recvfrom(2), read and write, shutdown(2), and what a close leaves.
 */
#include "net.h"

#include <pthread.h>
#include <sys/time.h>
#include <sys/uio.h>

#define TO(address, length) (long)&address, length
#define BYTES(n)            (long)bytes_out, n
#define INTO(n)             (long)bytes_in, n
#define NOWAIT              MSG_DONTWAIT
static char name[200];
static socklen_t full = sizeof(name), minus = (socklen_t)-1;

static const struct net_row rows[] = {
    {"sendto: unix", SYS_sendto, {UNIX_A, BYTES(5), 0, 0, 0}, 5},
    {"sendto: unix, not connected", SYS_sendto, {UNIX_NEW, BYTES(5), 0, 0, 0}, -ENOTCONN},
    {"sendto: unix stream with an address",
     SYS_sendto,
     {UNIX_A, BYTES(5), 0, TO(unix_address, 110)},
     -EISCONN},
    {"sendto: unconnected with an address",
     SYS_sendto,
     {UNIX_NEW, BYTES(5), 0, TO(unix_address, 110)},
     -EOPNOTSUPP},
    {"sendto: unix, bytes unmapped", SYS_sendto, {UNIX_A, BAD_PTR, 5, 0, 0, 0}, -EFAULT},
    {"sendto: nothing", SYS_sendto, {UNIX_A, BYTES(0), 0, 0, 0}, 0},
    {"sendto: tcp", SYS_sendto, {TCP_CLIENT, BYTES(5), 0, 0, 0}, 5},
    {"sendto: tcp, an address is ignored",
     SYS_sendto,
     {TCP_CLIENT, BYTES(5), 0, TO(tcp_address, 16)},
     5},
    {"sendto: tcp, not connected", SYS_sendto, {TCP_NEW, BYTES(5), 0, 0, 0}, -EPIPE},
    {"sendto: tcp, a listener", SYS_sendto, {TCP_LISTENER, BYTES(5), 0, 0, 0}, -EPIPE},
    {"sendto: datagram", SYS_sendto, {UNIX_DGRAM, BYTES(5), 0, TO(dgram_address, 110)}, 5},
    {"sendto: empty datagram", SYS_sendto, {UNIX_DGRAM, BYTES(0), 0, TO(dgram_address, 110)}, 0},
    {"sendto: datagram to nobody", SYS_sendto, {UNIX_DGRAM, BYTES(5), 0, 0, 0}, -ENOTCONN},
    {"sendto: datagram to a stream",
     SYS_sendto,
     {UNIX_DGRAM, BYTES(5), 0, TO(unix_address, 110)},
     -EPROTOTYPE},
    {"sendto: datagram, no such name",
     SYS_sendto,
     {UNIX_DGRAM, BYTES(5), 0, TO(absent_address, 110)},
     -ENOENT},
    {"sendto: datagram too large",
     SYS_sendto,
     {UNIX_DGRAM, BYTES(1 << 20), 0, TO(dgram_address, 110)},
     -EMSGSIZE},
    {"sendto: udp", SYS_sendto, {UDP_NEW, BYTES(5), 0, TO(udp_address, 16)}, 5},
    {"sendto: udp to nobody", SYS_sendto, {UDP_NEW, BYTES(5), 0, TO(free_address, 16)}, 5},
    {"sendto: udp nowhere", SYS_sendto, {UDP_NEW, BYTES(5), 0, 0, 0}, -EDESTADDRREQ},
    {"sendto: udp too large",
     SYS_sendto,
     {UDP_NEW, BYTES(65508), 0, TO(udp_address, 16)},
     -EMSGSIZE},
    {"sendto: udp largest", SYS_sendto, {UDP_NEW, BYTES(65507), 0, TO(udp_address, 16)}, 65507},
    {"sendto: udp, another family",
     SYS_sendto,
     {UDP_NEW, BYTES(5), 0, TO(unix_address, 16)},
     -EAFNOSUPPORT},
    {"sendto: packets", SYS_sendto, {PACKET_A, BYTES(5), 0, 0, 0}, 5},
    {"sendto: length below zero", SYS_sendto, {UDP_NEW, BYTES(5), 0, TO(udp_address, -1)}, -EINVAL},
    {"sendto: no address there", SYS_sendto, {UDP_NEW, BYTES(5), 0, BAD_PTR, 16}, -EFAULT},
    {"sendto: no descriptor", SYS_sendto, {NO_FD, BYTES(5), 0, 0, 0}, -EBADF},
    {"sendto: no socket", SYS_sendto, {A_FILE, BYTES(5), 0, 0, 0}, -ENOTSOCK},
    {"recvfrom: unix, nothing", SYS_recvfrom, {UNIX_A, INTO(5), NOWAIT, 0, 0}, -EAGAIN},
    {"recvfrom: no room, nothing", SYS_recvfrom, {UNIX_A, INTO(0), NOWAIT, 0, 0}, -EAGAIN},
    {"recvfrom: unix, not connected", SYS_recvfrom, {UNIX_NEW, INTO(5), NOWAIT, 0, 0}, -EINVAL},
    {"recvfrom: tcp, nothing", SYS_recvfrom, {TCP_CLIENT, INTO(5), NOWAIT, 0, 0}, -EAGAIN},
    {"recvfrom: tcp, not connected", SYS_recvfrom, {TCP_NEW, INTO(5), NOWAIT, 0, 0}, -ENOTCONN},
    {"recvfrom: tcp, a listener", SYS_recvfrom, {TCP_LISTENER, INTO(5), NOWAIT, 0, 0}, -ENOTCONN},
    {"recvfrom: udp, nothing", SYS_recvfrom, {UDP_BOUND, INTO(5), NOWAIT, 0, 0}, -EAGAIN},
    {"recvfrom: datagram, nothing", SYS_recvfrom, {DGRAM_BOUND, INTO(5), NOWAIT, 0, 0}, -EAGAIN},
    {"recvfrom: packets, nothing", SYS_recvfrom, {PACKET_A, INTO(5), NOWAIT, 0, 0}, -EAGAIN},
    {"recvfrom: no descriptor", SYS_recvfrom, {NO_FD, INTO(5), NOWAIT, 0, 0}, -EBADF},
    {"recvfrom: no socket", SYS_recvfrom, {A_FILE, INTO(5), NOWAIT, 0, 0}, -ENOTSOCK},
    {"shutdown: unix", SYS_shutdown, {UNIX_A, SHUT_RDWR}, 0},
    {"shutdown: tcp", SYS_shutdown, {TCP_CLIENT, SHUT_WR}, 0},
    {"shutdown: tcp, not connected", SYS_shutdown, {TCP_NEW, SHUT_WR}, -ENOTCONN},
    {"shutdown: udp, not connected", SYS_shutdown, {UDP_NEW, SHUT_WR}, -ENOTCONN},
    {"shutdown: no such side", SYS_shutdown, {TCP_CLIENT, 3}, -EINVAL},
    {"shutdown: below zero", SYS_shutdown, {TCP_CLIENT, -1}, -EINVAL},
    {"shutdown: no descriptor", SYS_shutdown, {NO_FD, 0}, -EBADF},
    {"shutdown: no socket", SYS_shutdown, {A_FILE, 0}, -ENOTSOCK},
    {"read: nothing asked", SYS_read, {UNIX_A, INTO(0)}, 0},
    {"write: nothing", SYS_write, {UNIX_A, BYTES(0)}, 0},
};

static long
take(int fd, size_t n, int flags)
{
    memset(bytes_in, 0, sizeof(bytes_in));
    return R(recv(fd, bytes_in, n, flags | MSG_DONTWAIT));
}

/* Bytes of a stream, @a to @b. */
static void
stream(int a, int b)
{
    int waiting = -1;

    EXPECT(send(a, "hello", 5, 0), 5);
    EXPECT(write(a, " world", 6), 6);
    EXPECT(ioctl(b, FIONREAD, &waiting), 0);
    EXPECT(waiting, 11);
    EXPECT(poll_now(b), POLLIN | POLLOUT);
    EXPECT(take(b, 3, MSG_PEEK), 3);
    EXPECT(take(b, 100, MSG_PEEK), 11); /* over the borders of what was sent */
    EXPECT(memcmp(bytes_in, "hello world", 11), 0);
    EXPECT(take(b, 7, 0), 7);
    EXPECT(memcmp(bytes_in, "hello w", 7), 0);
    EXPECT(ioctl(b, FIONREAD, &waiting), 0);
    EXPECT(waiting, 4);
    /* A buffer that is not there takes nothing away. */
    EXPECT(R(recv(b, (void *)BAD_PTR, 4, 0)), -EFAULT);
    EXPECT(take(b, 100, 0), 4);
    EXPECT(memcmp(bytes_in, "orld", 4), 0);
    EXPECT(take(b, 100, 0), -EAGAIN);
}

/* @whole: FIONREAD counts all that waits, not the next only. */
static void
datagrams(int a, int b, bool whole)
{
    int waiting = -1;

    EXPECT(send(a, "hello", 5, 0), 5);
    EXPECT(send(a, "", 0, 0), 0);
    EXPECT(send(a, "world", 5, 0), 5);
    EXPECT(ioctl(b, FIONREAD, &waiting), 0);
    EXPECT(waiting, whole ? 10 : 5);
    EXPECT(take(b, 3, MSG_PEEK), 3);
    EXPECT(take(b, 3, MSG_PEEK | MSG_TRUNC), 5);
    EXPECT(take(b, 3, 0), 3); /* the rest is lost */
    EXPECT(take(b, 100, 0), 0);
    EXPECT(take(b, 100, 0), 5);
    EXPECT(memcmp(bytes_in, "world", 5), 0);
    EXPECT(take(b, 100, 0), -EAGAIN);
}

static void
unix_ends(void)
{
    net_arena();
    EXPECT(write(UNIX_A, "last", 4), 4);
    close(UNIX_A);
    EXPECT(poll_now(UNIX_B), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
    EXPECT(take(UNIX_B, 100, 0), 4);
    EXPECT(take(UNIX_B, 100, 0), 0);
    EXPECT(R(send(UNIX_B, "x", 1, MSG_NOSIGNAL)), -EPIPE);

    /* What was never read. */
    net_arena();
    EXPECT(write(UNIX_B, "lost", 4), 4);
    close(UNIX_A);
    EXPECT(poll_now(UNIX_B), POLLIN | POLLOUT | POLLHUP | POLLRDHUP | POLLERR);
    EXPECT(take(UNIX_B, 100, 0), -ECONNRESET);
    EXPECT(take(UNIX_B, 100, 0), 0);

    net_arena();
    EXPECT(shutdown(UNIX_A, SHUT_WR), 0);
    EXPECT(R(send(UNIX_A, "x", 1, MSG_NOSIGNAL)), -EPIPE);
    EXPECT(poll_now(UNIX_B), POLLIN | POLLOUT | POLLRDHUP);
    EXPECT(take(UNIX_B, 100, 0), 0);
    EXPECT(write(UNIX_B, "back", 4), 4);
    EXPECT(take(UNIX_A, 100, 0), 4);
    EXPECT(shutdown(UNIX_A, SHUT_RD), 0);
    EXPECT(R(send(UNIX_B, "x", 1, MSG_NOSIGNAL)), -EPIPE);
    EXPECT(poll_now(UNIX_A), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
    /* Not connected, and nobody minds. */
    EXPECT(shutdown(UNIX_NEW, SHUT_RDWR), 0);
    EXPECT(poll_now(UNIX_DGRAM), POLLOUT);

    net_arena();
    close(PACKET_A);
    EXPECT(take(PACKET_B, 100, 0), 0);
    EXPECT(R(send(PACKET_B, "x", 1, MSG_NOSIGNAL)), -EPIPE);
}

static void
tcp_ends(void)
{
    /* Half a close: the other half goes on. */
    net_arena();
    EXPECT(write(TCP_CLIENT, "last", 4), 4);
    EXPECT(shutdown(TCP_CLIENT, SHUT_WR), 0);
    EXPECT(R(send(TCP_CLIENT, "x", 1, MSG_NOSIGNAL)), -EPIPE);
    EXPECT(poll_now(TCP_SERVER), POLLIN | POLLOUT | POLLRDHUP);
    EXPECT(take(TCP_SERVER, 100, 0), 4);
    EXPECT(take(TCP_SERVER, 100, 0), 0);
    EXPECT(write(TCP_SERVER, "back", 4), 4);
    EXPECT(take(TCP_CLIENT, 100, 0), 4);

    /* A close that lost nothing: the end; what is sent then comes back as a broken pipe. */
    int client, server;
    tcp_pair(&client, &server);
    close(client);
    EXPECT(take(server, 100, 0), 0);
    EXPECT(send(server, "x", 1, MSG_NOSIGNAL), 1);
    EXPECT(R(send(server, "x", 1, MSG_NOSIGNAL)), -EPIPE);
    EXPECT(take(server, 100, 0), 0);
    EXPECT(poll_now(server), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
    close(server);

    /* A close with something unread: a reset. */
    tcp_pair(&client, &server);
    EXPECT(write(client, "lost", 4), 4);
    close(server);
    EXPECT(poll_now(client), POLLIN | POLLOUT | POLLHUP | POLLRDHUP | POLLERR);
    EXPECT(take(client, 100, 0), -ECONNRESET);
    EXPECT(take(client, 100, 0), 0);
    EXPECT(R(send(client, "x", 1, MSG_NOSIGNAL)), -EPIPE);
    EXPECT(R(getpeername(client, (struct sockaddr *)name, &full)), -ENOTCONN);
    close(client);

    /* The same by SO_LINGER; what had arrived is still there. */
    struct linger now = {1, 0};
    tcp_pair(&client, &server);
    EXPECT(write(server, "late", 4), 4);
    setsockopt(server, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(server);
    EXPECT(R(send(client, "x", 1, MSG_NOSIGNAL)), -ECONNRESET);
    EXPECT(R(send(client, "x", 1, MSG_NOSIGNAL)), -EPIPE);
    close(client);

    /* A listener that stops. */
    net_arena();
    EXPECT(shutdown(TCP_LISTENER, SHUT_RDWR), 0);
    EXPECT(R(accept(TCP_LISTENER, NULL, NULL)), -EINVAL);
    EXPECT(R(connect(TCP_NEW, (struct sockaddr *)&tcp_address, 16)), -ECONNREFUSED);
    EXPECT(poll_now(TCP_NEW), POLLOUT | POLLHUP);
}

static volatile sig_atomic_t pipe_signals;

static void
on_pipe(int number)
{
    (void)number;
    pipe_signals++;
}

static void
broken_pipes(void)
{
    net_arena();
    signal(SIGPIPE, on_pipe);
    pipe_signals = 0;
    close(UNIX_B);
    close(PACKET_B);
    EXPECT(R(write(UNIX_A, "x", 1)), -EPIPE);
    EXPECT(pipe_signals, 1);
    EXPECT(R(send(UNIX_A, "x", 1, 0)), -EPIPE);
    EXPECT(pipe_signals, 2);
    EXPECT(R(send(UNIX_A, "x", 1, MSG_NOSIGNAL)), -EPIPE);
    EXPECT(pipe_signals, 2);
    EXPECT(R(send(TCP_NEW, "x", 1, 0)), -EPIPE);
    EXPECT(pipe_signals, 3);
    signal(SIGPIPE, SIG_IGN);
}

/* Fill until it would block, then empty: nothing is lost, and room comes back. */
static void
buffers(int a, int b)
{
    size_t sent = 0, got = 0;
    long n;

    fcntl(a, F_SETFL, O_NONBLOCK);
    while ((n = write(a, bytes_out, 1000)) > 0 && sent < (64u << 20))
        sent += (size_t)n;
    EXPECT(n < 0 && errno == EAGAIN, 1);
    EXPECT(sent >= 65536, 1);
    EXPECT(poll_now(a) & POLLOUT, 0);
    while ((n = take(b, sizeof(bytes_in), 0)) > 0)
        got += (size_t)n;
    EXPECT(got, sent);
    EXPECT(poll_now(a) & POLLOUT, POLLOUT);
}

struct pump {
    int fd;
    size_t bytes;
};

static void *
pump_run(void *argument)
{
    struct pump *pump = argument;
    static char block[30000];
    size_t done = 0;

    while (done < pump->bytes) {
        size_t want = pump->bytes - done < sizeof(block) ? pump->bytes - done : sizeof(block);

        for (size_t i = 0; i < want; i++)
            block[i] = (char)((done + i) * 7 % 251);
        if (write(pump->fd, block, want) != (long)want)
            return (void *)1;
        done += want;
    }
    return NULL;
}

/* A writer that blocks, and a reader that wants all. */
static void
blocking(int a, int b)
{
    struct pump pump = {a, 3000000};
    pthread_t thread;
    void *failed;
    size_t done = 0, wrong = 0;

    EXPECT(pthread_create(&thread, NULL, pump_run, &pump), 0);
    while (done < pump.bytes) {
        size_t want = pump.bytes - done < 50000 ? pump.bytes - done : 50000;
        long n = recv(b, bytes_in, want, MSG_WAITALL);

        EXPECT(n, (long)want);
        if (n <= 0)
            break;
        for (long i = 0; i < n; i++)
            wrong += bytes_in[i] != (char)((done + (size_t)i) * 7 % 251);
        done += (size_t)n;
    }
    EXPECT(wrong, 0);
    pthread_join(thread, &failed);
    EXPECT(failed == NULL, 1);
}

static void
datagram_rules(void)
{
    struct sockaddr_un from;
    struct sockaddr_in source;
    socklen_t length = sizeof(from);
    int a = socket(AF_UNIX, SOCK_DGRAM, 0);

    /* Who has no name has none to tell. */
    net_arena();
    EXPECT(sendto(UNIX_DGRAM, "a", 1, 0, (struct sockaddr *)&dgram_address, 110), 1);
    EXPECT(recvfrom(DGRAM_BOUND, bytes_in, 10, 0, (struct sockaddr *)&from, &length), 1);
    EXPECT(length, 0);
    EXPECT(bind(UNIX_DGRAM, (struct sockaddr *)&abstract_address, 15), 0);
    EXPECT(sendto(UNIX_DGRAM, "a", 1, 0, (struct sockaddr *)&dgram_address, 110), 1);
    length = sizeof(from);
    EXPECT(recvfrom(DGRAM_BOUND, bytes_in, 10, 0, (struct sockaddr *)&from, &length), 1);
    EXPECT(length, 15);
    EXPECT(memcmp(&from, &abstract_address, 15), 0);

    /* So many wait and no more. */
    fcntl(UNIX_DGRAM, F_SETFL, O_NONBLOCK);
    EXPECT(connect(UNIX_DGRAM, (struct sockaddr *)&dgram_address, 110), 0);
    int count = 0;
    while (send(UNIX_DGRAM, "a", 1, 0) == 1 && count < 1000)
        count++;
    EXPECT(errno, EAGAIN);
    EXPECT(count, 11);
    EXPECT(take(DGRAM_BOUND, 10, 0), 1);
    EXPECT(send(UNIX_DGRAM, "a", 1, 0), 1);

    /* Who is connected hears his peer only. */
    EXPECT(connect(DGRAM_BOUND, (struct sockaddr *)&abstract_address, 15), 0);
    EXPECT(R(sendto(a, "a", 1, 0, (struct sockaddr *)&dgram_address, 110)), -EPERM);
    EXPECT(R(connect(a, (struct sockaddr *)&dgram_address, 110)), -EPERM);
    close(DGRAM_BOUND);
    EXPECT(R(send(UNIX_DGRAM, "a", 1, 0)), -ECONNREFUSED);
    EXPECT(R(send(UNIX_DGRAM, "a", 1, 0)), -ENOTCONN);
    close(a);

    /* UDP: where it came from; nobody there is told to a connected socket only. */
    net_arena();
    EXPECT(sendto(UDP_NEW, "a", 1, 0, (struct sockaddr *)&udp_address, 16), 1);
    length = sizeof(source);
    EXPECT(recvfrom(UDP_BOUND, bytes_in, 10, 0, (struct sockaddr *)&source, &length), 1);
    EXPECT(length, sizeof(source));
    EXPECT(ntohl(source.sin_addr.s_addr), INADDR_LOOPBACK);
    EXPECT(sendto(UDP_BOUND, "b", 1, 0, (struct sockaddr *)&source, 16), 1);
    EXPECT(take(UDP_NEW, 10, 0), 1);
    EXPECT(connect(UDP_NEW, (struct sockaddr *)&free_address, 16), 0);
    EXPECT(send(UDP_NEW, "a", 1, 0), 1);
    EXPECT(R(send(UDP_NEW, "a", 1, 0)), -ECONNREFUSED);
    EXPECT(take(UDP_NEW, 10, 0), -EAGAIN);
    EXPECT(sendto(UDP_BOUND, "b", 1, 0, (struct sockaddr *)&source, 16), 1);
    EXPECT(take(UDP_NEW, 10, 0), -EAGAIN); /* not its peer's bytes */
    /* Receivers that do not read lose what comes, and stop nobody. */
    int other = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in third = udp_address;
    third.sin_port = htons(FREE_PORT);
    EXPECT(bind(other, (struct sockaddr *)&third, 16), 0);
    for (int i = 0; i < 100; i++) {
        EXPECT(sendto(UDP_BOUND, bytes_out, 20000, 0, (struct sockaddr *)&third, 16), 20000);
        EXPECT(sendto(UDP_BOUND, bytes_out, 20000, 0, (struct sockaddr *)&source, 16), 20000);
    }
    EXPECT(take(other, 65536, 0), 20000);
    close(other);
}

static void
on_alarm(int number)
{
    (void)number;
}

static void
time_limits(void)
{
    struct timeval limit = {0, 30000}, got;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    socklen_t length = sizeof(got);

    net_arena();
    EXPECT(setsockopt(UNIX_A, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    EXPECT(getsockopt(UNIX_A, SOL_SOCKET, SO_RCVTIMEO, &got, &length), 0);
    EXPECT(got.tv_sec == 0 && got.tv_usec >= 30000 && got.tv_usec < 50000, 1);
    EXPECT(R(read(UNIX_A, bytes_in, 1)), -EAGAIN);
    EXPECT(setsockopt(TCP_LISTENER, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    EXPECT(R(accept(TCP_LISTENER, NULL, NULL)), -EAGAIN);
    limit.tv_usec = 1000000;
    EXPECT(R(setsockopt(UNIX_A, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit))), -EDOM);
    /* With a limit of its own a call that a signal interrupts is not started again. */
    limit = (struct timeval){100, 0};
    EXPECT(setsockopt(UNIX_A, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {.it_value = {0, 20000}, .it_interval = {0, 20000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    EXPECT(R(read(UNIX_A, bytes_in, 1)), -EINTR);
    action.sa_flags = 0;
    sigaction(SIGALRM, &action, NULL);
    EXPECT(R(read(UNIX_B, bytes_in, 1)), -EINTR);
    EXPECT(R(accept(UNIX_LISTENER, NULL, NULL)), -EINTR);
    timer.it_value = timer.it_interval = (struct timeval){0, 0};
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* Files into sockets, and through pipes. */
static void
between_files(void)
{
    int fd = open("net.file", O_RDWR | O_CREAT | O_TRUNC, 0600), ends[2];
    off_t at = 2;

    net_arena();
    EXPECT(write(fd, "0123456789", 10), 10);
    EXPECT(syscall(SYS_sendfile, UNIX_A, fd, &at, 5), 5);
    EXPECT(at, 7);
    EXPECT(take(UNIX_B, 100, 0), 5);
    EXPECT(memcmp(bytes_in, "23456", 5), 0);
    EXPECT(pipe(ends), 0);
    EXPECT(write(TCP_CLIENT, "abcdef", 6), 6);
    EXPECT(splice(TCP_SERVER, NULL, ends[1], NULL, 100, 0), 6);
    EXPECT(splice(ends[0], NULL, UNIX_B, NULL, 100, 0), 6);
    EXPECT(take(UNIX_A, 100, 0), 6);
    EXPECT(memcmp(bytes_in, "abcdef", 6), 0);
    struct iovec pieces[2] = {{"ab", 2}, {"cde", 3}};
    EXPECT(writev(PACKET_A, pieces, 2), 5);
    EXPECT(take(PACKET_B, 100, 0), 5);
    close(ends[0]);
    close(ends[1]);
    close(fd);
    unlink("net.file");
}

TOPIC(transfer)
{
    NET_RUN(rows);
    EXPECT(R(getsockname(UNIX_A, (struct sockaddr *)name, &minus)), -EINVAL);
    stream(UNIX_A, UNIX_B);
    stream(TCP_CLIENT, TCP_SERVER);
    datagrams(PACKET_A, PACKET_B, true);
    EXPECT(connect(UNIX_DGRAM, (struct sockaddr *)&dgram_address, 110), 0);
    datagrams(UNIX_DGRAM, DGRAM_BOUND, false);
    EXPECT(connect(UDP_NEW, (struct sockaddr *)&udp_address, 16), 0);
    datagrams(UDP_NEW, UDP_BOUND, false);
    buffers(UNIX_A, UNIX_B);
    buffers(TCP_CLIENT, TCP_SERVER);
    net_arena();
    blocking(UNIX_A, UNIX_B);
    blocking(TCP_SERVER, TCP_CLIENT);
    unix_ends();
    tcp_ends();
    broken_pipes();
    datagram_rules();
    time_limits();
    between_files();
}
