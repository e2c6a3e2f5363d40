/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_FS_H
#define KERNEL_FS_FS_H

/*
 * The inside of the file system layer: what its own files share.
 *
 *      descriptor --> struct file --> struct dentry --> struct inode --> contents
 *                      (one open)      (a name)          (a thing)
 *
 * Names form one tree per mounted file system, kept in memory while they exist; a mounted tree
 * hangs on a dentry of another.  There is no separate cache of names: the tree is the truth.
 * Only directories with generated children (/proc, /proc/PID/fd) make dentries on look-up.
 *
 * Locks, outermost first; all of them sleep and are released before user memory is touched
 * unless it says otherwise:
 *
 *      T  tree lock         one for all names: parents, children, mounts, link counts
 *      I  inode->lock       contents and attributes of one inode; held over user copies
 *      F  file->position_lock is taken before I, and never while T is held
 *
 * A page fault on a user buffer reaches objects, never T, I or F: holding I over a copy is safe.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/list.h>
#include <quire/lock.h>
#include <quire/object.h>

#include "abi_errno.h"
#include "file.h"
#include "io.h"
#include "kstring.h"
#include "mm.h"
#include "printk.h"
#include "vfs.h"

struct dentry;
struct inode;
struct superblock;
struct flock_state;

/* st_mode */
#define S_IFMT               0170000u
#define S_IFSOCK             0140000u
#define S_IFLNK              0120000u
#define S_IFREG              0100000u
#define S_IFBLK              0060000u
#define S_IFDIR              0040000u
#define S_IFCHR              0020000u
#define S_IFIFO              0010000u
#define S_ISUID              04000u
#define S_ISGID              02000u
#define S_ISVTX              01000u
#define S_ISTYPE(mode, type) (((mode)&S_IFMT) == (type))

#define MAKE_DEV(major, minor) ((uint32_t)(major) << 20 | (uint32_t)(minor))
#define DEV_MAJOR(dev)         ((dev) >> 20)
#define DEV_MINOR(dev)         ((dev)&0xfffffu)

/* mount flags */
enum {
    MS_RDONLY = 1,
    MS_NOSUID = 2,
    MS_NODEV = 4,
    MS_NOEXEC = 8,
    MS_REMOUNT = 32,
    MS_NOATIME = 1024,
    MS_BIND = 4096,
    MS_MOVE = 8192,
    MS_REC = 16384,
    MS_SILENT = 32768,
    MS_PRIVATE = 1 << 18,
    MS_SLAVE = 1 << 19,
    MS_SHARED = 1 << 20,
    MS_RELATIME = 1 << 21
};

enum { FS_PAGE_BYTES = 1 << CONFIG_PAGE_SHIFT };

struct timespec {
    int64_t seconds;
    int64_t nanoseconds;
};

/* ---- inodes ------------------------------------------------------------------ */

/** Receives the entries of a generated directory. @return false: the buffer is full, stop. */
struct directory_emit {
    bool (*entry)(struct directory_emit *emit, const char *name, size_t length, uint64_t ino,
                  uint32_t mode, uint64_t next_position);
};

/** What one kind of inode can do beyond holding attributes. NULL entries: plain behaviour. */
struct inode_ops {
    /** Generated child @name of @directory; a dentry with a reference. T held for reading. */
    int64_t (*lookup)(struct dentry *directory, const char *name, size_t length,
                      struct dentry **out);
    /** Generated children from @position on (positions >= LIST_GENERATED). T held for reading. */
    void (*list)(struct dentry *directory, uint64_t position, struct directory_emit *emit);
    /** Text of a symbolic link, not terminated. @return its length (cut to @size) or -errno */
    int64_t (*read_link)(struct inode *inode, char *buffer, size_t size);
    /** A link that leads to a thing and not by a path (/proc/PID/fd/N): the thing. */
    int64_t (*follow)(struct inode *inode, struct dentry **out);
    /** Set file->ops and file->context for a new open. @return 0 or -errno. T not held. */
    int64_t (*open)(struct inode *inode, struct file *file);
    int64_t (*truncate)(struct inode *inode, uint64_t bytes);
    /** A directory whose children the kernel makes and removes: @mode has the type.  T held for
     *  writing. @return 0 or -errno */
    int64_t (*make)(struct inode *directory, const char *name, size_t length, uint32_t mode);
    int64_t (*remove)(struct inode *directory, struct inode *child);
    /** Is @wish allowed whatever the mode says?  NULL: never. */
    bool (*allows)(const struct inode *inode, unsigned wish);
    /** Bring attributes up to date before they are read. */
    void (*refresh)(struct inode *inode);
    /** The last reference is gone: free what hangs on it. Cannot fail. */
    void (*evict)(struct inode *inode);
    /** Units of 512 bytes that it takes up; NULL: as tmpfs counts. */
    uint64_t (*blocks)(struct inode *inode);
};

enum { LIST_GENERATED = 1 << 20 }; /**< first directory position of generated children */

struct inode {
    atomic_uint refs;
    struct superblock *superblock;               /* constant */
    uint64_t number;                             /* constant */
    const struct inode_ops *ops;                 /* constant */
    const struct file_ops *file_ops;             /* constant; for regular files */
    uint32_t mode;                               /* type constant; permissions I */
    uint32_t rdev;                               /* constant */
    uint32_t uid, gid;                           /* I */
    uint32_t links;                              /* T */
    uint32_t seals;                              /* I: F_SEAL_*, memfd only */
    _Atomic uint64_t size;                       /* I to write */
    struct timespec accessed, modified, changed; /* I; a torn read shows a mixed time at worst */
    _Atomic int32_t write_count; /* opens for writing; negative: opens for execution */
    atomic_bool dirty;           /* attributes have changed since they were last stored */
    atomic_bool swapped_to;      /* its blocks and names stay: swap.c */
    bool binds_root;             /* constant: what its mode forbids, user 0 may not do either */
    struct qr_mutex lock;
    void *data;                /* the file system's own; constant */
    size_t counted_pages;      /* I: what the superblock was told, see tmpfs.c */
    struct flock_state *locks; /* flock.c */
    union {
        struct qr_object
            *object;           /* regular tmpfs file: I to set, then constant; NULL while empty */
        char *target;          /* symbolic link: constant */
        struct pipe *pipe;     /* fifo: see pipe.c */
        struct socket *socket; /* name of a socket: who is bound to it, under net_lock */
        const void *node;      /* generated file: its description, constant */
    };
    uint64_t key;      /* generated inode: which process, descriptor … constant */
    uint64_t key_more; /* the same */
};

/** New inode of @superblock with one reference, one link, times now. NULL without memory. */
struct inode *inode_create(struct superblock *superblock, const struct inode_ops *ops,
                           uint32_t mode);
void inode_ref(struct inode *inode);
void inode_put(struct inode *inode);
/** A regular file is either written or executed, not both. @return 0 or -ETXTBSY */
int64_t inode_begin_write(struct inode *inode);
void inode_end_write(struct inode *inode);
int64_t inode_begin_exec(struct inode *inode);
void inode_end_exec(struct inode *inode);

/** Times of the change of contents (@modified) or of attributes only. */
void inode_touch(struct inode *inode, bool modified);
struct timespec time_now(void);

/* ---- names --------------------------------------------------------------------- */

enum { DENTRY_INLINE_NAME = 32 };

struct dentry {
    atomic_uint refs;              /* one of the tree while linked, one of each child */
    struct superblock *superblock; /* constant */
    struct inode *inode;           /* constant; one reference */
    struct dentry *parent;         /* T; one reference; itself not counted at a root */
    char *name;                    /* T; terminated */
    uint32_t name_length;          /* T */
    uint32_t hash;                 /* T */
    bool linked;                   /* T: reachable by its name */
    bool unloaded;                 /* T: a directory whose children are on disk still */
    bool generated;                /* constant: made on look-up, in no list */
    uint64_t cookie;               /* T: directory position */
    uint64_t next_cookie;          /* T: of a directory, for its next child */
    uint32_t child_count;          /* T */
    struct qr_list siblings;       /* T: in parent->children, by cookie */
    struct qr_list children;       /* T */
    struct qr_list bucket;         /* T: hash chain */
    struct superblock *mounted;    /* T: file system that covers this directory */
    char inline_name[DENTRY_INLINE_NAME];
};

void tree_lock_read(void);
void tree_unlock_read(void);
void tree_lock_write(void);
void tree_unlock_write(void);

/** A dentry in no tree, with one reference; takes its own reference on @inode and @parent. */
struct dentry *dentry_create(struct dentry *parent, const char *name, size_t length,
                             struct inode *inode);
/** A dentry that no directory knows, for pipes and their like; adopts the reference to @inode. */
struct dentry *dentry_create_anonymous(struct superblock *superblock, const char *name,
                                       struct inode *inode);
/** Root of a new file system; adopts the reference to @inode. */
struct dentry *dentry_create_root(struct superblock *superblock, struct inode *inode);
void dentry_ref(struct dentry *dentry);
/** Any context that may sleep; T held or not. */
void dentry_put(struct dentry *dentry);

/** Linked child, with a reference, or NULL. T held. */
struct dentry *dentry_child(struct dentry *directory, const char *name, size_t length);
/** Enter a dentry made by dentry_create() under its parent. T held for writing. Cannot fail. */
void dentry_link(struct dentry *dentry);
/** Take it out again. T held for writing; the caller holds a reference. Cannot fail. */
void dentry_unlink(struct dentry *dentry);
/** Move to another name: @name memory is adopted. T held for writing. Cannot fail. */
void dentry_move(struct dentry *dentry, struct dentry *parent, char *name, size_t length);
/** Memory for a name of @length bytes, filled, by kmem_charged_alloc(); NULL without memory. For
 *  dentry_move(). */
char *dentry_name_copy(const char *name, size_t length);
/** Take a whole tree apart (failed set-up, unmount). T held for writing. */
void dentry_tree_destroy(struct dentry *root);

static inline bool
dentry_is_directory(const struct dentry *dentry)
{
    return S_ISTYPE(dentry->inode->mode, S_IFDIR);
}

/** Path from @root, written backwards into @buffer. T held. NULL when it does not fit. */
const char *dentry_path(struct dentry *dentry, struct dentry *root, char *buffer, size_t size,
                        bool *out_reachable);

/* ---- mounted file systems ----------------------------------------------------------- */

/**
 * What a file system does about names beyond the tree in memory.  NULL: nothing, the tree is all.
 * But for load(), T is held for writing, over whatever the disk takes.
 */
struct name_ops {
    /** Have all children of an unloaded @directory in the tree. T not held. @return 0 or -errno */
    int64_t (*load)(struct dentry *directory);
    /** A new inode below @directory, without a name; @target for symbolic links. */
    int64_t (*make)(struct inode *directory, uint32_t mode, uint32_t rdev, const char *target,
                    struct inode **out);
    /** Have @name in @directory lead to @inode, whether there is such a name or not. */
    int64_t (*enter)(struct inode *directory, const char *name, size_t length, struct inode *inode);
    int64_t (*leave)(struct inode *directory, const char *name, size_t length);
    /** Directory @inode has another parent. */
    int64_t (*reparent)(struct inode *inode, struct inode *parent);
};

/** For statfs(). */
struct superblock_room {
    uint64_t block_bytes, blocks, free, available, files, free_files;
};

struct superblock_type {
    const char *name;
    uint32_t magic;
    bool writable_tree; /**< programs may make and remove names */
    bool single;        /**< every mount shows the same: a second one in its place is refused */
    bool needs_device;  /**< "nodev" is missing in /proc/filesystems */
    /** Build a file system. @param options  mount data, never NULL. @return 0 or -errno */
    int64_t (*create)(const struct superblock_type *type, const char *options,
                      struct superblock **out);
    /** In place of create() for a file system on a device: @source is a path. */
    int64_t (*create_on)(const struct superblock_type *type, const char *source, uint32_t flags,
                         const char *options, struct superblock **out);
    const struct name_ops *names;
    /** Have everything on the disk; T not held. NULL: there is none. @return 0 or -errno */
    int64_t (*sync)(struct superblock *superblock);
    /** Before it becomes read-only (@read_only) or writable; T not held. @return 0 or -errno */
    int64_t (*remount)(struct superblock *superblock, bool read_only);
    void (*room)(struct superblock *superblock, struct superblock_room *out);
    /** Its last inode is gone: free `data`. Cannot fail. */
    void (*destroy)(struct superblock *superblock);
};

struct superblock {
    const struct superblock_type *type; /* constant */
    uint32_t device;                    /* constant: st_dev */
    uint32_t mount_flags;               /* T */
    atomic_ullong next_inode;
    atomic_long inodes;            /* alive */
    atomic_long files;             /* open files and directory contexts: busy */
    _Atomic int64_t pages;         /* counted data pages */
    uint64_t page_limit;           /* constant; 0: none */
    struct dentry *root;           /* constant; the superblock's reference */
    struct dentry *covered;        /* T: where it is mounted; NULL for the first root */
    struct qr_list mounts;         /* T: in mount order */
    void *data;                    /* the file system's own; constant */
    atomic_bool failed;            /* its disk or its structures are damaged: as if read-only */
    char source[32];               /* constant */
    struct hugetlbfs_mount *huge;  /* constant; of a hugetlbfs */
    enum qr_shared_huge huge_mode; /* constant; of a tmpfs: for its files */
};

/** Whether nothing may be changed there. */
static inline bool
superblock_is_read_only(const struct superblock *superblock)
{
    return (superblock->mount_flags & MS_RDONLY) != 0 || atomic_load(&superblock->failed);
}

struct superblock *superblock_create(const struct superblock_type *type);
void superblock_destroy(struct superblock *superblock);
/** One of its inodes, or its mount, is gone. */
void superblock_inode_gone(struct superblock *superblock);
/** Make it the root of all. At start-up only. */
void mount_first(struct superblock *superblock);
/** sync(): every file system that is mounted. */
void mounts_sync(void);
/** Hang @superblock over @at (takes references). T held for writing. */
void mount_attach(struct superblock *superblock, struct dentry *at);
const struct superblock_type *superblock_type_find(const char *name);
/** Rows of /proc/mounts and /proc/filesystems. */
struct qr_writer;
void mounts_write(struct qr_writer *writer);
void mountinfo_write(struct qr_writer *writer);
void filesystems_write(struct qr_writer *writer);
/** Blanks and backslashes in a path are written in octal, as getmntent() expects. @return bytes */
size_t octal_write(struct qr_writer *writer, const char *text);

extern const struct superblock_type tmpfs_type;
extern const struct superblock_type ext2_type;
extern const struct superblock_type rootfs_type;
extern const struct superblock_type devtmpfs_type;
extern const struct superblock_type procfs_type;
extern const struct superblock_type sysfs_type;
/** Nodes that have memory, as /sys/devices/system/node shows them: numbers 0 to this less one. */
unsigned sysfs_node_count(void);
extern const struct superblock_type debugfs_type;
extern const struct superblock_type cgroup2_type;
extern const struct superblock_type hugetlbfs_type;
extern struct superblock *anonymous_superblock; /* pipes, eventfds, memfds; set by fs_init() */
extern struct dentry *fs_root;                  /* the first root; set by fs_init() */

/* ---- what a process knows ------------------------------------------------------------- */

struct fs_context {
    atomic_uint refs;
    struct qr_spin lock;
    struct dentry *root;    /* lock; one reference */
    struct dentry *current; /* lock; one reference */
    uint32_t umask;         /* lock */
};

enum fs_place { FS_ROOT, FS_CURRENT };

/** Both directories, a reference each. */
void fs_context_get(struct fs_context *context, struct dentry **out_root,
                    struct dentry **out_current);
/** Replace one; takes its own reference. */
void fs_context_set(struct fs_context *context, enum fs_place place, struct dentry *dentry);
/** @return the old one */
uint32_t fs_context_set_umask(struct fs_context *context, uint32_t umask);

/** Root and current directory of the running process, with references; the global root at boot. */
struct dentry *current_root(void);
struct dentry *current_directory(void);
uint32_t current_umask(void);

/* ---- path walks -------------------------------------------------------------------------- */

/**
 * A walk in progress. After walk_parent(): `at` is the directory and [name, name_length) the
 * last component; name_length 0 means that the path names `at` itself.
 */
struct walk {
    struct dentry *root; /* references of the walk */
    struct dentry *at;
    const char *rest; /* what is still to do */
    const char *name;
    size_t name_length;
    bool must_be_directory; /* a slash followed the last component */
    unsigned links;
    struct dentry *unloaded; /* set with WALK_AGAIN: a directory to load first; a reference */
    char *buffer;            /* rest lives here once a link was met; owned */
};

/** Start at @dirfd (AT_FDCWD, a descriptor) for @path. @return 0, -EBADF, -ENOTDIR, -ENOENT */
int64_t walk_begin(struct walk *walk, int dirfd, const char *path);
void walk_end(struct walk *walk);
/** A directory on the way is not in memory: walk_finish() loads it, then the walk starts anew. */
enum { WALK_AGAIN = 1 };
/** Say that @directory is needed. @return WALK_AGAIN */
int64_t walk_needs(struct walk *walk, struct dentry *directory);
/** walk_end(), and what @error asks for. T not held. @return @error; WALK_AGAIN: start anew */
int64_t walk_finish(struct walk *walk, int64_t error);
/** Have the children of @dentry in memory, if it is a directory. T not held. @return 0 or -errno */
int64_t dentry_load(struct dentry *dentry);
/** Go to the directory of the last component. T held. */
int64_t walk_parent(struct walk *walk);
/** Look the last component up; a mounted root in its place. T held. -ENOENT when there is none. */
int64_t walk_last(struct walk *walk, struct dentry **out);
/** Continue at the target of @link, which was walk_last()'s; walk_parent() comes next. */
int64_t walk_follow(struct walk *walk, struct dentry *link);

enum walk_links { LINKS_FOLLOW, LINKS_KEEP };

/** The whole way, T taken and released. @path "" is refused. */
int64_t path_lookup(int dirfd, const char *path, enum walk_links links, struct dentry **out);
/** The same with AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW in @at_flags and a user path. */
int64_t path_lookup_user(int dirfd, uint64_t user_path, uint32_t at_flags, struct dentry **out);

#define AT_SYMLINK_NOFOLLOW 0x100u
#define AT_EACCESS          0x200u
#define AT_REMOVEDIR        0x200u
#define AT_SYMLINK_FOLLOW   0x400u
#define AT_NO_AUTOMOUNT     0x800u
#define AT_EMPTY_PATH       0x1000u

enum access_wish { ACCESS_EXECUTE = 1, ACCESS_WRITE = 2, ACCESS_READ = 4 };

/** process_fsuid(), also before there are processes: 0 then. */
uint32_t process_fsuid_or_boot(void);
uint32_t process_fsgid_or_boot(void);

/** Whether the current process may do @wish (bits). Root may all but execute what nobody may. */
bool inode_allows(const struct inode *inode, unsigned wish);
bool inode_allows_user(const struct inode *inode, unsigned wish, uint32_t uid, uint32_t gid);

/* ---- making names --------------------------------------------------------------------------- */

/** Make a file, directory, device or fifo. @return 0, -EEXIST, -ENOENT, -EROFS, -ENOMEM … */
int64_t name_create(int dirfd, const char *path, uint32_t mode, uint32_t rdev);
int64_t name_symlink(const char *target, int dirfd, const char *path);
/** A hard link to @inode. */
int64_t name_link(struct inode *inode, int dirfd, const char *path);
int64_t name_remove(int dirfd, const char *path, bool directory);
/** A new child below a directory of a kernel-made tree. T held for writing, or nobody else there.
 *  @return the dentry (the tree's reference only), NULL without memory */
struct dentry *tree_add(struct dentry *directory, const char *name, struct inode *inode);

/** open(): the walk with O_CREAT, O_EXCL, O_NOFOLLOW, O_TMPFILE. */
int64_t name_open(int dirfd, const char *path, uint32_t flags, uint32_t mode, struct dentry **out,
                  bool *out_created);
int64_t name_rename(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path,
                    uint32_t flags);

/** New inode for @mode by the rules of the superblock of @directory. */
struct inode *tmpfs_inode_create(struct superblock *superblock, uint32_t mode, uint32_t rdev);
int64_t tmpfs_truncate(struct inode *inode, uint64_t bytes);
/** How much of @want may be written at @at: RLIMIT_FSIZE and the largest offset; or -EFBIG. */
int64_t write_clip(uint64_t at, size_t want);
extern const struct file_ops tmpfs_file_ops;

/* ---- open files --------------------------------------------------------------------------------- */

/**
 * A file over an inode; takes its own references. The caller sets ops or calls file_open().
 * @return 0; -ENOMEM; -ENFILE: fs.file-max are open
 */
int64_t file_create(struct dentry *dentry, uint32_t flags, struct file **out);

extern const struct file_ops directory_file_ops;
extern const struct file_ops path_only_file_ops;
int64_t fifo_open(struct inode *inode, struct file *file);
int64_t device_open(struct inode *inode, struct file *file);
int64_t tty_open(struct inode *inode, struct file *file);
/** After a successful open(): O_NOCTTY and its absence. */
void tty_opened(struct file *file, uint32_t flags);
bool tty_is_terminal(const struct file *file);
void flock_file_closed(struct file *file);
void flock_table_closed(struct fd_table *table, struct inode *inode);
void flock_inode_evicted(struct inode *inode);
void epoll_file_closed(struct file *file);

/** A file in the anonymous superblock: `name` as /proc/PID/fd shows it. @return as file_create() */
int64_t file_create_anonymous(const char *name, const struct file_ops *ops, uint32_t flags,
                              void *context, struct file **out);

/** Directory listing under the current position; used by getdents64. */
int64_t directory_read(struct file *file, struct io *io);

enum { SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE };

/** lseek() over a known size. */
int64_t seek_plain(struct file *file, int64_t offset, int whence, uint64_t size);

/** An errno for a status of the library. */
int64_t errno_of(enum qr_status status);

/* poll bits */
#define POLLIN     0x0001u
#define POLLPRI    0x0002u
#define POLLOUT    0x0004u
#define POLLERR    0x0008u
#define POLLHUP    0x0010u
#define POLLNVAL   0x0020u
#define POLLRDNORM 0x0040u
#define POLLRDBAND 0x0080u
#define POLLWRNORM 0x0100u
#define POLLWRBAND 0x0200u
#define POLLRDHUP  0x2000u

struct wait_queue;
/** Called by file_ops.poll: wake the poller when @queue is woken. @table may be NULL. */
void poll_register(struct poll_table *table, struct wait_queue *queue);

struct poll_table {
    /** Put the caller on @queue; failure (no memory) is remembered by the caller. */
    void (*add)(struct poll_table *table, struct wait_queue *queue);
};

#endif
