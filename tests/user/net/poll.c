/* SPDX-License-Identifier: MIT */
/*
 * poll, select and epoll over sockets, and races of connect, accept and close.
 */
#include "net.h"

#include <pthread.h>
#include <stdatomic.h>

#define HUP_ALL (POLLIN | POLLOUT | POLLHUP | POLLRDHUP)

/* What each socket of the arena says when nothing has happened. */
static void
quiet(void)
{
    static const struct {
        int fd, events;
    } rows[] = {
        {UNIX_NEW, POLLOUT | POLLHUP},
        {UNIX_LISTENER, 0},
        {UNIX_A, POLLOUT},
        {UNIX_DGRAM, POLLOUT},
        {PACKET_A, POLLOUT},
        {TCP_NEW, POLLOUT | POLLHUP},
        {TCP_LISTENER, 0},
        {TCP_CLIENT, POLLOUT},
        {UDP_NEW, POLLOUT},
    };

    net_arena();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        EXPECT(poll_now(rows[i].fd), rows[i].events);
}

static void *
write_later(void *argument)
{
    usleep(20000);
    return (void *)(long)write(*(int *)argument, "x", 1);
}

/* A sleeper is woken by bytes, by a connection, by the end. */
static void
wakes(void)
{
    struct pollfd one = {UNIX_B, POLLIN, 0};
    int from = UNIX_A;
    pthread_t thread;

    net_arena();
    EXPECT(pthread_create(&thread, NULL, write_later, &from), 0);
    EXPECT(poll(&one, 1, 10000), 1);
    pthread_join(thread, NULL);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(UNIX_B, &set);
    EXPECT(select(UNIX_B + 1, &set, NULL, NULL, NULL), 1);
    EXPECT(read(UNIX_B, bytes_in, 10), 1);
    from = TCP_CLIENT;
    EXPECT(pthread_create(&thread, NULL, write_later, &from), 0);
    EXPECT(read(TCP_SERVER, bytes_in, 10), 1);
    pthread_join(thread, NULL);
}

static int
wait_for(int set, int timeout, uint32_t *events)
{
    struct epoll_event got[4];
    int n = epoll_wait(set, got, 4, timeout);

    *events = n > 0 ? got[0].events : 0;
    return n;
}

/* An edge is told once; level for as long as it holds. */
static void
edges(int a, int b)
{
    struct epoll_event edge = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    struct epoll_event level = {.events = EPOLLIN};
    int edge_set = epoll_create1(0), level_set = epoll_create1(0);
    uint32_t events;

    EXPECT(epoll_ctl(edge_set, EPOLL_CTL_ADD, b, &edge), 0);
    EXPECT(epoll_ctl(level_set, EPOLL_CTL_ADD, b, &level), 0);
    EXPECT(wait_for(edge_set, 0, &events), 1);
    EXPECT(events, EPOLLOUT);
    EXPECT(wait_for(edge_set, 0, &events), 0);
    EXPECT(wait_for(level_set, 0, &events), 0);
    EXPECT(write(a, "one", 3), 3);
    EXPECT(wait_for(edge_set, 10000, &events), 1);
    EXPECT(events & EPOLLIN, EPOLLIN);
    EXPECT(wait_for(edge_set, 0, &events), 0);
    EXPECT(wait_for(level_set, 0, &events), 1);
    EXPECT(wait_for(level_set, 0, &events), 1);
    EXPECT(write(a, "two", 3), 3); /* more has come: another edge */
    EXPECT(wait_for(edge_set, 10000, &events), 1);
    EXPECT(read(b, bytes_in, 10), 6);
    EXPECT(wait_for(level_set, 0, &events), 0);
    /* A sender that was refused is told when there is room. */
    fcntl(b, F_SETFL, O_NONBLOCK);
    while (write(b, bytes_out, 4000) > 0)
        ;
    EXPECT(errno, EAGAIN);
    while (wait_for(edge_set, 0, &events) > 0)
        ;
    while (recv(a, bytes_in, sizeof(bytes_in), MSG_DONTWAIT) > 0)
        ;
    EXPECT(wait_for(edge_set, 10000, &events), 1);
    EXPECT(events & EPOLLOUT, EPOLLOUT);
    shutdown(a, SHUT_WR);
    EXPECT(wait_for(edge_set, 10000, &events), 1);
    EXPECT(events & (EPOLLRDHUP | EPOLLIN), EPOLLRDHUP | EPOLLIN);
    close(edge_set);
    close(level_set);
}

/* ---- races --------------------------------------------------------------------------------- */

enum { ROUNDS = 60, CLIENTS = 3, CONNECTIONS = 8 };

static int race_listener, race_family;
static struct sockaddr_un race_path = {AF_UNIX, "net.race"};
static struct sockaddr_in race_port;
static atomic_int race_served, race_greeted, race_wrong;

/* Connect, send, expect the answer or an honest error. */
static void *
race_client(void *argument)
{
    const struct sockaddr *address =
        race_family == AF_UNIX ? (struct sockaddr *)&race_path : (struct sockaddr *)&race_port;
    socklen_t length = race_family == AF_UNIX ? sizeof(race_path) : sizeof(race_port);

    (void)argument;
    for (int i = 0; i < CONNECTIONS; i++) {
        int fd = socket(race_family, SOCK_STREAM, 0);
        char answer = 0;

        if (connect(fd, address, length) != 0) {
            if (errno != ECONNREFUSED && errno != ECONNRESET)
                atomic_fetch_add(&race_wrong, 1);
        } else {
            long sent = send(fd, "q", 1, MSG_NOSIGNAL), n = sent == 1 ? read(fd, &answer, 1) : -1;

            if (n == 1 && answer == 'a')
                atomic_fetch_add(&race_greeted, 1);
            else if (n == 1 || (n < 0 && errno != ECONNRESET && errno != EPIPE))
                atomic_fetch_add(&race_wrong, 1);
        }
        close(fd);
    }
    return NULL;
}

/* Serve some, and close the listener while others connect. */
static void
race_serve(int serve)
{
    char question;

    for (int i = 0; i < serve; i++) {
        int fd = accept(race_listener, NULL, NULL);

        if (fd < 0 || read(fd, &question, 1) != 1 || write(fd, "a", 1) != 1)
            atomic_fetch_add(&race_wrong, 1);
        else
            atomic_fetch_add(&race_served, 1);
        /* The client closes first, or reads the answer from what is closed. */
        close(fd);
    }
    close(race_listener);
}

static void
races(int family)
{
    socklen_t length = sizeof(race_port);

    race_family = family;
    atomic_store(&race_served, 0);
    atomic_store(&race_greeted, 0);
    atomic_store(&race_wrong, 0);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t clients[CLIENTS];

        race_listener = must(socket(family, SOCK_STREAM, 0));
        unlink(race_path.sun_path);
        race_port =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        if (family == AF_UNIX)
            must(bind(race_listener, (struct sockaddr *)&race_path, sizeof(race_path)));
        else
            must(bind(race_listener, (struct sockaddr *)&race_port, sizeof(race_port)));
        must(listen(race_listener, round % 4));
        if (family == AF_INET)
            must(getsockname(race_listener, (struct sockaddr *)&race_port, &length));
        for (int i = 0; i < CLIENTS; i++)
            must(-pthread_create(&clients[i], NULL, race_client, NULL));
        race_serve(round % (CLIENTS * CONNECTIONS + 1));
        for (int i = 0; i < CLIENTS; i++)
            pthread_join(clients[i], NULL);
    }
    unlink(race_path.sun_path);
    EXPECT(atomic_load(&race_wrong), 0);
    EXPECT(atomic_load(&race_greeted), atomic_load(&race_served));
}

/* What a set takes, and what goes with EPOLLEXCLUSIVE. */
static void
refusals(int socket)
{
    struct epoll_event event = {.events = EPOLLIN}, got;
    int set = epoll_create1(0), zero = open("/dev/zero", O_RDONLY);

    EXPECT(epoll_ctl(set, EPOLL_CTL_ADD, zero, &event) == -1 && errno == EPERM, true);
    event.events = EPOLLEXCLUSIVE | EPOLLIN | EPOLLPRI;
    EXPECT(epoll_ctl(set, EPOLL_CTL_ADD, socket, &event) == -1 && errno == EINVAL, true);
    event.events = EPOLLEXCLUSIVE | EPOLLIN | EPOLLONESHOT;
    EXPECT(epoll_ctl(set, EPOLL_CTL_ADD, socket, &event) == -1 && errno == EINVAL, true);
    event.events = EPOLLEXCLUSIVE | EPOLLIN | EPOLLET;
    EXPECT(epoll_ctl(set, EPOLL_CTL_ADD, socket, &event), 0);
    event.events = EPOLLIN;
    EXPECT(epoll_ctl(set, EPOLL_CTL_MOD, socket, &event) == -1 && errno == EINVAL, true);
    EXPECT(call(SYS_epoll_pwait, set, (long)&got, 0, 0, 0, 0), -EINVAL);
    EXPECT(call(SYS_epoll_pwait, set, (long)&got, 1 << 28, 0, 0, 0), -EINVAL);
    EXPECT(call(SYS_epoll_pwait, -1, (long)&got, 1, 0, 0, 0), -EBADF);
    close(zero);
    close(set);
}

TOPIC(poll)
{
    signal(SIGPIPE, SIG_IGN);
    if (chdir("/tmp") != 0)
        exit(1);
    quiet();
    wakes();
    net_arena();
    edges(UNIX_A, UNIX_B);
    refusals(UNIX_A);
    edges(TCP_CLIENT, TCP_SERVER);
    races(AF_UNIX);
    races(AF_INET);
}
