/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_NET_SOCKET_H
#define KERNEL_NET_SOCKET_H

/*
 * The inside of the sockets: what the files of kernel/net share.
 *
 *      descriptor --> struct file --> struct socket --peer--> struct socket
 *                                       packets                  packets
 *
 * Whoever sends copies the bytes into a packet and appends it to the receiver's queue: nothing is
 * lost, doubled or out of order on a machine that talks to itself, so there is no wire protocol.
 *
 * Locks, outermost first:
 *
 *      R  socket->reading   sleeps: the reader's end of a queue; held over user copies
 *      N  net_lock          sleeps: names, listeners and their queues, making connections
 *      G  rights' lock      sleeps: descriptors in flight (rights.c)
 *      S  socket->lock      spins: the queue, the peer, the end of the socket; one at a time
 *
 * A field with a letter is written under that lock.  The tree lock of kernel/fs is taken within N.
 */

#include "../fs/fs.h"
#include "../fs/poll.h"
#include "proc.h"

struct rights;
struct socket;

enum { AF_UNSPEC = 0, AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10 };
enum { SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_RAW = 3, SOCK_SEQPACKET = 5 };
enum { IPPROTO_IP = 0, IPPROTO_TCP = 6, IPPROTO_UDP = 17, IPPROTO_IPV6 = 41, SOL_SOCKET = 1 };

#define MSG_OOB          0x1u
#define MSG_PEEK         0x2u
#define MSG_CTRUNC       0x8u
#define MSG_TRUNC        0x20u
#define MSG_DONTWAIT     0x40u
#define MSG_EOR          0x80u
#define MSG_WAITALL      0x100u
#define MSG_ERRQUEUE     0x2000u
#define MSG_NOSIGNAL     0x4000u
#define MSG_WAITFORONE   0x10000u
#define MSG_CMSG_CLOEXEC 0x40000000u

enum { SHUT_READ = 1, SHUT_WRITE = 2, SHUT_BOTH = 3 }; /* bits of socket->shutdown */

enum { ADDRESS_BYTES = 128, UNIX_PATH_BYTES = 108, FAMILY_BYTES = 2 };

/** A sockaddr of some family as a program gave it or gets it; bytes 0: none. */
struct address {
    uint32_t bytes;
    union {
        uint16_t family;
        char raw[ADDRESS_BYTES];
    };
};

/** Where a packet of the internet families comes from or goes to; IPv4 as ::ffff:a.b.c.d. */
struct endpoint {
    uint8_t address[16];
    uint16_t port; /* 0: none */
};

/** Who sent, as SCM_CREDENTIALS and SO_PEERCRED tell it. */
struct sender_id {
    int32_t pid;
    uint32_t uid, gid;
};

/** One send: a datagram, or a stretch of a stream. */
struct packet {
    struct qr_list link;    /* S of the socket that it waits at */
    struct socket *sender;  /* a reference; charged for it until it is read */
    uint32_t charge;        /* bytes of memory */
    struct qr_charge paid;  /* for these, by the sender's group */
    uint32_t offset;        /* R: bytes that were read already */
    uint32_t bytes;         /* constant */
    struct rights *rights;  /* R: descriptors sent along, or NULL */
    struct sender_id from;  /* constant */
    struct endpoint source; /* constant; internet families */
    char data[];
};

enum socket_state {
    SOCKET_NEW,        /* never connected, or again as if */
    SOCKET_LISTENING,  /* takes connections */
    SOCKET_CONNECTING, /* waits for room at a listener */
    SOCKET_CONNECTED,
    SOCKET_ENDED /* closed, or reset by the peer */
};

/** Numbers that setsockopt() sets and getsockopt() tells (option.c). */
enum socket_value {
    VALUE_REUSE_ADDRESS,
    VALUE_REUSE_PORT,
    VALUE_PASS_CREDENTIALS,
    VALUE_SEND_BYTES,
    VALUE_RECEIVE_BYTES,
    VALUE_LINGER,
    VALUE_LINGER_SECONDS,
    VALUE_V6_ONLY,
    VALUE_LOW_WATER,
    VALUE_PLAIN, /* from here on: only told again */
    VALUE_COUNT = VALUE_PLAIN + 30
};

/** What differs between the five kinds of sockets. */
struct socket_kind {
    const char *name;
    uint16_t family; /* AF_INET stands for both internet families */
    uint16_t type;
    uint16_t protocol;
    bool connects;  /* listen(), accept() and a peer before the first byte */
    bool is_stream; /* bytes without borders */
    /** Give the socket a name of its own. N held. */
    int64_t (*bind)(struct socket *socket, const struct address *address);
    /** It must have a name now: make one up if it has none. N held. */
    int64_t (*bind_any)(struct socket *socket);
    /** Who is at @address for @socket: a listener, or a receiver of datagrams; with a reference.
     *  @return 0; -ECONNREFUSED: nobody; -errno: no such address. N held. */
    int64_t (*find)(struct socket *socket, const struct address *address, struct socket **out);
    /** connect() of datagrams: whom to send to without an address; none of family AF_UNSPEC.
     *  N held. @return 0 or -errno */
    int64_t (*associate)(struct socket *socket, const struct address *address);
    /** @client and @server are a pair from now on; @listener is NULL for socketpair(). N held. */
    void (*pair)(struct socket *client, struct socket *server, struct socket *listener);
    /** Its name is free again; @return what is to be put when no lock is held, or NULL. N held. */
    struct dentry *(*unbind)(struct socket *socket);
    /** Its own name; the name of its peer, -ENOTCONN. N held. */
    void (*own_name)(struct socket *socket, struct address *out);
    int64_t (*peer_name)(struct socket *socket, struct address *out);
};

struct unix_name {
    uint32_t bytes;             /* of path; 0: none */
    char path[UNIX_PATH_BYTES]; /* abstract ones begin with a zero byte; others end before theirs */
    struct dentry *dentry;      /* a path's; one reference */
    struct qr_list link;        /* abstract: in the table of names */
};

struct inet_name {
    struct endpoint own, remote;
    struct qr_list link; /* in the table of ports while own.port is not 0 */
    bool chosen;         /* the port was not asked for */
};

struct socket {
    atomic_uint refs;               /* the file's, the peer's, one a packet; a pending one's */
    const struct socket_kind *kind; /* constant */
    uint16_t family;                /* constant once it has a file */
    struct file *file;              /* set once; no reference; NULL: not accepted yet, or closed */
    _Atomic uint64_t inode_number;  /* of that file; 0: not accepted yet, or closed */
    struct qr_list all_link;        /* socket.c */

    struct qr_spin lock;
    struct qr_mutex reading;
    struct qr_list packets;        /* S: to be read, oldest first */
    _Atomic uint32_t packet_count; /* S to write */
    _Atomic uint32_t unread;       /* S to write: bytes */
    _Atomic uint32_t charged;      /* memory of packets that were sent and not read yet */
    _Atomic uint32_t held;         /* memory of packets that wait here */
    _Atomic uint32_t state;        /* enum socket_state; N and S to write */
    _Atomic uint32_t shutdown;     /* SHUT_*; S to write */
    _Atomic int32_t error;         /* for the next call to tell; positive */
    bool closed;                   /* S: nobody will read the queue */
    struct socket *peer;           /* S: a reference */
    struct wait_queue readable, writable;

    struct qr_list pending; /* N: of a listener: connections to accept, by queue_link */
    struct qr_list waiting; /* N: of a listener: sockets that connect, by queue_link */
    struct qr_list queue_link;
    _Atomic uint32_t pending_count; /* N to write */
    uint32_t backlog;               /* N */
    struct socket *embryo;          /* N: of one that connects: its peer to be */
    bool outcome_untold;            /* N: connect() was not waited for */

    struct sender_id owner;      /* N: who made it, bound it to listen, or connected */
    struct sender_id peer_owner; /* N: SO_PEERCRED */
    _Atomic int32_t values[VALUE_COUNT];
    _Atomic uint64_t send_timeout, receive_timeout; /* ns; 0: none */

    struct qr_list flight_link; /* G */
    uint32_t in_flight;         /* G: descriptors of it in packets */
    uint32_t inner;             /* G: rights.c */
    union {
        struct unix_name unix_name; /* N */
        struct inet_name inet;      /* N */
    };
};

/** One send or receive on its way through the layers. */
struct message {
    struct io io;
    uint32_t flags;     /* MSG_* of the caller */
    uint32_t out_flags; /* MSG_* for the caller */
    bool may_block;
    uint64_t deadline;
    struct address name;   /* destination, or the source told */
    struct rights *rights; /* to send, or received: the message's */
    struct sender_id from; /* to send, or received */
    bool has_from;         /* a packet was received */
};

extern struct qr_mutex net_lock;
extern const struct socket_kind unix_stream_kind, unix_datagram_kind, unix_packet_kind;
extern const struct socket_kind tcp_kind, udp_kind;

static inline bool
socket_is_unix(const struct socket *socket)
{
    return socket->kind->family == AF_UNIX;
}

/* ---- socket.c: life, packets, waiting ------------------------------------------------------- */

/** A new socket with one reference; NULL without memory. */
struct socket *socket_create(const struct socket_kind *kind, uint16_t family);
void socket_ref(struct socket *socket);
void socket_put(struct socket *socket);
/** The one made after @previous (NULL: the first), with a reference; @previous loses one. */
struct socket *socket_next(struct socket *previous);
/** A file without a socket yet; NULL without memory. */
int64_t socket_file_create(uint32_t flags, struct file **out);
/** Bind the two: the file takes over the caller's reference. */
void socket_file_attach(struct file *file, struct socket *socket);
/** The socket behind @file, or NULL. */
struct socket *socket_of(const struct file *file);
/** The current peer with a reference, or NULL. */
struct socket *socket_peer(struct socket *socket);
/** Take the error that waits to be told. @return 0 or negative */
int64_t socket_take_error(struct socket *socket);
/** What a wait with @deadline is to answer. */
int64_t socket_wait_result(int64_t result, uint64_t deadline);
struct sender_id sender_id_current(void);
/** Nobody reads @socket's queue any more, and its peer is told; @reset: that something is lost. */
void socket_end(struct socket *socket, bool reset);
/** The other side of @socket is gone. */
void socket_peer_gone(struct socket *socket, bool reset);
void socket_wake(struct socket *socket);
/** Where whoever wants to send waits for room. */
struct wait_queue *socket_room_queue(struct socket *socket);
/** Memory that may wait to be read of what @socket sent. */
uint32_t socket_send_limit(struct socket *socket);

/** A packet of @bytes from @io, charged to @sender. @return 0, -ENOBUFS, -EFAULT */
int64_t packet_create(struct socket *sender, struct io *io, uint32_t bytes, struct packet **out);
/** Free it, whatever it carries; no lock of sockets is held. */
void packet_free(struct packet *packet);
/** Append to @to's queue. @return false: closed, the packet is still the caller's */
bool packet_deliver(struct socket *to, struct packet *packet);
/** The oldest packet of @socket, which stays. R held. */
struct packet *packet_first(struct socket *socket);
/** Take it out of its queue. R held. */
void packet_take(struct socket *socket, struct packet *packet);
/** Descriptors and credentials of @packet for @message; @peek: they stay with the packet, too. */
int64_t packet_tell(struct packet *packet, struct message *message);

#define SOCKET_WAIT(result, queue, condition, deadline)                           \
    do {                                                                          \
        WAIT_EVENT_UNTIL(result, queue, condition, WAIT_INTERRUPTIBLE, deadline); \
        (result) = socket_wait_result(result, deadline);                          \
    } while (0)

/* ---- the transfers ----------------------------------------------------------------------------- */

int64_t stream_send(struct socket *socket, struct message *message);
int64_t stream_receive(struct socket *socket, struct message *message);
int64_t datagram_send(struct socket *socket, struct message *message);
int64_t datagram_receive(struct socket *socket, struct message *message);
/** Either, with the signal that a broken stream raises. */
int64_t socket_send(struct file *file, struct message *message);
int64_t socket_receive(struct file *file, struct message *message);

/* ---- connection.c -------------------------------------------------------------------------------- */

int64_t connection_listen(struct socket *socket, int32_t backlog);
int64_t connection_connect(struct socket *socket, const struct address *address,
                           const struct message *wait);
/** @return 0 and a socket with a reference, or -errno */
int64_t connection_accept(struct socket *socket, const struct message *wait, struct socket **out);
int64_t connection_pair(struct socket *a, struct socket *b);
int64_t connection_shutdown(struct socket *socket, uint32_t how);
/** The last descriptor is gone. */
void connection_close(struct socket *socket);

/* ---- inet.c --------------------------------------------------------------------------------------- */

/** For an address of @socket's family. @return 0, -EINVAL, -EAFNOSUPPORT, -ENETUNREACH */
int64_t endpoint_of(struct socket *socket, const struct address *address, struct endpoint *out);
void endpoint_tell(struct socket *socket, const struct endpoint *endpoint, struct address *out);

/** Where what @socket sends to @to comes from. N held. */
void inet_source(struct socket *socket, const struct address *to, struct endpoint *out);

/* ---- option.c ------------------------------------------------------------------------------------- */

void options_init(struct socket *socket);
/** What an accepted socket has from its listener. */
void options_inherit(struct socket *socket, const struct socket *from);

/* ---- rights.c ------------------------------------------------------------------------------------- */

enum { RIGHTS_MAX = 253 }; /**< descriptors in one message */

/** Room for @count files; NULL without memory. */
struct rights *rights_create(uint32_t count);
/** Add a file, whose reference is taken over, to rights with room for it. */
void rights_add(struct rights *rights, struct file *file);
uint32_t rights_count(const struct rights *rights);
struct file *rights_file(const struct rights *rights, uint32_t index);
/** Before they go into a queue. @return 0, -ETOOMANYREFS */
int64_t rights_launch(struct rights *rights);
/** After they came out of it. */
void rights_land(struct rights *rights);
/** The same files once more, for MSG_PEEK; NULL without memory. */
struct rights *rights_copy(const struct rights *rights);
/** Drop all files; what that closes may carry rights itself. No lock of sockets is held. */
void rights_free(struct rights *rights);

#endif
