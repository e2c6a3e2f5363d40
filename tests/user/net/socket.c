/* SPDX-License-Identifier: MIT */
/*
 * socket(2), socketpair(2).
 */
#include "net.h"

static int pair[2];

static const struct net_row rows[] = {
    {"socket: unix stream", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}, ANY_VALUE},
    {"socket: unix, its own number as protocol", SYS_socket, {AF_UNIX, SOCK_STREAM, 1}, ANY_VALUE},
    {"socket: unix datagram", SYS_socket, {AF_UNIX, SOCK_DGRAM, 0}, ANY_VALUE},
    {"socket: unix raw is datagram", SYS_socket, {AF_UNIX, SOCK_RAW, 0}, ANY_VALUE},
    {"socket: unix packets", SYS_socket, {AF_UNIX, SOCK_SEQPACKET, 0}, ANY_VALUE},
    {"socket: tcp", SYS_socket, {AF_INET, SOCK_STREAM, 0}, ANY_VALUE},
    {"socket: tcp by name", SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_TCP}, ANY_VALUE},
    {"socket: udp by name", SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_UDP}, ANY_VALUE},
    {"socket: tcp6", SYS_socket, {AF_INET6, SOCK_STREAM, 0}, ANY_VALUE},
    {"socket: flags",
     SYS_socket,
     {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0},
     ANY_VALUE},
    {"socket: no such family", SYS_socket, {45, SOCK_STREAM, 0}, -EAFNOSUPPORT},
    {"socket: family below zero", SYS_socket, {-1, SOCK_STREAM, 0}, -EAFNOSUPPORT},
    {"socket: no such type", SYS_socket, {AF_UNIX, 11, 0}, -EINVAL},
    {"socket: a type that unix lacks", SYS_socket, {AF_UNIX, SOCK_RDM, 0}, -ESOCKTNOSUPPORT},
    {"socket: unknown flags", SYS_socket, {AF_UNIX, SOCK_STREAM | 0x10000, 0}, -EINVAL},
    {"socket: unix, another protocol", SYS_socket, {AF_UNIX, SOCK_STREAM, 6}, -EPROTONOSUPPORT},
    {"socket: a stream of udp", SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_UDP}, -EPROTONOSUPPORT},
    {"socket: datagrams of tcp", SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_TCP}, -EPROTONOSUPPORT},
    {"socketpair: stream", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, (long)pair}, 0},
    {"socketpair: tcp", SYS_socketpair, {AF_INET, SOCK_STREAM, 0, (long)pair}, -EOPNOTSUPP},
    {"socketpair: no such family", SYS_socketpair, {45, SOCK_STREAM, 0, (long)pair}, -EAFNOSUPPORT},
    {"socketpair: no such type", SYS_socketpair, {AF_UNIX, 11, 0, (long)pair}, -EINVAL},
    {"socketpair: nowhere to put them",
     SYS_socketpair,
     {AF_UNIX, SOCK_STREAM, 0, BAD_PTR},
     -EFAULT},
};

static void
descriptors(void)
{
    struct rlimit limit = {8, 8};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    EXPECT(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EXPECT(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_RDWR);
    EXPECT(R(lseek(fd, 0, SEEK_CUR)), -ESPIPE);
    EXPECT(R(pread(fd, bytes_in, 1, 0)), -ESPIPE);
    close(fd);
    for (int i = 3; i < 64; i++)
        close(i);
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 3; i < 7; i++)
        EXPECT(dup(0), i);
    /* Room for one only: neither is made. */
    EXPECT(R(socketpair(AF_UNIX, SOCK_STREAM, 0, pair)), -EMFILE);
    EXPECT(dup(0), 7);
    EXPECT(R(socket(AF_UNIX, SOCK_STREAM, 0)), -EMFILE);
}

TOPIC(socket)
{
    NET_RUN(rows);
    EXPECT(in_child(descriptors), 0);
}
