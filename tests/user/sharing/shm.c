/* SPDX-License-Identifier: MIT */
/*
 * System V shared memory: identifiers and keys, what is attached where, when a segment goes, who
 * may do what, and the error for each wrong argument.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "../check.h"

#define FAILED ((void *)-1)

static long page;

static struct shmid_ds
status_of(int id)
{
    struct shmid_ds status;

    memset(&status, 0, sizeof(status));
    CHECK_EQ(shmctl(id, IPC_STAT, &status), 0);
    return status;
}

static unsigned long
attached(int id)
{
    return status_of(id).shm_nattch;
}

/* How many rows of /proc/sysvipc/shm are about @id; *out_size gets the size that it shows. */
static int
table_rows(int id, unsigned long *out_size)
{
    FILE *file = fopen("/proc/sysvipc/shm", "r");
    char line[512];
    int rows = 0;

    CHECK(file != NULL);
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        int key, shown;
        unsigned mode;
        unsigned long size;

        if (sscanf(line, "%d %d %o %lu", &key, &shown, &mode, &size) == 4 && shown == id) {
            rows++;
            *out_size = size;
        }
    }
    if (file != NULL)
        fclose(file);
    return rows;
}

static void
test_get(void)
{
    key_t key = 0x51000000 + getpid();
    unsigned long size = 0;
    int id, other;

    CHECK_ERRNO(shmget(key, 100, 0600), ENOENT);
    id = shmget(key, 100, IPC_CREAT | IPC_EXCL | 0640);
    CHECK(id >= 0);
    CHECK_EQ(shmget(key, 100, IPC_CREAT | 0600), id);
    CHECK_EQ(shmget(key, 0, 0), id);
    CHECK_ERRNO(shmget(key, 100, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    CHECK_ERRNO(shmget(key, 101, 0), EINVAL);
    CHECK_ERRNO(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
    CHECK_ERRNO(shmget(key + 1, 0, IPC_CREAT | 0600), EINVAL);
    struct shmid_ds status = status_of(id);
    CHECK_EQ(status.shm_segsz, 100);
    CHECK_EQ(status.shm_nattch, 0);
    CHECK_EQ(status.shm_perm.mode, 0640);
    CHECK_EQ(status.shm_perm.uid, geteuid());
    CHECK_EQ(status.shm_perm.cuid, geteuid());
    CHECK_EQ(status.shm_cpid, getpid());
    CHECK_EQ(status.shm_lpid, 0);
    CHECK_EQ(status.shm_atime, 0);
    CHECK(status.shm_ctime != 0);
    CHECK_EQ(status.shm_perm.__key, key);
    CHECK_EQ(table_rows(id, &size), 1);
    CHECK_EQ(size, 100);
    other = shmget(IPC_PRIVATE, 100, 0600);
    CHECK(other >= 0 && other != id);
    CHECK_EQ(shmctl(other, IPC_RMID, NULL), 0);
    CHECK_ERRNO(shmctl(other, IPC_STAT, &status), EINVAL);
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
    CHECK_EQ(table_rows(id, &size), 0);
    CHECK_ERRNO(shmget(key, 0, 0), ENOENT);
}

static void
test_attach(void)
{
    int id = shmget(IPC_PRIVATE, (size_t)(3 * page - 1), 0600);
    char *at, *second, *place;

    CHECK(id >= 0);
    at = shmat(id, NULL, 0);
    CHECK(at != FAILED);
    CHECK_EQ(attached(id), 1);
    CHECK_EQ(status_of(id).shm_lpid, getpid());
    CHECK_EQ(at[0], 0);
    CHECK_EQ(at[3 * page - 1], 0); /* the rest of the last page is there, too */
    at[5] = 'x';
    second = shmat(id, NULL, SHM_RDONLY);
    CHECK(second != FAILED && second != at);
    CHECK_EQ(second[5], 'x');
    CHECK_EQ(attached(id), 2);
    CHECK_ERRNO(mprotect(second, (size_t)page, PROT_READ | PROT_WRITE), EACCES);
    CHECK_EQ(shmdt(second), 0);
    CHECK_ERRNO(shmdt(second), EINVAL);
    CHECK_ERRNO(shmdt(at + page), EINVAL);
    CHECK_ERRNO(shmdt(at + 1), EINVAL);
    CHECK_EQ(attached(id), 1);

    place = mmap(NULL, (size_t)(8 * page), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_ERRNO((long)shmat(id, place, 0), EINVAL); /* something is there */
    CHECK_ERRNO((long)shmat(id, place + 1, SHM_REMAP), EINVAL);
    CHECK_ERRNO((long)shmat(id, NULL, SHM_REMAP), EINVAL);
    CHECK(shmat(id, place + 2 * page, SHM_REMAP) == place + 2 * page);
    CHECK_EQ(place[2 * page + 5], 'x');
    CHECK_EQ(shmdt(place + 2 * page), 0);
    CHECK_EQ(munmap(place, (size_t)(8 * page)), 0);
    CHECK_ERRNO((long)shmat(id, place + 1, 0), EINVAL);
    CHECK(shmat(id, place + 1, SHM_RND) == place);
    CHECK_EQ(shmdt(place), 0);
    CHECK(shmat(id, place, SHM_EXEC) == place || errno == EACCES);
    CHECK_ERRNO((long)shmat(-1, NULL, 0), EINVAL);
    CHECK_ERRNO((long)shmat(id + 32768, NULL, 0), EINVAL);
    CHECK_ERRNO((long)shmat(id + 1, NULL, 0), EINVAL);
    (void)shmdt(place);
    CHECK_EQ(shmdt(at), 0);
    CHECK_EQ(attached(id), 0);
    CHECK(status_of(id).shm_dtime != 0);
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
}

/* Regions are what is counted: pieces, copies, moves. */
static void
test_pieces(void)
{
    int id = shmget(IPC_PRIVATE, (size_t)(8 * page), 0600);
    char *at = shmat(id, NULL, 0), *moved;

    CHECK(at != FAILED);
    CHECK_EQ(munmap(at + 3 * page, (size_t)page), 0);
    CHECK_EQ(attached(id), 2);
    CHECK_EQ(mprotect(at + 5 * page, (size_t)page, PROT_READ), 0);
    CHECK_EQ(attached(id), 4);
    at[7 * page] = 'z';
    CHECK_EQ(shmdt(at), 0); /* all of it */
    CHECK_EQ(attached(id), 0);

    at = shmat(id, NULL, 0);
    CHECK_EQ(at[7 * page], 'z');
    moved = mmap(NULL, (size_t)(8 * page), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mremap(at, (size_t)(8 * page), (size_t)(8 * page), MREMAP_MAYMOVE | MREMAP_FIXED,
                 moved) == moved);
    CHECK_EQ(moved[7 * page], 'z');
    CHECK_EQ(attached(id), 1);
    CHECK_ERRNO(shmdt(at), EINVAL);
    CHECK_EQ(shmdt(moved), 0);
    at = shmat(id, NULL, 0);
    CHECK_EQ(munmap(at, (size_t)(2 * page)), 0); /* its start: the rest still is an attach there */
    CHECK_EQ(shmdt(at), 0);
    CHECK_EQ(attached(id), 0);
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
}

static void
test_removed(void)
{
    key_t key = 0x52000000 + getpid();
    int id = shmget(key, (size_t)page, IPC_CREAT | 0600), again;
    char *at = shmat(id, NULL, 0), *second;

    strcpy(at, "still here");
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
    CHECK_EQ(status_of(id).shm_perm.mode & 01000, 01000);
    CHECK_EQ(status_of(id).shm_perm.__key, IPC_PRIVATE);
    again = shmget(key, (size_t)page, IPC_CREAT | IPC_EXCL | 0600);
    CHECK(again >= 0 && again != id);
    second = shmat(id, NULL, 0);
    CHECK(second != FAILED);
    CHECK(strcmp(second, "still here") == 0);
    CHECK_EQ(shmdt(at), 0);
    CHECK_EQ(attached(id), 1);
    CHECK_EQ(shmdt(second), 0);
    CHECK_ERRNO((long)shmat(id, NULL, 0), EINVAL);
    CHECK_EQ(shmctl(again, IPC_RMID, NULL), 0);
}

static int
wait_status(pid_t child)
{
    int status = -1;

    CHECK_EQ(waitpid(child, &status, 0), child);
    return status;
}

static void
test_processes(void)
{
    int id = shmget(IPC_PRIVATE, (size_t)page, 0600);
    volatile char *at = shmat(id, NULL, 0);
    pid_t child = fork();

    if (child == 0) {
        at[0] = attached(id) == 2 ? 'y' : 'n';
        _exit(0); /* detaches */
    }
    CHECK_EQ(wait_status(child), 0);
    CHECK_EQ(at[0], 'y');
    CHECK_EQ(attached(id), 1);
    CHECK_EQ(status_of(id).shm_lpid, child);
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
    child = fork();
    if (child == 0) {
        char *arguments[] = {(char *)"shm", (char *)"--exec", NULL};

        CHECK_EQ(attached(id), 2);
        execv("/proc/self/exe", arguments);
        _exit(1);
    }
    CHECK_EQ(wait_status(child), 0); /* exec detached */
    CHECK_EQ(attached(id), 1);
    child = fork();
    if (child == 0) {
        CHECK_EQ(shmdt((void *)at), 0);
        for (;;)
            pause();
    }
    wait_asleep(child);
    CHECK_EQ(attached(id), 1);
    CHECK_EQ(kill(child, SIGKILL), 0);
    (void)wait_status(child);
    CHECK_EQ(shmdt((void *)at), 0);
    struct shmid_ds status;
    CHECK_ERRNO(shmctl(id, IPC_STAT, &status), EINVAL);
}

static void
test_control(void)
{
    int id = shmget(IPC_PRIVATE, (size_t)(2 * page), 0600), index, found = 0;
    struct shmid_ds status = status_of(id);
    struct shminfo limits;
    struct shm_info usage;
    char *at = shmat(id, NULL, 0);

    at[0] = 1;
    status.shm_perm.mode = 0444;
    CHECK_EQ(shmctl(id, IPC_SET, &status), 0);
    CHECK_EQ(status_of(id).shm_perm.mode & 0777, 0444);
    CHECK_EQ(shmctl(id, SHM_LOCK, NULL), 0);
    CHECK_EQ(status_of(id).shm_perm.mode & 02000, 02000);
    CHECK_EQ(shmctl(id, SHM_UNLOCK, NULL), 0);
    CHECK_EQ(status_of(id).shm_perm.mode & 02000, 0);
    index = shmctl(id, IPC_INFO, (struct shmid_ds *)&limits);
    CHECK(index >= 0);
    CHECK_EQ(limits.shmmin, 1);
    CHECK(limits.shmmni >= 1 && limits.shmmax >= 1u << 25);
    CHECK_EQ(shmctl(0, SHM_INFO, (struct shmid_ds *)&usage), index);
    CHECK(usage.used_ids >= 1 && usage.shm_tot >= 2 && usage.shm_rss >= 1);
    for (int i = 0; i <= index; i++)
        found += shmctl(i, SHM_STAT, &status) == id;
    CHECK_EQ(found, 1);
    CHECK_ERRNO(shmctl(index + 1, SHM_STAT, &status), EINVAL);
    CHECK_ERRNO(shmctl(-1, IPC_STAT, &status), EINVAL);
    CHECK_ERRNO(shmctl(id, 99, &status), EINVAL);
    CHECK_ERRNO(shmctl(id, IPC_STAT, (struct shmid_ds *)1), EFAULT);
    CHECK_ERRNO(shmctl(id, IPC_SET, (struct shmid_ds *)1), EFAULT);
    CHECK_ERRNO(shmctl(id + 32768, IPC_STAT, &status), EINVAL);
    CHECK_EQ(shmdt(at), 0);
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
}

/* Somebody without rights. */
static void
stranger(int id, key_t key)
{
    struct shmid_ds status;

    if (setgid(4711) != 0 || setuid(4711) != 0)
        _exit(3);
    CHECK_ERRNO(shmget(key, 0, 0400), EACCES);
    CHECK_EQ(shmget(key, 0, 0), id);
    CHECK_ERRNO((long)shmat(id, NULL, SHM_RDONLY), EACCES);
    CHECK_ERRNO(shmctl(id, IPC_STAT, &status), EACCES);
    CHECK_ERRNO(shmctl(id, IPC_RMID, NULL), EPERM);
    memset(&status, 0, sizeof(status));
    CHECK_ERRNO(shmctl(id, IPC_SET, &status), EPERM);
    CHECK_ERRNO(shmctl(id, SHM_LOCK, NULL), EPERM);
}

static void
test_permissions(void)
{
    key_t key = 0x53000000 + getpid();
    int id = shmget(key, (size_t)page, IPC_CREAT | 0600), status;
    struct shmid_ds set = status_of(id);

    if (geteuid() != 0) {
        CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        stranger(id, key);
        fflush(stdout);
        _exit(check_failures != 0);
    }
    CHECK_EQ(wait_status(child), 0);
    set.shm_perm.mode = 0604; /* others may read */
    CHECK_EQ(shmctl(id, IPC_SET, &set), 0);
    child = fork();
    if (child == 0) {
        if (setgid(4711) != 0 || setuid(4711) != 0)
            _exit(3);
        CHECK(shmat(id, NULL, SHM_RDONLY) != FAILED);
        CHECK_ERRNO((long)shmat(id, NULL, 0), EACCES);
        CHECK_EQ(status_of(id).shm_nattch, 1);
        fflush(stdout);
        _exit(check_failures != 0);
    }
    status = wait_status(child);
    CHECK_EQ(status, 0);
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
}

static unsigned long
limit_read(const char *path)
{
    FILE *file = fopen(path, "r");
    unsigned long value = 0;

    CHECK(file != NULL && fscanf(file, "%lu", &value) == 1);
    if (file != NULL)
        fclose(file);
    return value;
}

/* @return whether it may be set: not in every container. */
static int
limit_write(const char *path, unsigned long value)
{
    FILE *file = fopen(path, "w");

    if (file == NULL)
        return 0;
    fprintf(file, "%lu\n", value);
    return fclose(file) == 0;
}

static void
test_limits(void)
{
    static const char *const max = "/proc/sys/kernel/shmmax",
                             *const all = "/proc/sys/kernel/shmall",
                             *const count = "/proc/sys/kernel/shmmni";
    unsigned long old_max = limit_read(max), old_all = limit_read(all),
                  old_count = limit_read(count);
    struct shm_info usage;
    int id;

    if (!limit_write(max, 5000))
        return;
    CHECK_ERRNO(shmget(IPC_PRIVATE, 5001, 0600), EINVAL);
    id = shmget(IPC_PRIVATE, 5000, 0600);
    CHECK(id >= 0);
    CHECK(limit_write(max, old_max));
    CHECK(shmctl(0, SHM_INFO, (struct shmid_ds *)&usage) >= 0);
    CHECK(limit_write(all, usage.shm_tot + 1));
    CHECK_ERRNO(shmget(IPC_PRIVATE, (size_t)(2 * page), 0600), ENOSPC);
    CHECK(limit_write(all, old_all));
    CHECK(limit_write(count, (unsigned long)usage.used_ids));
    CHECK_ERRNO(shmget(IPC_PRIVATE, (size_t)page, 0600), ENOSPC);
    CHECK(limit_write(count, old_count));
    CHECK_EQ(limit_read(all), old_all);
    CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
}

/* Two processes that attach and detach the same removed segment: it goes exactly once. */
static void
test_race(void)
{
    for (int round = 0; round < 20; round++) {
        int id = shmget(IPC_PRIVATE, (size_t)(4 * page), 0600);
        char *at = shmat(id, NULL, 0);
        pid_t children[3];
        struct shmid_ds status;

        CHECK(at != FAILED);
        CHECK_EQ(shmctl(id, IPC_RMID, NULL), 0);
        for (int i = 0; i < 3; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                for (int turn = 0; turn < 10; turn++) {
                    char *mine = shmat(id, NULL, 0);

                    if (mine == FAILED)
                        _exit(1);
                    mine[i * 100]++;
                    if (shmdt(mine) != 0)
                        _exit(2);
                }
                _exit(0);
            }
        }
        for (int i = 0; i < 3; i++)
            CHECK_EQ(wait_status(children[i]), 0);
        CHECK_EQ(at[0] + at[100] + at[200], 30);
        CHECK_EQ(shmdt(at), 0);
        CHECK_ERRNO(shmctl(id, IPC_STAT, &status), EINVAL);
    }
}

int
main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--exec") == 0)
        return 0;
    page = sysconf(_SC_PAGESIZE);
    test_get();
    test_attach();
    test_pieces();
    test_removed();
    test_processes();
    test_control();
    test_permissions();
    test_limits();
    test_race();
    return check_done("shm");
}
