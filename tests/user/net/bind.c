/* SPDX-License-Identifier: MIT */
/*
 * bind(2), getsockname(2).
 */
#include "net.h"

#include <sys/stat.h>

#define AN(address, length) (long)&address, length
static struct sockaddr_un missing_directory = {AF_UNIX, "/nowhere/at/all"};
static struct sockaddr_un no_directory = {AF_UNIX, "/dev/null/socket"};
static struct sockaddr_in privileged = {.sin_family = AF_INET};
static struct sockaddr_in unspecified = {.sin_family = AF_UNSPEC};
static char name[200];
static socklen_t full = sizeof(name), minus = (socklen_t)-1;

static const struct net_row rows[] = {
    {"bind: unix path", SYS_bind, {UNIX_NEW, AN(absent_address, sizeof(absent_address))}, 0},
    {"bind: unix, taken",
     SYS_bind,
     {UNIX_NEW, AN(unix_address, sizeof(unix_address))},
     -EADDRINUSE},
    {"bind: unix, bound already",
     SYS_bind,
     {DGRAM_BOUND, AN(absent_address, sizeof(absent_address))},
     -EINVAL},
    {"bind: unix, no directory",
     SYS_bind,
     {UNIX_NEW, AN(missing_directory, sizeof(missing_directory))},
     -ENOENT},
    {"bind: unix, below a file",
     SYS_bind,
     {UNIX_NEW, AN(no_directory, sizeof(no_directory))},
     -ENOTDIR},
    {"bind: unix, another family",
     SYS_bind,
     {UNIX_NEW, AN(tcp_address, sizeof(tcp_address))},
     -EINVAL},
    {"bind: unix, abstract", SYS_bind, {UNIX_NEW, AN(abstract_address, 15)}, 0},
    {"bind: unix, a name is chosen", SYS_bind, {UNIX_NEW, AN(unix_address, 2)}, 0},
    {"bind: unix, too long",
     SYS_bind,
     {UNIX_NEW, AN(unix_address, sizeof(unix_address) + 1)},
     -EINVAL},
    {"bind: half a family", SYS_bind, {UNIX_NEW, AN(unix_address, 1)}, -EINVAL},
    {"bind: length below zero", SYS_bind, {UNIX_NEW, AN(unix_address, -1)}, -EINVAL},
    {"bind: length beyond all", SYS_bind, {UNIX_NEW, AN(unix_address, 129)}, -EINVAL},
    {"bind: no address there", SYS_bind, {UNIX_NEW, BAD_PTR, 16}, -EFAULT},
    {"bind: no descriptor", SYS_bind, {NO_FD, AN(unix_address, 16)}, -EBADF},
    {"bind: no socket", SYS_bind, {A_FILE, AN(unix_address, 16)}, -ENOTSOCK},
    {"bind: tcp", SYS_bind, {TCP_NEW, AN(free_address, 16)}, 0},
    {"bind: tcp, any port", SYS_bind, {TCP_NEW, AN(any_address, 16)}, 0},
    {"bind: tcp, taken", SYS_bind, {TCP_NEW, AN(tcp_address, 16)}, -EADDRINUSE},
    {"bind: udp at tcp's port", SYS_bind, {UDP_NEW, AN(tcp_address, 16)}, 0},
    {"bind: udp, taken", SYS_bind, {UDP_NEW, AN(udp_address, 16)}, -EADDRINUSE},
    {"bind: tcp, twice", SYS_bind, {TCP_LISTENER, AN(free_address, 16)}, -EINVAL},
    {"bind: tcp, too short", SYS_bind, {TCP_NEW, AN(free_address, 15)}, -EINVAL},
    {"bind: tcp, a unix address", SYS_bind, {TCP_NEW, AN(unix_address, 16)}, -EAFNOSUPPORT},
    {"bind: tcp, no family but any", SYS_bind, {TCP_NEW, AN(unspecified, 16)}, 0},
    {"bind: tcp, not ours", SYS_bind, {TCP_NEW, AN(far_address, 16)}, -EADDRNOTAVAIL},
    {"bind: tcp6", SYS_bind, {TCP6_NEW, AN(tcp6_address, 28)}, 0},
    {"bind: tcp6, too short", SYS_bind, {TCP6_NEW, AN(tcp6_address, 23)}, -EINVAL},
    {"bind: tcp6, an ipv4 address", SYS_bind, {TCP6_NEW, AN(any_address, 28)}, -EAFNOSUPPORT},
    {"getsockname", SYS_getsockname, {TCP_LISTENER, (long)name, (long)&full}, 0},
    {"getsockname: no room to tell", SYS_getsockname, {TCP_LISTENER, (long)name, BAD_PTR}, -EFAULT},
    {"getsockname: nowhere", SYS_getsockname, {TCP_LISTENER, BAD_PTR, (long)&full}, -EFAULT},
    {"getsockname: length below zero",
     SYS_getsockname,
     {TCP_LISTENER, (long)name, (long)&minus},
     -EINVAL},
    {"getsockname: no descriptor", SYS_getsockname, {NO_FD, (long)name, (long)&full}, -EBADF},
    {"getsockname: no socket", SYS_getsockname, {A_PIPE, (long)name, (long)&full}, -ENOTSOCK},
};

/* A port that only the privileged have. */
static void
unprivileged(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    privileged.sin_port = htons(81);
    EXPECT(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
    int limit = 1024, from = open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_RDONLY);
    if (from >= 0 && read(from, name, 8) > 0)
        limit = atoi(name);
    if (limit == 1024)
        EXPECT(R(bind(fd, (struct sockaddr *)&privileged, 16)), -EACCES);
}

static void
unix_names(void)
{
    struct sockaddr_un got;
    struct stat info;
    socklen_t length = sizeof(got);
    int a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM, 0);

    memset(&got, 1, sizeof(got));
    EXPECT(getsockname(a, (struct sockaddr *)&got, &length), 0);
    EXPECT(length, 2);
    EXPECT(got.sun_family, AF_UNIX);

    umask(022);
    unlink("net.name");
    struct sockaddr_un path = {AF_UNIX, "net.name"};
    EXPECT(bind(a, (struct sockaddr *)&path, 2 + 8), 0); /* no zero byte: it is added */
    length = sizeof(got);
    EXPECT(getsockname(a, (struct sockaddr *)&got, &length), 0);
    EXPECT(length, 2 + 8 + 1);
    EXPECT(strcmp(got.sun_path, "net.name"), 0);
    EXPECT(stat("net.name", &info), 0);
    EXPECT(info.st_mode, S_IFSOCK | 0755);
    EXPECT(R(open("net.name", O_RDWR)), -ENXIO);
    EXPECT(fstat(a, &info), 0);
    EXPECT(info.st_mode, S_IFSOCK | 0777);
    length = 5; /* cut short, and the whole length told */
    memset(&got, 1, sizeof(got));
    EXPECT(getsockname(a, (struct sockaddr *)&got, &length), 0);
    EXPECT(length, 11);
    EXPECT(memcmp(got.sun_path, "net\1", 4), 0);

    /* The name outlives the socket, and is in the way until it is removed. */
    close(a);
    EXPECT(R(bind(b, (struct sockaddr *)&path, sizeof(path))), -EADDRINUSE);
    EXPECT(R(connect(b, (struct sockaddr *)&path, sizeof(path))), -ECONNREFUSED);
    EXPECT(unlink("net.name"), 0);
    EXPECT(R(connect(b, (struct sockaddr *)&path, sizeof(path))), -ENOENT);
    EXPECT(bind(b, (struct sockaddr *)&path, sizeof(path)), 0);
    unlink("net.name");
    close(b);

    /* Abstract names: every byte counts, and kinds do not share them. */
    a = socket(AF_UNIX, SOCK_STREAM, 0);
    b = socket(AF_UNIX, SOCK_STREAM, 0);
    int datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
    EXPECT(bind(a, (struct sockaddr *)&abstract_address, 15), 0);
    EXPECT(R(bind(b, (struct sockaddr *)&abstract_address, 15)), -EADDRINUSE);
    EXPECT(bind(datagram, (struct sockaddr *)&abstract_address, 15), 0);
    EXPECT(bind(b, (struct sockaddr *)&abstract_address, 16), 0);
    length = sizeof(got);
    EXPECT(getsockname(b, (struct sockaddr *)&got, &length), 0);
    EXPECT(length, 16);
    EXPECT(got.sun_path[0], 0);
    close(a);
    a = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT(bind(a, (struct sockaddr *)&abstract_address, 15), 0); /* free with its socket */
    close(a);
    close(b);
    close(datagram);
    a = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT(bind(a, (struct sockaddr *)&abstract_address, 2), 0);
    length = sizeof(got);
    EXPECT(getsockname(a, (struct sockaddr *)&got, &length), 0);
    EXPECT(length, 2 + 6);
    close(a);
}

static int
tcp_bound(const char *reuse, unsigned long host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    address.sin_addr.s_addr = htonl((uint32_t)host);
    if (strchr(reuse, 'a') != NULL)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (strchr(reuse, 'p') != NULL)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    long result = R(bind(fd, (struct sockaddr *)&address, sizeof(address)));
    if (result == 0)
        return fd;
    close(fd);
    return (int)result;
}

static void
ports(void)
{
    const unsigned long one = INADDR_LOOPBACK, two = INADDR_LOOPBACK + 1;
    int a = tcp_bound("", one, FREE_PORT), b;

    EXPECT(a > 0, 1);
    EXPECT(tcp_bound("", one, FREE_PORT), -EADDRINUSE);
    EXPECT(tcp_bound("", INADDR_ANY, FREE_PORT), -EADDRINUSE);
    EXPECT(tcp_bound("a", one, FREE_PORT), -EADDRINUSE); /* both must agree */
    b = tcp_bound("", two, FREE_PORT);
    EXPECT(b > 0, 1); /* another address */
    close(a);
    close(b);

    a = tcp_bound("a", one, FREE_PORT);
    b = tcp_bound("a", one, FREE_PORT);
    EXPECT(a > 0 && b > 0, 1);
    EXPECT(listen(a, 1), 0);
    EXPECT(R(listen(b, 1)), -EADDRINUSE);
    EXPECT(tcp_bound("a", one, FREE_PORT), -EADDRINUSE); /* one listens */
    close(a);
    EXPECT(listen(b, 1), 0);
    close(b);

    a = tcp_bound("p", one, FREE_PORT);
    EXPECT(listen(a, 1), 0);
    b = tcp_bound("p", one, FREE_PORT);
    EXPECT(listen(b, 1), 0);
    EXPECT(tcp_bound("", one, FREE_PORT), -EADDRINUSE);
    close(a);
    close(b);

    /* A port of its own choosing is one of the usual range, and no two are the same. */
    struct sockaddr_in got;
    socklen_t length = sizeof(got);
    a = tcp_bound("", one, 0);
    EXPECT(getsockname(a, (struct sockaddr *)&got, &length), 0);
    EXPECT(ntohs(got.sin_port) >= 32768 && ntohs(got.sin_port) <= 60999, 1);
    EXPECT(ntohl(got.sin_addr.s_addr), one);
    close(a);

    /* :: and 0.0.0.0 are one, unless it is said that they are not. */
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(FREE_PORT)};
    int on = 1;
    a = socket(AF_INET6, SOCK_STREAM, 0);
    EXPECT(bind(a, (struct sockaddr *)&any6, sizeof(any6)), 0);
    EXPECT(tcp_bound("", INADDR_ANY, FREE_PORT), -EADDRINUSE);
    EXPECT(R(setsockopt(a, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on))), -EINVAL);
    close(a);
    a = socket(AF_INET6, SOCK_STREAM, 0);
    EXPECT(setsockopt(a, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)), 0);
    EXPECT(bind(a, (struct sockaddr *)&any6, sizeof(any6)), 0);
    b = tcp_bound("", INADDR_ANY, FREE_PORT);
    EXPECT(b > 0, 1);
    close(a);
    close(b);
}

TOPIC(bind)
{
    unlink("/tmp/net.absent");
    NET_RUN(rows);
    unlink("/tmp/net.absent");
    EXPECT(in_child(unprivileged), 0);
    unix_names();
    ports();
}
