/* SPDX-License-Identifier: MIT */
/*
 * Every file system call with good and bad arguments: prints each call with its result or the name
 * of its error.  The output is the same on Linux (on a tmpfs, as root) and on the reference
 * kernel: tests/boot/fs_calls.sh runs it on both and compares.
 *
 * usage: fs_calls DIRECTORY   (an empty one)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile bad_pointer = (void *)8;
#define BAD bad_pointer

static char page[4096];

static void
say(const char *text, long result)
{
    int error = errno;

    if (result == -1 && error != 0) {
        printf("%s = %s\n", text, strerrorname_np(error));
    } else {
        printf("%s = %ld\n", text, result);
    }
    errno = 0;
}

/* Show a call with its result. */
#define R(call) (errno = 0, say(#call, (long)(call)))

/* A descriptor whose number does not matter. */
static int
opened(const char *path, int flags, int mode)
{
    int fd = open(path, flags, mode);

    if (fd < 0) {
        printf("cannot open %s: %s\n", path, strerrorname_np(errno));
        exit(1);
    }
    return fd;
}

static void
put(const char *path, const char *text)
{
    int fd = opened(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        exit(1);
    }
    close(fd);
}

/* Whether open() gives a descriptor, or its error. */
static long
opens(const char *path, int flags)
{
    int fd = open(path, flags, 0644);

    if (fd >= 0) {
        close(fd);
        return 0;
    }
    return -1;
}

static void
test_open(void)
{
    static char long_name[NAME_MAX + 2], long_path[PATH_MAX + 10];

    memset(long_name, 'x', NAME_MAX + 1);
    memset(long_path, '/', PATH_MAX + 5);
    put("file", "0123456789");
    R(mkdir("dir", 0755));
    R(symlink("file", "link"));
    R(symlink("loop2", "loop1"));
    R(symlink("loop1", "loop2"));
    R(symlink("missing", "dangling"));
    R(symlink("dir", "dirlink"));
    R(opens("file", O_RDONLY));
    R(opens("", O_RDONLY));
    R(opens(BAD, O_RDONLY));
    R(opens("missing", O_RDONLY));
    R(opens("missing/x", O_RDONLY));
    R(opens("file/x", O_RDONLY));
    R(opens("file/", O_RDONLY));
    R(opens("dir/", O_RDONLY));
    R(opens("dir", O_WRONLY));
    R(opens("dir", O_RDWR));
    R(opens("dir", O_RDONLY | O_CREAT));
    R(opens("newdir/", O_RDWR | O_CREAT));
    R(opens("file", O_RDONLY | O_DIRECTORY));
    R(opens("file", O_CREAT | O_EXCL | O_WRONLY));
    R(opens("link", O_CREAT | O_EXCL | O_WRONLY));
    R(opens("dangling", O_CREAT | O_EXCL | O_WRONLY));
    R(opens("link", O_RDONLY | O_NOFOLLOW));
    R(opens("link", O_PATH | O_NOFOLLOW));
    R(opens("dirlink", O_RDONLY | O_NOFOLLOW));
    R(opens("dirlink/", O_RDONLY | O_NOFOLLOW));
    R(opens("dirlink", O_RDONLY | O_NOFOLLOW | O_DIRECTORY));
    R(opens("loop1", O_RDONLY));
    R(opens("dangling", O_RDONLY));
    R(opens(long_name, O_RDONLY));
    R(opens(long_path, O_RDONLY));
    R(opens("dir", O_TMPFILE | O_RDWR));
    R(opens("dir", O_TMPFILE | O_RDONLY));
    R(opens("file", O_TMPFILE | O_RDWR));
    R(opens("file", O_CREAT | O_DIRECTORY | O_RDWR));
    R(opens("dangling", O_CREAT | O_RDWR));
    R(access("missing", F_OK));
    R(unlink("missing"));
    R(openat(-1, "file", O_RDONLY));
    int fd = opened("file", O_RDONLY, 0);
    R(openat(fd, "x", O_RDONLY));
    R(openat(fd, "", O_RDONLY));
    R(close(fd));
    R(close(fd));
    R(close(-1));
    R(access("file", R_OK | W_OK));
    R(access("file", X_OK));
    R(access("file", 8));
    R(access("dir", X_OK));
    R(faccessat(AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW));
}

static void
test_read_write(void)
{
    char buffer[64] = "";
    struct iovec pieces[3] = {{buffer, 3}, {NULL, 0}, {buffer + 3, 4}};
    struct iovec bad[2] = {{buffer, 3}, {BAD, 4}};
    struct iovec wide[1] = {{buffer, (size_t)-1}};
    int fd = opened("file", O_RDWR, 0);
    int reader = opened("file", O_RDONLY, 0);
    int directory = opened("dir", O_RDONLY, 0);
    int path = opened("file", O_PATH, 0);

    R(read(fd, buffer, 4));
    R(read(fd, BAD, 4));
    R(read(fd, buffer, 0));
    R(read(fd, buffer, 64));
    R(read(fd, buffer, 64));
    R(read(-1, buffer, 1));
    R(read(directory, buffer, 1));
    R(write(directory, buffer, 1));
    R(write(reader, buffer, 1));
    R(read(path, buffer, 1));
    R(lseek(path, 0, SEEK_SET));
    R(pread(fd, buffer, 3, 2));
    R(pread(fd, buffer, 3, -1));
    R(pread(fd, buffer, 3, 100));
    R(pwrite(fd, "ABC", 3, 20));
    R(lseek(fd, 0, SEEK_CUR));
    R(lseek(fd, 0, SEEK_END));
    R(lseek(fd, -1, SEEK_SET));
    R(lseek(fd, -100, SEEK_CUR));
    R(lseek(fd, INT64_MAX, SEEK_END));
    R(lseek(fd, 5, SEEK_SET));
    R(lseek(fd, 5, 99));
    R(lseek(fd, 0, SEEK_DATA));
    R(lseek(fd, 0, SEEK_HOLE));
    R(lseek(fd, 100, SEEK_DATA));
    R(lseek(fd, 0, SEEK_SET));
    R(readv(fd, pieces, 3));
    R(readv(fd, pieces, -1));
    R(readv(fd, pieces, 1025));
    R(readv(fd, BAD, 1));
    R(readv(fd, wide, 1));
    R(readv(fd, NULL, 0));
    R(lseek(fd, 0, SEEK_SET));
    R(readv(fd, bad, 2));
    R(writev(fd, bad, 2));
    R(write(fd, BAD, 4));
    R(preadv(fd, pieces, 3, 1));
    R(preadv(fd, pieces, 3, -5));
    R(pwritev(fd, pieces, 3, 30));
    R(write(fd, buffer, (size_t)-1));
    R(lseek(fd, 0, SEEK_END));
    int append = opened("file", O_WRONLY | O_APPEND, 0);
    R(write(append, "end", 3));
    R(lseek(append, 0, SEEK_CUR));
    R(pwrite(append, "pw", 2, 0));
    R(lseek(fd, 0, SEEK_END));
    close(append), close(fd), close(reader), close(directory), close(path);
}

/* A write whose buffer runs into an unmapped page writes what it can (T3). */
static void
test_partial(void)
{
    char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = opened("partial", O_RDWR | O_CREAT, 0644);
    int ends[2];
    struct stat st;

    munmap(map + 4096, 4096);
    memset(map, 'p', 4096);
    R(write(fd, map + 4096, 10));
    R(fstat(fd, &st));
    R(st.st_size);
    long written = write(fd, map + 4000, 200);
    R(written > 0 && written <= 96);
    R(fstat(fd, &st));
    R(st.st_size == written);
    R(ftruncate(fd, 4096));
    R(lseek(fd, 0, SEEK_SET));
    long got = read(fd, map + 4000, 200);
    R(got > 0 && got <= 96);
    R(pipe(ends));
    R(write(ends[1], map + 4096, 10));
    R(fcntl(ends[0], F_SETFL, O_NONBLOCK));
    R(read(ends[0], page, 100) == -1 ? errno == EAGAIN : 1);
    R(write(ends[1], "0123456789", 10));
    R(read(ends[0], map + 4096, 10));
    close(fd), close(ends[0]), close(ends[1]);
    munmap(map, 4096);
}

static void
test_size(void)
{
    struct stat st;
    int fd = opened("sized", O_RDWR | O_CREAT, 0644);
    int reader = opened("sized", O_RDONLY, 0);

    R(ftruncate(fd, 10000));
    R(ftruncate(fd, -1));
    R(ftruncate(reader, 5));
    R(truncate("sized", 20000));
    R(truncate("dir", 0));
    R(truncate("missing", 0));
    R(truncate("sized", -1));
    R(fstat(fd, &st));
    R(st.st_size);
    R(st.st_blocks);
    R(pwrite(fd, "x", 1, 9000));
    R(fstat(fd, &st));
    R(st.st_blocks);
    R(lseek(fd, 0, SEEK_DATA));
    R(lseek(fd, 8192, SEEK_HOLE));
    R(lseek(fd, 12288, SEEK_DATA));
    R(fallocate(fd, 0, 0, 4096));
    R(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 4096));
    R(pread(fd, page, 1, 9000));
    R(page[0]);
    R(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
    R(fallocate(fd, 0, -1, 4096));
    R(fallocate(fd, 0, 0, 0));
    R(fallocate(fd, 0, 20000, 100));
    R(fallocate(reader, 0, 0, 100));
    R(fallocate(fd, 0, INT64_MAX - 10, 100));
    R(fstat(fd, &st));
    R(st.st_size);
    R(pwrite(fd, "tail", 4, 5000));
    R(ftruncate(fd, 5002));
    R(ftruncate(fd, 6000));
    R(pread(fd, page, 10, 5000));
    R(page[0] == 't' && page[1] == 'a' && page[2] == 0 && page[3] == 0);
    close(fd), close(reader);
}

static void
test_names(void)
{
    struct stat st;

    R(mkdir("a", 0755));
    R(mkdir("a", 0755));
    R(mkdir("a/b", 0755));
    R(mkdir("a/b/", 0755));
    R(mkdir("missing/b", 0755));
    R(mkdir("file/b", 0755));
    R(mkdir("", 0755));
    R(mkdir("/", 0755));
    R(mkdir(".", 0755));
    R(mkdir("a/c/", 0755));
    R(rmdir("a/c/."));
    R(rmdir("a/c/.."));
    R(rmdir("a/c/"));
    R(rmdir("a"));
    R(rmdir("file"));
    R(rmdir("link"));
    R(rmdir("missing"));
    R(unlink("a"));
    R(unlink("a/"));
    R(unlink("file/"));
    R(unlink(""));
    R(unlinkat(AT_FDCWD, "a", AT_REMOVEDIR));
    R(unlinkat(AT_FDCWD, "a", 0x40000));
    R(link("file", "hard"));
    R(link("file", "hard"));
    R(link("dir", "hard2"));
    R(link("missing", "hard2"));
    R(link("file", "missing/x"));
    R(stat("hard", &st));
    R(st.st_nlink);
    R(link("link", "hardlink"));
    R(lstat("hardlink", &st));
    R(S_ISLNK(st.st_mode));
    R(linkat(AT_FDCWD, "link", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
    R(lstat("followed", &st));
    R(S_ISREG(st.st_mode));
    R(unlink("followed"));
    R(unlink("hardlink"));
    R(symlink("", "empty"));
    R(symlink("x", "file"));
    R(symlink("x", "missing/y"));
    R(readlink("link", page, 100));
    R(readlink("link", page, 2));
    R(readlink("link", page, 0));
    R(readlink("file", page, 100));
    R(readlink("missing", page, 100));
    R(readlink("link", BAD, 100));
    R(mkfifo("fifo", 0644));
    R(mkfifo("fifo", 0644));
    R(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
    R(mknod("regular", S_IFREG | 0600, 0));
    R(mknod("wrong", S_IFDIR | 0600, 0));
    R(mknod("wrong", 0170000 | 0600, 0));
    R(stat("a", &st));
    R(st.st_nlink);
    R(st.st_size >= 0);
    R(stat("null", &st));
    R(st.st_rdev == makedev(1, 3));
}

static void
test_rename(void)
{
    R(mkdir("r", 0755));
    R(mkdir("r/full", 0755));
    R(mkdir("r/empty", 0755));
    put("r/full/x", "x");
    put("r/f", "f");
    put("r/g", "g");
    R(rename("r/f", "r/g"));
    R(access("r/f", F_OK));
    R(rename("r/missing", "r/x"));
    R(rename("r/g", "missing/x"));
    R(rename("r/g", "r/full"));
    R(rename("r/full", "r/g"));
    R(rename("r/empty", "r/full"));
    R(rename("r/full", "r/empty"));
    R(rename("r", "r/empty/x"));
    R(rename("r/empty", "r"));
    R(rename("r/.", "x"));
    R(rename("r/..", "x"));
    R(rename("r/empty", "r/."));
    R(rename("r/g", "r/g"));
    R(link("r/g", "r/h"));
    R(rename("r/g", "r/h"));
    R(access("r/g", F_OK));
    R(rename("r/g", "r/new/"));
    R(rename("r/g/", "r/new"));
    R(rename("r/empty/", "r/moved/"));
    R(renameat2(AT_FDCWD, "r/g", AT_FDCWD, "r/h", 1));
    R(renameat2(AT_FDCWD, "r/g", AT_FDCWD, "r/i", 1));
    R(renameat2(AT_FDCWD, "r/i", AT_FDCWD, "r/moved", 2));
    R(rmdir("r/moved"));
    R(unlink("r/moved"));
    R(renameat2(AT_FDCWD, "r/i", AT_FDCWD, "r/none", 2));
    R(renameat2(AT_FDCWD, "r/i", AT_FDCWD, "r/none", 8));
    R(rename("", "x"));
    R(rename("r/i", BAD));
    R(rename("r/i", "/proc/x"));
}

static void
test_attributes(void)
{
    struct stat st;
    struct statfs fs;
    struct timespec times[2] = {{1000, 5}, {0, UTIME_OMIT}};
    struct timespec wrong[2] = {{1000, -1}, {0, 0}};

    R(chmod("file", 04755));
    R(stat("file", &st));
    R(st.st_mode);
    R(chmod("missing", 0));
    R(chown("file", 12, 34));
    R(stat("file", &st));
    R(st.st_mode);
    R(st.st_uid * 100 + st.st_gid);
    R(chown("file", -1, 0));
    R(stat("file", &st));
    R(st.st_uid * 100 + st.st_gid);
    R(lchown("dangling", 0, 0));
    R(chown("missing", 0, 0));
    R(fchmod(-1, 0));
    R(utimensat(AT_FDCWD, "file", times, 0));
    R(stat("file", &st));
    R(st.st_atim.tv_sec * 10 + st.st_atim.tv_nsec);
    R(utimensat(AT_FDCWD, "file", wrong, 0));
    R(utimensat(AT_FDCWD, "missing", NULL, 0));
    R(utimensat(AT_FDCWD, "file", BAD, 0));
    R(stat("file", BAD));
    R(stat(BAD, &st));
    R(lstat("link", &st));
    R(st.st_size);
    R(fstat(-1, &st));
    R(fstatat(AT_FDCWD, "", &st, 0));
    R(fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH));
    R(fstatat(AT_FDCWD, "file", &st, 0x8000));
    R(statfs(".", &fs));
    R(fs.f_bsize);
    R(fs.f_namelen);
    R(statfs("missing", &fs));
    R(umask(027));
    R(opens("masked", O_CREAT | O_RDWR));
    R(stat("masked", &st));
    R(st.st_mode);
    R(mkdir("maskdir", 0777));
    R(stat("maskdir", &st));
    R(st.st_mode);
    R(umask(022));
}

static void
test_directories(void)
{
    char buffer[512];
    struct dirent *entry;
    int count = 0, dots = 0;
    DIR *dir;

    R(chdir("dir"));
    R(getcwd(buffer, sizeof buffer) != NULL);
    R(strcmp(strrchr(buffer, '/'), "/dir"));
    R(syscall(SYS_getcwd, buffer, 2));
    R(syscall(SYS_getcwd, BAD, 500) == -1 ? errno : 0);
    R(chdir(".."));
    R(chdir("file"));
    R(chdir("missing"));
    R(fchdir(-1));
    R(mkdir("many", 0755));
    for (int i = 0; i < 300; i++) {
        snprintf(buffer, sizeof buffer, "many/file-%d", i);
        put(buffer, "");
    }
    dir = opendir("many");
    while ((entry = readdir(dir)) != NULL) {
        snprintf(buffer, sizeof buffer, "many/%s", entry->d_name);
        dots += entry->d_name[0] == '.';
        count += entry->d_name[0] != '.' && unlink(buffer) == 0;
    }
    R(count);
    R(dots);
    rewinddir(dir);
    count = 0;
    while ((entry = readdir(dir)) != NULL) {
        count++;
    }
    R(count);
    R(syscall(SYS_getdents64, dirfd(dir), BAD, 500));
    R(lseek(dirfd(dir), 0, SEEK_SET));
    R(syscall(SYS_getdents64, dirfd(dir), buffer, 4));
    R(syscall(SYS_getdents64, dirfd(dir), BAD, 500));
    R(syscall(SYS_getdents64, 0, buffer, sizeof buffer));
    R(rmdir("many"));
    R(syscall(SYS_getdents64, dirfd(dir), buffer, sizeof buffer));
    R(openat(dirfd(dir), "x", O_CREAT | O_RDWR, 0644));
    closedir(dir);
    R(mkdir("gone", 0755));
    R(chdir("gone"));
    R(rmdir("../gone"));
    R(syscall(SYS_getcwd, buffer, sizeof buffer));
    R(opens("x", O_CREAT | O_RDWR));
    R(mkdir("y", 0755));
    R(chdir(".."));
}

static void
test_descriptors(void)
{
    struct rlimit limit = {20, 20}, old;
    int fd = opened("file", O_RDWR | O_APPEND, 0);
    int path = opened("file", O_PATH, 0);
    int on = 1;

    R(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
    R(fcntl(fd, F_SETFL, O_NONBLOCK));
    R(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
    R(ioctl(fd, FIONBIO, &on));
    R(ioctl(fd, FIONBIO, BAD));
    R(ioctl(fd, TCGETS, page));
    R(ioctl(-1, TCGETS, page));
    R(fcntl(fd, F_GETFD));
    R(fcntl(fd, F_SETFD, FD_CLOEXEC));
    R(fcntl(fd, F_GETFD));
    R(fcntl(fd, 9999));
    R(fcntl(-1, F_GETFD));
    R(fcntl(fd, F_DUPFD, -1));
    R(fcntl(fd, F_DUPFD, 1 << 30));
    R(fcntl(fd, F_DUPFD, 200));
    R(fcntl(fd, F_DUPFD_CLOEXEC, 200));
    R(fcntl(201, F_GETFD));
    R(dup2(fd, 200));
    R(dup2(fd, fd) == fd);
    R(dup2(-1, 5));
    R(dup2(fd, -1));
    R(dup3(fd, fd, 0));
    R(dup3(fd, 202, O_APPEND));
    R(dup3(fd, 202, O_CLOEXEC));
    R(fcntl(202, F_GETFD));
    R(dup(-1));
    R(fcntl(path, F_GETFL) == O_PATH);
    R(fcntl(path, F_SETFL, 0));
    R(syscall(SYS_close_range, 200, 210, 0));
    R(fcntl(201, F_GETFD));
    R(syscall(SYS_close_range, 5, 4, 0));
    getrlimit(RLIMIT_NOFILE, &old);
    limit.rlim_max = old.rlim_max;
    R(setrlimit(RLIMIT_NOFILE, &limit));
    int count = 0, last;
    while ((last = dup(fd)) >= 0) {
        count++;
    }
    R(errno == EMFILE);
    R(opens("file", O_RDONLY));
    R(pipe((int[2]){0, 0}));
    R(opens("not-made", O_CREAT | O_RDWR));
    R(access("not-made", F_OK));
    for (int i = 5; i < 20; i++) {
        if (i != fd && i != path) {
            close(i);
        }
    }
    R(setrlimit(RLIMIT_NOFILE, &old));
    close(fd), close(path);
}

static void
test_pipes(void)
{
    int ends[2], pending = 0, fd;
    struct pollfd poll_fds[2];

    signal(SIGPIPE, SIG_IGN);
    R(pipe(BAD));
    R(pipe2(ends, 0x40));
    R(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
    R(fcntl(ends[0], F_GETFD));
    R(read(ends[0], page, 10));
    R(read(ends[1], page, 10));
    R(write(ends[0], page, 10));
    R(lseek(ends[0], 0, SEEK_SET));
    R(pread(ends[0], page, 1, 0));
    R(write(ends[1], page, 100));
    R(ioctl(ends[0], FIONREAD, &pending));
    R(pending);
    R(fcntl(ends[0], F_GETPIPE_SZ));
    R(fcntl(ends[0], F_SETPIPE_SZ, 0));
    R(fcntl(ends[0], F_SETPIPE_SZ, 4096));
    R(fcntl(ends[0], F_SETPIPE_SZ, 5000));
    R(fcntl(ends[0], F_SETPIPE_SZ, 65536));
    poll_fds[0] = (struct pollfd){ends[0], POLLIN, 0};
    poll_fds[1] = (struct pollfd){ends[1], POLLOUT, 0};
    R(poll(poll_fds, 2, 0));
    R(poll_fds[0].revents * 1000 + poll_fds[1].revents);
    R(read(ends[0], page, 4096));
    R(poll(poll_fds, 2, 0));
    R(poll_fds[0].revents * 1000 + poll_fds[1].revents);
    R(close(ends[0]));
    R(write(ends[1], page, 1));
    R(poll(poll_fds + 1, 1, 0));
    R(poll_fds[1].revents);
    close(ends[1]);
    R(pipe(ends));
    close(ends[1]);
    R(read(ends[0], page, 10));
    poll_fds[0] = (struct pollfd){ends[0], POLLIN, 0};
    R(poll(poll_fds, 1, -1));
    R(poll_fds[0].revents);
    poll_fds[0] = (struct pollfd){999, POLLIN, 0};
    poll_fds[1] = (struct pollfd){-1, POLLIN, 0};
    R(poll(poll_fds, 2, -1));
    R(poll_fds[0].revents);
    R(poll(BAD, 1, 0));
    R(poll(NULL, 0, 10));
    close(ends[0]);
    R(open("fifo", O_WRONLY | O_NONBLOCK));
    fd = opened("fifo", O_RDONLY | O_NONBLOCK, 0);
    R(read(fd, page, 1));
    int writer = opened("fifo", O_WRONLY, 0);
    R(read(fd, page, 1));
    R(write(writer, "abc", 3));
    R(read(fd, page, 10));
    close(writer);
    R(read(fd, page, 10));
    close(fd);
    if (fork() == 0) {
        fd = open("fifo", O_WRONLY);
        _exit(write(fd, "hello", 5) == 5 ? 0 : 1);
    }
    fd = opened("fifo", O_RDONLY, 0);
    R(read(fd, page, 10));
    int status;
    R(wait(&status) > 0);
    R(status);
    close(fd);
    /* A write of PIPE_BUF bytes or less is whole or not at all. */
    R(pipe2(ends, O_NONBLOCK));
    long total = 0, n;
    while ((n = write(ends[1], page, 4096)) > 0) {
        total += n;
    }
    R(total);
    R(read(ends[0], page, 100));
    R(write(ends[1], page, 101));
    R(read(ends[0], page, 4096));
    R(write(ends[1], page, 4096));
    close(ends[0]), close(ends[1]);
}

static void
test_select(void)
{
    fd_set reads, writes;
    struct timeval none = {0, 0}, wrong = {-1, 0};
    int ends[2];

    R(pipe(ends));
    FD_ZERO(&reads);
    FD_ZERO(&writes);
    FD_SET(ends[0], &reads);
    FD_SET(ends[1], &writes);
    R(select(ends[1] + 1, &reads, &writes, NULL, &none));
    R(FD_ISSET(ends[0], &reads) != 0);
    R(FD_ISSET(ends[1], &writes) != 0);
    R(select(-1, NULL, NULL, NULL, &none));
    R(select(0, NULL, NULL, NULL, &wrong));
    R(select(10, BAD, NULL, NULL, &none));
    FD_ZERO(&reads);
    FD_SET(60, &reads);
    R(select(61, &reads, NULL, NULL, &none));
    close(ends[0]), close(ends[1]);
}

static void
test_epoll(void)
{
    struct epoll_event event = {EPOLLIN, {.u64 = 77}}, got[4];
    int ends[2], fd = epoll_create1(EPOLL_CLOEXEC);
    int file = opened("file", O_RDONLY, 0);

    R(pipe(ends));
    R(epoll_create1(123));
    R(epoll_create(0));
    R(epoll_ctl(fd, EPOLL_CTL_ADD, ends[0], &event));
    R(epoll_ctl(fd, EPOLL_CTL_ADD, ends[0], &event));
    R(epoll_ctl(fd, EPOLL_CTL_ADD, file, &event));
    R(epoll_ctl(fd, EPOLL_CTL_ADD, fd, &event));
    R(epoll_ctl(fd, EPOLL_CTL_MOD, ends[1], &event));
    R(epoll_ctl(fd, EPOLL_CTL_DEL, ends[1], NULL));
    R(epoll_ctl(fd, 9, ends[0], &event));
    R(epoll_ctl(fd, EPOLL_CTL_ADD, ends[1], BAD));
    R(epoll_ctl(ends[0], EPOLL_CTL_ADD, ends[1], &event));
    R(epoll_wait(fd, got, 4, 0));
    R(epoll_wait(fd, got, 0, 0));
    R(epoll_wait(fd, got, 4, 20));
    R(write(ends[1], "x", 1));
    R(epoll_wait(fd, got, 4, -1));
    R(got[0].events);
    R(got[0].data.u64);
    R(epoll_wait(fd, got, 4, -1));
    event.events = EPOLLIN | EPOLLET;
    R(epoll_ctl(fd, EPOLL_CTL_MOD, ends[0], &event));
    R(epoll_wait(fd, got, 4, -1));
    R(epoll_wait(fd, got, 4, 0));
    R(write(ends[1], "x", 1));
    R(epoll_wait(fd, got, 4, 0));
    event.events = EPOLLIN | EPOLLONESHOT;
    R(epoll_ctl(fd, EPOLL_CTL_MOD, ends[0], &event));
    R(epoll_wait(fd, got, 4, 0));
    R(epoll_wait(fd, got, 4, 0));
    R(close(ends[0]));
    R(epoll_wait(fd, got, 4, 0));
    if (fork() == 0) {
        usleep(20000);
        _exit(write(ends[1], "late", 4) == 4);
    }
    close(ends[1]), close(file), close(fd);
    wait(NULL);
}

static void
test_eventfd(void)
{
    uint64_t value = 5;
    int fd = eventfd(0, EFD_NONBLOCK);

    R(eventfd(0, 0x40));
    R(read(fd, &value, 8));
    R(write(fd, &value, 8));
    R(write(fd, &value, 8));
    R(read(fd, &value, 4));
    R(read(fd, &value, 8));
    R(value);
    value = UINT64_MAX;
    R(write(fd, &value, 8));
    value = UINT64_MAX - 1;
    R(write(fd, &value, 8));
    R(write(fd, &(uint64_t){1}, 8));
    R(write(fd, BAD, 8));
    R(lseek(fd, 0, SEEK_SET));
    close(fd);
    fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    R(read(fd, &value, 8));
    R(value);
    R(read(fd, &value, 8));
    R(read(fd, &value, 8));
    close(fd);
}

static void
test_memfd(void)
{
    struct stat st;
    int fd = memfd_create("test", MFD_ALLOW_SEALING);
    int plain = memfd_create("plain", 0);
    char *map;

    R(memfd_create(BAD, 0));
    R(memfd_create("x", 0x1000));
    R(write(fd, "hello", 5));
    R(fstat(fd, &st));
    R(st.st_size);
    R(st.st_nlink);
    R(fcntl(plain, F_GET_SEALS));
    R(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW));
    R(fcntl(fd, F_GET_SEALS));
    R(fcntl(fd, F_ADD_SEALS, 0x1000));
    R(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    R(write(fd, "more", 4));
    R(pwrite(fd, "HE", 2, 0));
    R(ftruncate(fd, 100));
    R(ftruncate(fd, 4));
    R(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    R(ftruncate(fd, 2));
    map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    R(map != MAP_FAILED);
    R(map[0]);
    map[1] = 'Z';
    R(pread(fd, page, 2, 0));
    R(page[1]);
    R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    R(munmap(map, 4096));
    R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL));
    R(pwrite(fd, "x", 1, 0));
    R(fcntl(fd, F_GET_SEALS));
    R(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    R(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    R(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    close(fd), close(plain);
}

/* read(), write() and mappings see the same bytes. */
static void
test_mapped(void)
{
    int fd = opened("mapped", O_RDWR | O_CREAT, 0644);
    int reader = opened("mapped", O_RDONLY, 0);
    char *shared, *private;

    R(ftruncate(fd, 8192));
    shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    private = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    R(shared != MAP_FAILED && private != MAP_FAILED);
    R(pwrite(fd, "written", 7, 100));
    R(memcmp(shared + 100, "written", 7));
    R(memcmp(private + 100, "written", 7));
    memcpy(shared + 5000, "stored", 6);
    R(pread(fd, page, 6, 5000));
    R(memcmp(page, "stored", 6));
    memcpy(private + 5000, "secret", 6);
    R(pread(fd, page, 6, 5000));
    R(memcmp(page, "stored", 6));
    R(write(fd, shared + 100, 7));
    R(memcmp(shared, "written", 7));
    R(pwrite(fd, shared + 4090, 12, 4086));
    R(ftruncate(fd, 0));
    R(ftruncate(fd, 8192));
    R(shared[100] + shared[5000]);
    R(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, reader, 0) == MAP_FAILED);
    R(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, reader, 0) != MAP_FAILED);
    char *read_only = mmap(NULL, 4096, PROT_READ, MAP_SHARED, reader, 0);
    R(mprotect(read_only, 4096, PROT_READ | PROT_WRITE));
    int directory = opened("dir", O_RDONLY, 0);
    R(mmap(NULL, 4096, PROT_READ, MAP_SHARED, directory, 0) == MAP_FAILED);
    close(directory), close(fd), close(reader);
    R(unlink("mapped"));
    shared[1] = 'k';
    R(shared[1]);
    munmap(shared, 8192), munmap(private, 8192);
}

static void
test_copies(void)
{
    int from = opened("source", O_RDWR | O_CREAT, 0644);
    int to = opened("target", O_RDWR | O_CREAT, 0644);
    int append = opened("target", O_WRONLY | O_APPEND, 0);
    int ends[2];
    off_t offset = 3;

    R(pipe(ends));
    R(write(from, "0123456789", 10));
    R(sendfile(to, from, &offset, 4));
    R(offset);
    R(lseek(from, 0, SEEK_CUR));
    R(sendfile(to, from, NULL, 10));
    R(lseek(from, 0, SEEK_SET));
    R(sendfile(to, from, NULL, 100));
    R(sendfile(append, from, NULL, 100));
    R(sendfile(to, ends[0], NULL, 100));
    R(sendfile(ends[1], from, (offset = 0, &offset), 5));
    R(sendfile(-1, from, NULL, 1));
    R(read(ends[0], page, 100));
    R(copy_file_range(from, (offset = 0, &offset), to, NULL, 5, 0));
    R(copy_file_range(from, NULL, to, NULL, 5, 1));
    R(copy_file_range(from, NULL, append, NULL, 5, 0));
    R(copy_file_range(from, NULL, ends[1], NULL, 5, 0));
    R(splice(from, (offset = 0, &offset), ends[1], NULL, 10, 0));
    R(splice(ends[0], NULL, to, NULL, 10, 0));
    R(splice(from, NULL, to, NULL, 10, 0));
    R(lseek(to, 0, SEEK_CUR));
    close(from), close(to), close(append), close(ends[0]), close(ends[1]);
}

static void
test_locks(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
    int fd = opened("file", O_RDWR, 0), other = opened("file", O_RDWR, 0), status;

    R(flock(fd, LOCK_EX));
    R(flock(other, LOCK_EX | LOCK_NB));
    R(flock(other, LOCK_SH | LOCK_NB));
    R(flock(fd, LOCK_SH));
    R(flock(other, LOCK_SH | LOCK_NB));
    R(flock(fd, LOCK_UN));
    R(flock(fd, 99));
    R(flock(-1, LOCK_EX));
    R(fcntl(fd, F_SETLK, &lock));
    R(fcntl(fd, F_SETLK, BAD));
    fflush(stdout);
    if (fork() == 0) {
        struct flock test = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};

        R(fcntl(fd, F_GETLK, &test));
        R(test.l_type);
        R(test.l_start);
        R(test.l_len);
        R(test.l_pid == getppid());
        R(fcntl(fd, F_SETLK, &test));
        test.l_type = F_WRLCK;
        test.l_len = 10;
        R(fcntl(fd, F_SETLK, &test));
        fflush(stdout);
        _exit(0);
    }
    wait(&status);
    lock.l_type = F_UNLCK;
    lock.l_start = 13;
    lock.l_len = 2;
    R(fcntl(fd, F_SETLK, &lock));
    fflush(stdout);
    if (fork() == 0) {
        struct flock test = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 13, .l_len = 2};

        R(fcntl(fd, F_SETLK, &test));
        test.l_len = 3;
        R(fcntl(fd, F_SETLK, &test));
        fflush(stdout);
        _exit(0);
    }
    wait(&status);
    lock.l_type = 9;
    R(fcntl(fd, F_SETLK, &lock));
    close(fd), close(other);
}

static void
test_devices(void)
{
    int null = opened("/dev/null", O_RDWR, 0), zero = opened("/dev/zero", O_RDWR, 0);
    int full = opened("/dev/full", O_RDWR, 0), random = opened("/dev/urandom", O_RDONLY, 0);

    R(read(null, page, 10));
    R(write(null, page, 10));
    R(write(null, BAD, 10));
    memset(page, 1, 10);
    R(read(zero, page, 10));
    R(page[0] + page[9]);
    R(read(zero, BAD, 10));
    R(write(zero, page, 10));
    R(read(full, page, 10));
    R(write(full, page, 10));
    R(read(random, page, 16));
    R(lseek(null, 5, SEEK_SET));
    R(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0) != MAP_FAILED);
    R(mmap(NULL, 4096, PROT_READ, MAP_SHARED, null, 0) == MAP_FAILED);
    R(ftruncate(null, 0));
    close(null), close(zero), close(full), close(random);
}

static void
test_limits(void)
{
    struct rlimit limit = {100, RLIM_INFINITY};
    int fd = opened("limited", O_RDWR | O_CREAT, 0644);

    signal(SIGXFSZ, SIG_IGN);
    R(setrlimit(RLIMIT_FSIZE, &limit));
    R(write(fd, page, 90));
    R(write(fd, page, 90));
    R(write(fd, page, 90));
    R(ftruncate(fd, 200));
    R(truncate("limited", 50));
    limit.rlim_cur = RLIM_INFINITY;
    R(setrlimit(RLIMIT_FSIZE, &limit));
    R(pwrite(fd, page, 10, INT64_MAX - 5) > 0);
    R(pwrite(fd, page, 10, INT64_MAX));
    close(fd);
}

int
main(int argc, char **argv)
{
    if (argc != 2 || chdir(argv[1]) != 0) {
        return 2;
    }
    umask(022);
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        {"open", test_open},
        {"read and write", test_read_write},
        {"partial copies", test_partial},
        {"size", test_size},
        {"names", test_names},
        {"rename", test_rename},
        {"attributes", test_attributes},
        {"directories", test_directories},
        {"descriptors", test_descriptors},
        {"pipes", test_pipes},
        {"select", test_select},
        {"epoll", test_epoll},
        {"eventfd", test_eventfd},
        {"memfd", test_memfd},
        {"mapped", test_mapped},
        {"copies", test_copies},
        {"locks", test_locks},
        {"devices", test_devices},
        {"limits", test_limits},
    };
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        printf("== %s\n", tests[i].name);
        fflush(stdout);
        tests[i].run();
        fflush(stdout);
    }
    return 0;
}
