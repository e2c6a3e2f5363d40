/* SPDX-License-Identifier: MIT */
/*
 * Memory policies on a machine of two nodes: pages come from where they should, and move.
 * Runs on Linux with two nodes as well.
 */
#define _GNU_SOURCE
#include "../user/check.h"
#include "../user/calls/policy.h"

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

enum { COUNT = 16, WEIGHTED_INTERLEAVE = 6 };

static long page;
static const unsigned long node0 = 1, node1 = 2, both = 3;

static char *
fresh(int flags)
{
    char *at =
        mmap(NULL, (size_t)(COUNT * page), PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

    CHECK(at != MAP_FAILED);
    return at;
}

static void
fill(char *at)
{
    for (int i = 0; i < COUNT; i++)
        at[i * page] = (char)(i + 1);
}

/* How many of the pages are on node 1; the contents are checked, too. */
static int
on_node1(const char *at)
{
    void *pages[COUNT];
    int status[COUNT], found = 0;

    for (int i = 0; i < COUNT; i++)
        pages[i] = (char *)at + i * page;
    CHECK_EQ(syscall(SYS_move_pages, 0, COUNT, pages, NULL, status, 0), 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK(status[i] == 0 || status[i] == 1);
        CHECK_EQ(at[i * page], i + 1);
        found += status[i] == 1;
    }
    return found;
}

static long
bind_pages(char *at, int mode, const unsigned long *nodes, int flags)
{
    return syscall(SYS_mbind, at, COUNT * page, mode, nodes, NODES_BITS, flags);
}

static void
new_pages(void)
{
    char *at = fresh(MAP_PRIVATE);

    CHECK_EQ(bind_pages(at, MPOL_BIND, &node1, 0), 0);
    fill(at);
    CHECK_EQ(on_node1(at), COUNT);
    munmap(at, (size_t)(COUNT * page));

    at = fresh(MAP_PRIVATE);
    CHECK_EQ(bind_pages(at, MPOL_INTERLEAVE, &both, 0), 0);
    fill(at);
    CHECK_EQ(on_node1(at), COUNT / 2);
    munmap(at, (size_t)(COUNT * page));

    at = fresh(MAP_PRIVATE);
    CHECK_EQ(bind_pages(at, MPOL_BIND, &both, 0), 0);
    CHECK_EQ(syscall(SYS_set_mempolicy_home_node, at, COUNT * page, 1, 0), 0);
    fill(at);
    CHECK_EQ(on_node1(at), COUNT);
    munmap(at, (size_t)(COUNT * page));
}

static void
weights(void)
{
    int fd = open("/sys/kernel/mm/mempolicy/weighted_interleave/node1", O_WRONLY);
    char *at = fresh(MAP_PRIVATE);

    if (fd < 0)
        return; /* before Linux 6.9 */
    CHECK_EQ(write(fd, "3", 1), 1);
    CHECK_EQ(bind_pages(at, WEIGHTED_INTERLEAVE, &both, 0), 0);
    fill(at);
    CHECK_EQ(on_node1(at), COUNT / 4 * 3);
    munmap(at, (size_t)(COUNT * page));
    close(fd);
}

static void
thread_policy(void)
{
    char *at = fresh(MAP_PRIVATE);
    unsigned long told = 0;
    int status, node = -1;

    CHECK_EQ(syscall(SYS_set_mempolicy, MPOL_PREFERRED, &both, NODES_BITS), 0);
    CHECK_EQ(syscall(SYS_get_mempolicy, NULL, &told, NODES_BITS, 0, 0), 0);
    CHECK_EQ(told, node0); /* the first of them */
    CHECK_EQ(syscall(SYS_set_mempolicy, MPOL_PREFERRED, &node1, NODES_BITS), 0);
    fill(at);
    CHECK_EQ(on_node1(at), COUNT);
    CHECK_EQ(syscall(SYS_get_mempolicy, &node, NULL, 0, at, MPOL_F_NODE | MPOL_F_ADDR), 0);
    CHECK_EQ(node, 1);
    if (fork() == 0) {
        char *mine = fresh(MAP_PRIVATE);

        fill(mine);
        _exit(on_node1(mine) != COUNT);
    }
    wait(&status);
    CHECK_EQ(status, 0);
    CHECK_EQ(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0), 0);
    munmap(at, (size_t)(COUNT * page));
}

static void
shared(void)
{
    char *at = fresh(MAP_SHARED);
    int status;

    CHECK_EQ(bind_pages(at, MPOL_BIND, &node1, 0), 0);
    if (fork() == 0) {
        fill(at);
        _exit(0);
    }
    wait(&status);
    (void)*(volatile char *)at;
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(at[i * page], i + 1);
    CHECK_EQ(on_node1(at), COUNT);
    munmap(at, (size_t)(COUNT * page));
}

/* A huge page is taken under the policy, and moves page by page. */
static void
huge(void)
{
    const long size = 2l << 20;
    char *area =
        mmap(NULL, (size_t)(2 * size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = (char *)(((unsigned long)area + (unsigned long)size - 1) & -(unsigned long)size);

    CHECK(area != MAP_FAILED);
    if (madvise(at, (size_t)size, MADV_HUGEPAGE) != 0)
        return;
    CHECK_EQ(syscall(SYS_mbind, at, size, MPOL_BIND, &node1, NODES_BITS, 0), 0);
    fill(at);
    CHECK_EQ(on_node1(at), COUNT);
    CHECK_EQ(syscall(SYS_mbind, at, size, MPOL_BIND, &node0, NODES_BITS, MPOL_MF_MOVE), 0);
    CHECK_EQ(on_node1(at), 0);
    munmap(area, (size_t)(2 * size));
}

/* Pages that are there: they stay, they are in the way, they move. */
static void
moves(void)
{
    char *at = fresh(MAP_PRIVATE);
    void *pages[COUNT];
    int nodes[COUNT], status[COUNT], mode = -1;

    CHECK_EQ(bind_pages(at, MPOL_BIND, &node0, 0), 0);
    fill(at);
    CHECK_EQ(on_node1(at), 0);
    CHECK_ERRNO(bind_pages(at, MPOL_BIND, &node1, MPOL_MF_STRICT), EIO);
    CHECK_EQ(bind_pages(at, MPOL_BIND, &node1, 0), 0);
    CHECK_EQ(on_node1(at), 0);
    CHECK_EQ(bind_pages(at, MPOL_BIND, &node1, MPOL_MF_MOVE | MPOL_MF_STRICT), 0);
    CHECK_EQ(on_node1(at), COUNT);
    CHECK_EQ(syscall(SYS_get_mempolicy, &mode, NULL, 0, at, MPOL_F_ADDR), 0);
    CHECK_EQ(mode, MPOL_BIND);

    for (int i = 0; i < COUNT; i++) {
        pages[i] = at + i * page;
        nodes[i] = i & 1;
    }
    CHECK_EQ(syscall(SYS_move_pages, 0, COUNT, pages, nodes, status, MPOL_MF_MOVE), 0);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(status[i], i & 1);
    CHECK_EQ(on_node1(at), COUNT / 2);

    CHECK(syscall(SYS_migrate_pages, 0, NODES_BITS, &node1, &node0) >= 0);
    CHECK_EQ(on_node1(at), 0);
    CHECK(syscall(SYS_migrate_pages, 0, NODES_BITS, &node0, &node1) >= 0);
    CHECK_EQ(on_node1(at), COUNT);
    munmap(at, (size_t)(COUNT * page));
}

static void
numa_maps(void)
{
    char *at = fresh(MAP_PRIVATE), wanted[128], line[512];
    FILE *file;
    int found = 0;

    CHECK_EQ(bind_pages(at, MPOL_INTERLEAVE | MPOL_F_STATIC_NODES, &both, 0), 0);
    fill(at);
    snprintf(wanted, sizeof(wanted), "%lx interleave=static:0-1 anon=%d dirty=%d ", (long)at, COUNT,
             COUNT);
    file = fopen("/proc/self/numa_maps", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, wanted, strlen(wanted)) == 0)
            found = strstr(line, "N0=8 N1=8 ") != NULL;
    }
    CHECK_EQ(found, 1);
    if (file != NULL)
        fclose(file);
    munmap(at, (size_t)(COUNT * page));
}

/* What libnuma reads: the CPUs are one node's each, as a list and as a map. */
static void
files(void)
{
    unsigned long cpus = 0;
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    char path[64], text[64];

    for (int node = 0; node < 2; node++) {
        snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpumap", node);
        int fd = open(path, O_RDONLY);
        long n = read(fd, text, sizeof(text) - 1);

        CHECK(n > 1);
        text[n > 0 ? n : 0] = '\0';
        CHECK((cpus & strtoul(text, NULL, 16)) == 0);
        cpus |= strtoul(text, NULL, 16);
        close(fd);
    }
    CHECK_EQ(cpus, (1ul << count) - 1);
    CHECK_EQ(access("/sys/devices/system/node/has_cpu", R_OK), 0);
    CHECK_EQ(access("/sys/devices/system/node/has_normal_memory", R_OK), 0);
}

/* What a row of memory.numa_stat has of a node; -1: no such row, or no such node. */
static long
row_of_node(const char *path, const char *row, int node)
{
    char line[256], name[16];
    FILE *file = fopen(path, "r");
    long value = -1;

    snprintf(name, sizeof(name), " N%d=", node);
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *at = strstr(line, name);

        if (strncmp(line, row, strlen(row)) == 0 && line[strlen(row)] == ' ' && at != NULL)
            value = atol(at + strlen(name));
    }
    if (file != NULL)
        fclose(file);
    return value;
}

/* A member fills pages of either node: they are the group's there, and the root's. */
static void
in_group(void)
{
    static const char stat[] = "/sys/fs/cgroup/numa/memory.numa_stat",
                      root_stat[] = "/sys/fs/cgroup/memory.numa_stat";
    const unsigned long *nodes[] = {&node0, &node1};

    CHECK_EQ(put_text("/sys/fs/cgroup/numa/cgroup.procs", "0"), 0);
    for (int node = 0; node < 2; node++) {
        long before = row_of_node(stat, "anon", node);
        char *at = fresh(MAP_PRIVATE);

        CHECK_EQ(bind_pages(at, MPOL_BIND, nodes[node], 0), 0);
        fill(at);
        long after = row_of_node(stat, "anon", node);

        CHECK(before >= 0 && after - before >= COUNT * page);
        CHECK(after - before <= (COUNT + 8) * page);
        CHECK(row_of_node(root_stat, "anon", node) >= after);
    }
    CHECK_EQ(row_of_node(stat, "anon", 2), -1);
    CHECK(row_of_node(stat, "slab_unreclaimable", 0) > 0);
}

static void
groups(void)
{
    int status = -1;

    CHECK(mount("none", "/sys/fs/cgroup", "cgroup2", 0, NULL) == 0 || errno == EBUSY);
    CHECK_EQ(put_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory"), 0);
    CHECK_EQ(mkdir("/sys/fs/cgroup/numa", 0755), 0);
    fflush(stdout);
    pid_t child = fork();

    if (child == 0) {
        int failures = check_failures;

        in_group();
        fflush(stdout);
        _exit(check_failures != failures);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(rmdir("/sys/fs/cgroup/numa"), 0);
    CHECK_EQ(put_text("/sys/fs/cgroup/cgroup.subtree_control", "-memory"), 0);
}

int
main(void)
{
    page = sysconf(_SC_PAGESIZE);
    new_pages();
    weights();
    thread_policy();
    shared();
    moves();
    huge();
    numa_maps();
    files();
    groups();
    return check_done("numa_policy");
}
