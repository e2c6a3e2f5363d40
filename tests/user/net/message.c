/* SPDX-License-Identifier: MIT */
/*
 * sendmsg(2), recvmsg(2), sendmmsg(2), recvmmsg(2); SCM_RIGHTS and SCM_CREDENTIALS (unix(7)).
 */
#include "net.h"

#include <sys/uio.h>

static char word[4] = "word";
static struct iovec one_piece = {word, 4}, bad_piece = {(void *)BAD_PTR, 4};
static struct iovec endless = {word, (size_t)-1};
static char no_control[4096];

static struct msghdr plain = {.msg_iov = &one_piece, .msg_iovlen = 1};
static struct msghdr to_datagram = {
    .msg_name = &dgram_address, .msg_namelen = 110, .msg_iov = &one_piece, .msg_iovlen = 1};
static struct msghdr bad_bytes = {.msg_iov = &bad_piece, .msg_iovlen = 1};
static struct msghdr bad_pieces = {.msg_iov = (void *)BAD_PTR, .msg_iovlen = 1};
static struct msghdr many_pieces = {.msg_iov = &one_piece, .msg_iovlen = 1025};
static struct msghdr long_piece = {.msg_iov = &endless, .msg_iovlen = 1};
static struct msghdr bad_name = {
    .msg_name = (void *)BAD_PTR, .msg_namelen = 16, .msg_iov = &one_piece, .msg_iovlen = 1};
static struct msghdr minus_name = {
    .msg_name = &tcp_address, .msg_namelen = (socklen_t)-1, .msg_iov = &one_piece, .msg_iovlen = 1};
static struct msghdr bad_control = {
    .msg_iov = &one_piece, .msg_iovlen = 1, .msg_control = (void *)BAD_PTR, .msg_controllen = 32};
static struct msghdr short_control = {
    .msg_iov = &one_piece, .msg_iovlen = 1, .msg_control = no_control, .msg_controllen = 32};
static struct msghdr nothing = {.msg_iov = NULL, .msg_iovlen = 0};
static struct mmsghdr several[3];

static const struct net_row rows[] = {
    {"sendmsg", SYS_sendmsg, {UNIX_A, (long)&plain, 0}, 4},
    {"sendmsg: to an address", SYS_sendmsg, {UNIX_DGRAM, (long)&to_datagram, 0}, 4},
    {"sendmsg: tcp", SYS_sendmsg, {TCP_CLIENT, (long)&plain, 0}, 4},
    {"sendmsg: nothing", SYS_sendmsg, {UNIX_A, (long)&nothing, 0}, 0},
    {"sendmsg: no structure", SYS_sendmsg, {UNIX_A, BAD_PTR, 0}, -EFAULT},
    {"sendmsg: no pieces", SYS_sendmsg, {UNIX_A, (long)&bad_pieces, 0}, -EFAULT},
    {"sendmsg: no bytes", SYS_sendmsg, {UNIX_A, (long)&bad_bytes, 0}, -EFAULT},
    {"sendmsg: too many pieces", SYS_sendmsg, {UNIX_A, (long)&many_pieces, 0}, -EMSGSIZE},
    {"sendmsg: a piece beyond all", SYS_sendmsg, {UNIX_A, (long)&long_piece, 0}, -EINVAL},
    {"sendmsg: no address there", SYS_sendmsg, {UDP_NEW, (long)&bad_name, 0}, -EFAULT},
    {"sendmsg: address below zero", SYS_sendmsg, {UDP_NEW, (long)&minus_name, 0}, -EINVAL},
    {"sendmsg: no control there", SYS_sendmsg, {UNIX_A, (long)&bad_control, 0}, -EFAULT},
    {"sendmsg: control without length", SYS_sendmsg, {UNIX_A, (long)&short_control, 0}, -EINVAL},
    {"sendmsg: no descriptor", SYS_sendmsg, {NO_FD, (long)&plain, 0}, -EBADF},
    {"sendmsg: no socket", SYS_sendmsg, {A_FILE, (long)&plain, 0}, -ENOTSOCK},
    {"recvmsg: nothing", SYS_recvmsg, {UNIX_A, (long)&plain, MSG_DONTWAIT}, -EAGAIN},
    {"recvmsg: no structure", SYS_recvmsg, {UNIX_A, BAD_PTR, MSG_DONTWAIT}, -EFAULT},
    {"recvmsg: too many pieces",
     SYS_recvmsg,
     {UNIX_A, (long)&many_pieces, MSG_DONTWAIT},
     -EMSGSIZE},
    {"recvmsg: address below zero",
     SYS_recvmsg,
     {UDP_NEW, (long)&minus_name, MSG_DONTWAIT},
     -EINVAL},
    {"recvmsg: no descriptor", SYS_recvmsg, {NO_FD, (long)&plain, 0}, -EBADF},
    {"recvmsg: no socket", SYS_recvmsg, {A_PIPE, (long)&plain, 0}, -ENOTSOCK},
    {"sendmmsg: none", SYS_sendmmsg, {UNIX_A, (long)several, 0, 0}, 0},
    {"sendmmsg: no structure", SYS_sendmmsg, {UNIX_A, BAD_PTR, 1, 0}, -EFAULT},
    {"sendmmsg: no descriptor", SYS_sendmmsg, {NO_FD, (long)several, 1, 0}, -EBADF},
    {"sendmmsg: no socket", SYS_sendmmsg, {A_FILE, (long)several, 1, 0}, -ENOTSOCK},
    {"recvmmsg: nothing", SYS_recvmmsg, {UDP_BOUND, (long)several, 3, MSG_DONTWAIT, 0}, -EAGAIN},
    {"recvmmsg: no time there", SYS_recvmmsg, {UDP_BOUND, (long)several, 3, 0, BAD_PTR}, -EFAULT},
    {"recvmmsg: no descriptor", SYS_recvmmsg, {NO_FD, (long)several, 3, 0, 0}, -EBADF},
    {"recvmmsg: no socket", SYS_recvmmsg, {A_FILE, (long)several, 3, 0, 0}, -ENOTSOCK},
};

/* ---- what comes along ------------------------------------------------------------------- */

/* Send @bytes of text with @count descriptors. */
static long
send_fds(int socket, const char *text, const int *fds, size_t count)
{
    static union {
        char bytes[CMSG_SPACE(300 * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    return R(sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

struct got {
    long result;
    int flags;
    size_t control_bytes;
    int count;
    int fds[300];
    bool has_id;
    struct ucred id;
};

/* Receive up to @bytes with room for @control bytes of what comes along. */
static struct got
receive(int socket, size_t bytes, size_t control_room, int flags)
{
    static union {
        char bytes[4096];
        struct cmsghdr aligned;
    } control;
    struct iovec piece = {bytes_in, bytes};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control_room == 0 ? NULL : control.bytes,
                             .msg_controllen = control_room};
    static struct got got;

    memset(&got, 0, sizeof(got));
    got.result = R(recvmsg(socket, &message, flags | MSG_DONTWAIT));
    got.flags = message.msg_flags;
    got.control_bytes = message.msg_controllen;
    if (got.result < 0)
        return got;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at != NULL; at = CMSG_NXTHDR(&message, at)) {
        if (at->cmsg_type == SCM_RIGHTS) {
            got.count = (int)((at->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(got.fds, CMSG_DATA(at), (size_t)got.count * sizeof(int));
        } else if (at->cmsg_type == SCM_CREDENTIALS) {
            got.has_id = true;
            memcpy(&got.id, CMSG_DATA(at), sizeof(got.id));
        }
    }
    return got;
}

static void
close_all(const struct got *got)
{
    for (int i = 0; i < got->count; i++)
        close(got->fds[i]);
}

static void
rights(void)
{
    int pipe_ends[2], bad[2] = {A_FILE, NO_FD}, many[254];
    struct got got;

    net_arena();
    EXPECT(pipe(pipe_ends), 0);
    EXPECT(send_fds(UNIX_A, "x", pipe_ends, 2), 1);
    close(pipe_ends[0]); /* in flight it stays open */
    got = receive(UNIX_B, 10, 100, MSG_CMSG_CLOEXEC);
    EXPECT(got.result, 1);
    EXPECT(got.count, 2);
    EXPECT(got.flags, MSG_CMSG_CLOEXEC);
    EXPECT(got.control_bytes, CMSG_SPACE(2 * sizeof(int)));
    EXPECT(fcntl(got.fds[0], F_GETFD), FD_CLOEXEC);
    EXPECT(write(pipe_ends[1], "through", 7), 7);
    EXPECT(read(got.fds[0], bytes_in, 10), 7);
    close_all(&got);

    EXPECT(send_fds(UNIX_A, "x", bad, 2), -EBADF);
    for (int i = 0; i < 254; i++)
        many[i] = A_FILE;
    EXPECT(send_fds(UNIX_A, "x", many, 254), -EINVAL);
    EXPECT(send_fds(UNIX_A, "x", many, 253), 1);
    got = receive(UNIX_B, 10, CMSG_SPACE(253 * sizeof(int)), 0);
    EXPECT(got.count, 253);
    close_all(&got);

    /* No room, little room. */
    EXPECT(send_fds(UNIX_A, "x", pipe_ends + 1, 1), 1);
    got = receive(UNIX_B, 10, 0, 0);
    EXPECT(got.flags, MSG_CTRUNC);
    EXPECT(got.count, 0);
    EXPECT(send_fds(UNIX_A, "x", many, 3), 1);
    got = receive(UNIX_B, 10, CMSG_LEN(2 * sizeof(int)), 0);
    EXPECT(got.flags, MSG_CTRUNC);
    EXPECT(got.count, 2);
    close_all(&got);
    EXPECT(send_fds(UNIX_A, "x", many, 1), 1);
    EXPECT(read(UNIX_B, bytes_in, 10), 1); /* read() drops them */

    /* In a stream they come with the first byte of theirs, and the read ends behind them. */
    EXPECT(send_fds(UNIX_A, "aa", NULL, 0), 2);
    EXPECT(send_fds(UNIX_A, "bb", many, 1), 2);
    EXPECT(send_fds(UNIX_A, "cc", NULL, 0), 2);
    got = receive(UNIX_B, 100, 100, MSG_PEEK);
    EXPECT(got.result, 4);
    EXPECT(got.count, 1);
    close_all(&got);
    got = receive(UNIX_B, 100, 100, 0);
    EXPECT(got.result, 4);
    EXPECT(got.count, 1);
    close_all(&got);
    got = receive(UNIX_B, 100, 100, 0);
    EXPECT(got.result, 2);
    EXPECT(got.count, 0);

    EXPECT(send_fds(PACKET_A, "x", many, 2), 1);
    got = receive(PACKET_B, 10, 100, 0);
    EXPECT(got.count, 2);
    close_all(&got);
    /* TCP knows nothing of it. */
    EXPECT(send_fds(TCP_CLIENT, "x", bad, 2), 1);
}

/* No descriptor free: the message comes, and says that something is missing. */
static void
rights_without_room(void)
{
    struct rlimit limit;
    int fds[3] = {A_FILE, A_FILE, A_FILE};
    struct got got;

    EXPECT(send_fds(UNIX_A, "x", fds, 3), 1);
    for (int fd = 3; fd < UNIX_NEW; fd++)
        dup2(0, fd);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = ARENA_FD_END + 1;
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    got = receive(UNIX_B, 10, 100, 0);
    EXPECT(got.result, 1);
    EXPECT(got.count, 1);
    EXPECT(got.flags, MSG_CTRUNC);
    EXPECT(got.fds[0], ARENA_FD_END);
}

static long
send_id(int socket, int pid, int uid, int gid)
{
    union {
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr aligned;
    } control;
    struct iovec piece = {word, 1};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    struct ucred id = {pid, (uid_t)uid, (gid_t)gid};

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_CREDENTIALS;
    header->cmsg_len = CMSG_LEN(sizeof(id));
    memcpy(CMSG_DATA(header), &id, sizeof(id));
    return R(sendmsg(socket, &message, MSG_DONTWAIT));
}

static void
unprivileged_ids(void)
{
    EXPECT(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
    EXPECT(send_id(UNIX_A, getpid(), 65534, getgid()), 1);
    EXPECT(send_id(UNIX_A, getpid(), 0, getgid()), -EPERM);
    EXPECT(send_id(UNIX_A, getppid(), 65534, getgid()), -EPERM);
    EXPECT(send_id(UNIX_A, getpid(), 65534, 12345), -EPERM);
}

static void
credentials(void)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);
    struct got got;
    int on = 1;

    net_arena();
    EXPECT(getsockopt(UNIX_A, SOL_SOCKET, SO_PEERCRED, &peer, &length), 0);
    EXPECT(length, sizeof(peer));
    EXPECT(peer.pid, getpid());
    EXPECT(getsockopt(UNIX_NEW, SOL_SOCKET, SO_PEERCRED, &peer, &length), 0);
    EXPECT(peer.pid, 0);
    EXPECT(peer.uid, (uid_t)-1);

    EXPECT(setsockopt(UNIX_B, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
    EXPECT(write(UNIX_A, "x", 1), 1);
    got = receive(UNIX_B, 10, 100, 0);
    EXPECT(got.has_id, true);
    EXPECT(got.id.pid, getpid());
    EXPECT(got.id.uid, getuid());
    /* The privileged may say anything, and two senders' bytes are not glued. */
    EXPECT(send_id(UNIX_A, 1, 7, 8), 1);
    EXPECT(write(UNIX_A, "x", 1), 1);
    got = receive(UNIX_B, 10, 100, 0);
    EXPECT(got.result, 1);
    EXPECT(got.id.pid == 1 && got.id.uid == 7 && got.id.gid == 8, 1);
    got = receive(UNIX_B, 10, 100, 0);
    EXPECT(got.result, 1);
    EXPECT(got.id.pid, getpid());
    EXPECT(in_child(unprivileged_ids), 0);
    got = receive(UNIX_B, 10, 4, 0);
    EXPECT(got.flags, MSG_CTRUNC);

    /* A sender of datagrams who is asked who it is gets a name. */
    struct sockaddr_un name;
    length = sizeof(name);
    EXPECT(setsockopt(UNIX_DGRAM, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
    EXPECT(send_fds(DGRAM_BOUND, "x", NULL, 0), -ENOTCONN);
    EXPECT(sendto(UNIX_DGRAM, "x", 1, 0, (struct sockaddr *)&dgram_address, 110), 1);
    EXPECT(getsockname(UNIX_DGRAM, (struct sockaddr *)&name, &length), 0);
    EXPECT(length, 8);
}

/* ---- garbage ------------------------------------------------------------------------------ */

/* The pipe's other end tells when its last reader is really gone. */
static bool
is_closed(int write_end)
{
    for (int tries = 0; tries < 2000; tries++) {
        if (poll_now(write_end) & POLLERR)
            return true;
        /* Linux collects behind one's back, when some socket is closed. */
        close(socket(AF_UNIX, SOCK_STREAM, 0));
        usleep(1000);
    }
    return false;
}

/* A socket sent through itself; two through each other; a ring of them; with a listener between. */
static void
cycles(void)
{
    int pair[2], other[2], ends[2], fds[8];

    signal(SIGPIPE, SIG_IGN);
    EXPECT(pipe(ends), 0);
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    fds[0] = pair[1];
    fds[1] = ends[0];
    EXPECT(send_fds(pair[0], "x", fds, 2), 1); /* pair[1] waits in its own queue */
    close(pair[0]);
    close(pair[1]);
    close(ends[0]);
    EXPECT(is_closed(ends[1]), true);
    close(ends[1]);

    EXPECT(pipe(ends), 0);
    EXPECT(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, other), 0);
    fds[0] = ends[0];
    fds[1] = pair[1];
    EXPECT(send_fds(other[0], "x", fds, 2), 1);
    EXPECT(send_fds(pair[0], "x", &other[1], 1), 1);
    close(ends[0]);
    close(pair[1]);
    close(other[1]);
    close(pair[0]);
    close(other[0]);
    EXPECT(is_closed(ends[1]), true);
    close(ends[1]);

    /* A connection that nobody accepted holds the listener. */
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT(pipe(ends), 0);
    EXPECT(bind(listener, (struct sockaddr *)&abstract_address, 15), 0);
    EXPECT(listen(listener, 5), 0);
    EXPECT(connect(client, (struct sockaddr *)&abstract_address, 15), 0);
    fds[0] = listener;
    fds[1] = ends[0];
    EXPECT(send_fds(client, "x", fds, 2), 1);
    close(listener);
    close(client);
    close(ends[0]);
    EXPECT(is_closed(ends[1]), true);
    close(ends[1]);
}

/* What is reachable is not garbage, however far in. */
static void
reachable(void)
{
    int outer[2], inner[2], ends[2];
    struct got got;

    EXPECT(pipe(ends), 0);
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, outer), 0);
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, inner), 0);
    EXPECT(send_fds(inner[0], "deep", &ends[0], 1), 4);
    EXPECT(send_fds(outer[0], "x", &inner[1], 1), 1);
    close(ends[0]);
    close(inner[1]);
    close(inner[0]);
    for (int i = 0; i < 10; i++)
        close(socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT(poll_now(ends[1]), POLLOUT);
    got = receive(outer[1], 10, 100, 0);
    EXPECT(got.count, 1);
    inner[1] = got.fds[0];
    got = receive(inner[1], 10, 100, 0);
    EXPECT(got.result, 4);
    EXPECT(got.count, 1);
    EXPECT(write(ends[1], "end", 3), 3);
    EXPECT(read(got.fds[0], bytes_in, 10), 3);
    close_all(&got);
    close(inner[1]);
    close(outer[0]);
    close(outer[1]);
    close(ends[1]);
}

/* A chain of sockets, each in the queue of the next: one close goes through all of it. */
static void
chain(void)
{
    int link[2], next[2], ends[2];

    EXPECT(pipe(ends), 0);
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, link), 0);
    EXPECT(send_fds(link[0], "x", &ends[0], 1), 1);
    close(ends[0]);
    for (int i = 0; i < 2000; i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, next) != 0 ||
            send_fds(next[0], "x", &link[1], 1) != 1) {
            EXPECT(i, 2000);
            break;
        }
        close(link[0]);
        close(link[1]);
        link[0] = next[0];
        link[1] = next[1];
    }
    EXPECT(poll_now(ends[1]), POLLOUT);
    close(link[0]);
    close(link[1]);
    EXPECT(is_closed(ends[1]), true);
    close(ends[1]);
}

/* An unprivileged user has no more in flight than descriptors. */
static void
flood(void)
{
    struct rlimit limit = {128, 128};
    int pair[2], fds[50];
    long result = 0;
    int sent = 0;

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    for (int i = 0; i < 50; i++)
        fds[i] = pair[0];
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    EXPECT(syscall(SYS_setresuid, 54321, 54321, 54321), 0);
    while (sent < 100 && (result = send_fds(pair[0], "x", fds, 50)) == 1)
        sent++;
    EXPECT(result, -ETOOMANYREFS);
    EXPECT(sent, 3); /* refused once there are more than the limit */
    receive(pair[1], 1, 0, 0);
    EXPECT(send_fds(pair[0], "x", fds, 50), 1);
}

/* ---- several at once ------------------------------------------------------------------------ */

static void
many_messages(void)
{
    struct iovec pieces[3] = {{bytes_in, 10}, {bytes_in + 100, 10}, {bytes_in + 200, 10}};
    struct iovec out[2] = {{"first", 5}, {"second", 6}};
    struct sockaddr_in from;
    struct timespec limit = {10, 0};

    net_arena();
    EXPECT(connect(UDP_NEW, (struct sockaddr *)&udp_address, 16), 0);
    memset(several, 0, sizeof(several));
    for (int i = 0; i < 2; i++)
        several[i].msg_hdr = (struct msghdr){.msg_iov = &out[i], .msg_iovlen = 1};
    EXPECT(sendmmsg(UDP_NEW, several, 2, 0), 2);
    EXPECT(several[1].msg_len, 6);
    memset(several, 0, sizeof(several));
    for (int i = 0; i < 3; i++)
        several[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    several[0].msg_hdr.msg_name = &from;
    several[0].msg_hdr.msg_namelen = sizeof(from);
    EXPECT(recvmmsg(UDP_BOUND, several, 3, MSG_WAITFORONE, &limit), 2);
    EXPECT(several[0].msg_len, 5);
    EXPECT(several[1].msg_len, 6);
    EXPECT(several[0].msg_hdr.msg_namelen, sizeof(from));
    EXPECT(memcmp(bytes_in + 100, "second", 6), 0);
}

TOPIC(message)
{
    NET_RUN(rows);
    rights();
    net_arena();
    EXPECT(in_child(rights_without_room), 0);
    credentials();
    cycles();
    reachable();
    chain();
    EXPECT(in_child(flood), 0);
    many_messages();
    net_arena();
}
