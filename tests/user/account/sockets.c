/* SPDX-License-Identifier: MIT */
/*
 * /proc/net: each socket is in the file of its kind while it is of interest there, with its
 * addresses, its state, what waits to be read, and the inode that fstat() tells.
 */
#define _GNU_SOURCE
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "../check.h"

enum { PORT = 24000 };

/* A Linux without an init has its loopback down. */
static void
loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    if (ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags |= IFF_UP;
        (void)ioctl(fd, SIOCSIFFLAGS, &request);
    }
    close(fd);
}

/* Does a line of @file have @text in it, and (@fd >= 0) the number of that socket's inode? */
static bool
has_line(const char *file, const char *text, int fd)
{
    char path[64], line[512], number[32] = " ";
    struct stat stat;
    bool found = false;
    FILE *in;

    if (fd >= 0 && fstat(fd, &stat) == 0)
        snprintf(number, sizeof(number), " %lu", (unsigned long)stat.st_ino);
    snprintf(path, sizeof(path), "/proc/net/%s", file);
    in = fopen(path, "r");
    CHECK(in != NULL);
    while (in != NULL && fgets(line, sizeof(line), in) != NULL) {
        const char *at = strstr(line, number);

        found |=
            strstr(line, text) != NULL && at != NULL && strchr(" \n", at[strlen(number)]) != NULL;
    }
    if (in != NULL)
        fclose(in);
    return found;
}

static struct sockaddr_in
place(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int
bound(int type, int port)
{
    struct sockaddr_in address = place(port);
    int fd = socket(AF_INET, type, 0);

    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static int
bound6(int type, int port)
{
    struct sockaddr_in6 address = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_loopback};
    int fd = socket(AF_INET6, type, 0);

    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void
tcp(void)
{
    struct sockaddr_in address = place(PORT);
    int listener = bound(SOCK_STREAM, PORT), client = bound(SOCK_STREAM, PORT + 1), server;
    long used;

    CHECK(!has_line("tcp", "0100007F:5DC0", listener)); /* bound alone */
    CHECK_EQ(listen(listener, 3), 0);
    CHECK(has_line("tcp", ": 0100007F:5DC0 00000000:0000 0A 00000000:00000000 ", listener));
    used = line_of("/proc/net/sockstat", "sockets: used");
    CHECK_EQ(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK(has_line("tcp", "0100007F:5DC0 00000000:0000 0A 00000000:00000001 ", listener));
    server = accept(listener, NULL, NULL);
    CHECK(server >= 0);
    CHECK_EQ(line_of("/proc/net/sockstat", "sockets: used"), used + 1);
    CHECK_EQ(write(client, "hello", 5), 5);
    CHECK(has_line("tcp", ": 0100007F:5DC0 0100007F:5DC1 01 00000000:00000005 ", server));
    CHECK(has_line("tcp", ": 0100007F:5DC1 0100007F:5DC0 01 ", client));
    CHECK_EQ(shutdown(server, SHUT_WR), 0);
    CHECK(has_line("tcp", ": 0100007F:5DC0 0100007F:5DC1 04 ", server) || /* not acknowledged yet */
          has_line("tcp", ": 0100007F:5DC0 0100007F:5DC1 05 ", server));
    CHECK(has_line("tcp", ": 0100007F:5DC1 0100007F:5DC0 08 ", client));
    close(server);
    close(client);
    close(listener);
    CHECK(!has_line("tcp", "0100007F:5DC0 00000000:0000 0A", -1));
    listener = bound6(SOCK_STREAM, PORT);
    CHECK_EQ(listen(listener, 3), 0);
    CHECK(has_line(
        "tcp6", ": 00000000000000000000000001000000:5DC0 00000000000000000000000000000000:0000 0A ",
        listener));
    close(listener);
}

static void
udp(void)
{
    struct sockaddr_in address = place(PORT);
    int four = bound(SOCK_DGRAM, PORT), six = bound6(SOCK_DGRAM, PORT);

    CHECK(has_line("udp", ": 0100007F:5DC0 00000000:0000 07 ", four));
    CHECK(has_line("udp6", ": 00000000000000000000000001000000:5DC0 ", six));
    CHECK_EQ(connect(four, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK(has_line("udp", ": 0100007F:5DC0 0100007F:5DC0 01 ", four));
    close(four);
    close(six);
    CHECK(!has_line("udp", "0100007F:5DC0", -1));
}

static void
local(void)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "/tmp/sockets.name"};
    struct sockaddr_un other = {.sun_family = AF_UNIX, .sun_path = "\0sockets"};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), datagrams = socket(AF_UNIX, SOCK_DGRAM, 0);
    int packets = socket(AF_UNIX, SOCK_SEQPACKET, 0), pair[2];

    unlink(path.sun_path);
    CHECK_EQ(bind(listener, (struct sockaddr *)&path, sizeof(path)), 0);
    CHECK(has_line("unix", ": 00000002 00000000 00000000 0001 01 ", listener));
    CHECK_EQ(listen(listener, 3), 0);
    CHECK(has_line("unix", ": 00000002 00000000 00010000 0001 01 ", listener));
    CHECK(has_line("unix", " /tmp/sockets.name\n", listener));
    CHECK_EQ(bind(datagrams, (struct sockaddr *)&other, sizeof(sa_family_t) + 8), 0);
    CHECK(has_line("unix", " @sockets\n", datagrams));
    CHECK(has_line("unix", ": 00000002 00000000 00000000 0002 01 ", datagrams));
    CHECK(has_line("unix", ": 00000002 00000000 00000000 0005 01 ", packets));
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    CHECK(has_line("unix", ": 00000003 00000000 00000000 0001 03 ", pair[0]));
    CHECK(has_line("unix", ": 00000003 00000000 00000000 0001 03 ", pair[1]));
    close(pair[0]);
    close(pair[1]);
    close(packets);
    close(datagrams);
    close(listener);
    unlink(path.sun_path);
    CHECK(!has_line("unix", "sockets", -1));
}

int
main(void)
{
    loopback_up();
    mkdir("/tmp", 0777);
    tcp();
    udp();
    local();
    CHECK(has_line("dev", "    lo:", -1));
    return check_done("sockets");
}
