/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_NET_H
#define TESTS_USER_NET_H

/*
 * Conformance tests of sockets, one file a call; the runner is that of tests/user/calls.
 *
 * Rows are tables of raw calls as there.  Before each row these descriptors are made anew, so that
 * arguments are constants; a call that fails must leave as many open as there were.
 */

#include "../calls/calls.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
    UNIX_NEW = 20, /* stream sockets: as made */
    UNIX_LISTENER, /* bound to UNIX_PATH, two may wait */
    UNIX_A,        /* a connected pair */
    UNIX_B,
    UNIX_DGRAM,  /* as made */
    DGRAM_BOUND, /* bound to DGRAM_PATH */
    PACKET_A,    /* a connected pair of SOCK_SEQPACKET */
    PACKET_B,
    TCP_NEW,
    TCP_LISTENER, /* 127.0.0.1:TCP_PORT */
    TCP_CLIENT,   /* connected to it */
    TCP_SERVER,   /* accepted */
    UDP_NEW,
    UDP_BOUND, /* 127.0.0.1:UDP_PORT */
    TCP6_NEW,
    A_FILE, /* no socket */
    A_PIPE,
    ARENA_FD_END,
    NO_FD = 199
};

#define UNIX_PATH  "net.stream"
#define DGRAM_PATH "net.dgram"
enum { TCP_PORT = 20321, UDP_PORT = 20322, FREE_PORT = 20323 };

#define BAD_PTR 8l /* not mapped */

extern struct sockaddr_un unix_address, dgram_address, absent_address, abstract_address;
extern struct sockaddr_in tcp_address, udp_address, free_address, any_address, far_address;
extern struct sockaddr_in6 tcp6_address;
extern char bytes_in[65536], bytes_out[65536];

struct net_row {
    const char *what;
    long number;
    long arg[6];
    long want;
};

void net_arena(void);
void net_rows(const struct net_row *rows, size_t count);
#define NET_RUN(rows) net_rows(rows, sizeof(rows) / sizeof((rows)[0]))

/* A new descriptor at a known place, or the failure of the test program. */
int must(int fd);
/* What poll() says of @fd now. */
int poll_now(int fd);
/* TCP on the loopback: connected descriptors. */
void tcp_pair(int *client, int *server);
/* -errno or the value. */
long result_of(long value);
#define R(call) (errno = 0, result_of((long)(call)))

/* A file's entry: TOPIC(bind) { ... } */
#define TOPIC(topic)                                                          \
    static void topic##_test(void);                                           \
    __attribute__((constructor)) static void topic##_add(void)                \
    {                                                                         \
        static struct call_test test = {.name = #topic, .run = topic##_test}; \
                                                                              \
        call_register(&test);                                                 \
    }                                                                         \
    static void topic##_test(void)

#endif
