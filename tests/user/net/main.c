/* SPDX-License-Identifier: MIT */
/*
 * The arena of sockets.
 */
#include "net.h"

struct sockaddr_un unix_address = {AF_UNIX, UNIX_PATH}, dgram_address = {AF_UNIX, DGRAM_PATH};
struct sockaddr_un absent_address = {AF_UNIX, "net.absent"};
struct sockaddr_un abstract_address = {AF_UNIX, "\0net.abstract"};
struct sockaddr_in tcp_address, udp_address, free_address, any_address, far_address;
struct sockaddr_in6 tcp6_address;
char bytes_in[65536], bytes_out[65536];

int
must(int fd)
{
    if (fd < 0) {
        printf("FAIL the arena (errno %d)\n", errno);
        exit(1);
    }
    return fd;
}

long
result_of(long value)
{
    return value == -1 ? -errno : value;
}

static void
place(int fd, int at)
{
    must(fd);
    must(dup2(fd, at));
    close(fd);
}

static struct sockaddr_in
in_address(const char *text, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    unsigned a, b, c, d;

    sscanf(text, "%u.%u.%u.%u", &a, &b, &c, &d);
    address.sin_addr.s_addr = htonl(a << 24 | b << 16 | c << 8 | d);
    return address;
}

static void
addresses_make(void)
{
    tcp_address = in_address("127.0.0.1", TCP_PORT);
    udp_address = in_address("127.0.0.1", UDP_PORT);
    free_address = in_address("127.0.0.1", FREE_PORT);
    any_address = in_address("0.0.0.0", 0);
    far_address = in_address("192.0.2.1", 80);
    tcp6_address = (struct sockaddr_in6){
        .sin6_family = AF_INET6, .sin6_port = htons(FREE_PORT), .sin6_addr = in6addr_loopback};
}

static int
tcp_listen(const struct sockaddr_in *address)
{
    int fd = must(socket(AF_INET, SOCK_STREAM, 0)), on = 1;

    must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
    must(bind(fd, (const struct sockaddr *)address, sizeof(*address)));
    must(listen(fd, 5));
    return fd;
}

/* Reset at close, so that no port is left behind. */
static void
no_linger(int fd)
{
    struct linger now = {1, 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void
tcp_place(int listener)
{
    int client = must(socket(AF_INET, SOCK_STREAM, 0));

    must(connect(client, (struct sockaddr *)&tcp_address, sizeof(tcp_address)));
    place(accept(listener, NULL, NULL), TCP_SERVER);
    place(client, TCP_CLIENT);
    no_linger(TCP_SERVER);
    no_linger(TCP_CLIENT);
}

void
tcp_pair(int *client, int *server)
{
    struct sockaddr_in address = in_address("127.0.0.1", 0);
    socklen_t length = sizeof(address);
    int listener = tcp_listen(&address);

    must(getsockname(listener, (struct sockaddr *)&address, &length));
    *client = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(*client, (struct sockaddr *)&address, sizeof(address)));
    *server = must(accept(listener, NULL, NULL));
    close(listener);
}

static void
pair_place(int type, int at)
{
    int pair[2];

    must(socketpair(AF_UNIX, type, 0, pair));
    place(pair[0], at);
    place(pair[1], at + 1);
}

static int
unix_bound(int type, const struct sockaddr_un *address)
{
    int fd = must(socket(AF_UNIX, type, 0));

    unlink(address->sun_path);
    must(bind(fd, (const struct sockaddr *)address, sizeof(*address)));
    return fd;
}

void
net_arena(void)
{
    int fd, pipe_ends[2];

    addresses_make();
    for (int i = UNIX_NEW; i < ARENA_FD_END; i++)
        close(i);
    memset(bytes_in, 0, sizeof(bytes_in));
    unlink(absent_address.sun_path);
    place(socket(AF_UNIX, SOCK_STREAM, 0), UNIX_NEW);
    fd = unix_bound(SOCK_STREAM, &unix_address);
    must(listen(fd, 1));
    place(fd, UNIX_LISTENER);
    pair_place(SOCK_STREAM, UNIX_A);
    place(socket(AF_UNIX, SOCK_DGRAM, 0), UNIX_DGRAM);
    place(unix_bound(SOCK_DGRAM, &dgram_address), DGRAM_BOUND);
    pair_place(SOCK_SEQPACKET, PACKET_A);
    place(socket(AF_INET, SOCK_STREAM, 0), TCP_NEW);
    place(tcp_listen(&tcp_address), TCP_LISTENER);
    tcp_place(TCP_LISTENER);
    place(socket(AF_INET, SOCK_DGRAM, 0), UDP_NEW);
    fd = must(socket(AF_INET, SOCK_DGRAM, 0));
    must(bind(fd, (struct sockaddr *)&udp_address, sizeof(udp_address)));
    place(fd, UDP_BOUND);
    place(socket(AF_INET6, SOCK_STREAM, 0), TCP6_NEW);
    place(open("/dev/null", O_RDWR), A_FILE);
    must(pipe(pipe_ends));
    place(pipe_ends[0], A_PIPE);
    close(pipe_ends[1]);
}

static int
open_count(void)
{
    int count = 0;

    for (int i = 0; i < NO_FD; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

static void
row_run(const struct net_row *row)
{
    const long *arg = row->arg;

    net_arena();
    int before = open_count();
    long got = call(row->number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);

    check_count++;
    if (row->want == ANY_VALUE ? is_error(got) : got != row->want) {
        check_failures++;
        printf("FAIL %s: %ld, expected %ld\n", row->what, got, row->want);
    } else if (is_error(row->want) && open_count() != before) {
        check_failures++;
        printf("FAIL %s: failed as it should, but descriptors were left\n", row->what);
    } else if (got >= ARENA_FD_END || (row->number == SYS_socket && got > 2)) {
        close((int)got);
    }
}

void
net_rows(const struct net_row *rows, size_t count)
{
    signal(SIGPIPE, SIG_IGN);
    if (chdir("/tmp") != 0)
        exit(1);
    for (size_t i = 0; i < count; i++)
        row_run(&rows[i]);
    net_arena();
}

int
poll_now(int fd)
{
    struct pollfd one = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};

    poll(&one, 1, 0);
    return one.revents;
}
