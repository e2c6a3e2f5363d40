/* SPDX-License-Identifier: MIT */
/*
 * How nodes reach each other's memory, in the files that Linux makes of HMAT:
 *
 *      node1/access0/initiators/node0            link: whose CPUs reach node 1 best
 *      node1/access0/initiators/read_latency     ... and how: nanoseconds, MiB/s, 0: not said
 *      node0/access0/targets/node1               link: the other way round
 *
 * Rank 0 is any initiator; rank 1 is the same for initiators that have CPUs.
 * Only proximity domains with memory are nodes.
 */
#include "node_access.h"

#include <boot.h>

#include "arch.h"
#include "memory.h"
#include "text.h"

enum { ACCESS_CLASSES = 2 };

struct access_node {
    struct text_node node;
    enum boot_access kind;
};

/* inode->key_more of a file: both domains. */
static uint64_t
access_key(unsigned from, unsigned to)
{
    return (uint64_t)from * BOOT_NODES_MAX + to;
}

static void
show_access(const struct text_target *target, struct qr_writer *writer)
{
    const struct access_node *node =
        qr_container_of((const struct text_node *)target->inode->node, struct access_node, node);
    unsigned key = (unsigned)target->inode->key_more;

    qr_writer_printf(writer, "%u\n",
                     boot_machine.access[key / BOOT_NODES_MAX][key % BOOT_NODES_MAX][node->kind]);
}

static const struct access_node access_nodes[] = {
    {{.name = "read_bandwidth", .mode = 0444, .show = show_access}, BOOT_READ_BANDWIDTH},
    {{.name = "read_latency", .mode = 0444, .show = show_access}, BOOT_READ_LATENCY},
    {{.name = "write_bandwidth", .mode = 0444, .show = show_access}, BOOT_WRITE_BANDWIDTH},
    {{.name = "write_latency", .mode = 0444, .show = show_access}, BOOT_WRITE_LATENCY},
};

static int64_t
node_link_read(struct inode *inode, char *buffer, size_t size)
{
    char text[32];
    size_t length;

    snprintf(text, sizeof text, "../../../node%u", (unsigned)inode->key_more);
    length = strlen(text);
    length = length < size ? length : size;
    memcpy(buffer, text, length);
    return (int64_t)length;
}

static const struct inode_ops node_link_ops = {.read_link = node_link_read};

static bool
node_link_add(struct dentry *directory, unsigned node)
{
    static const struct text_node link = {.mode = S_IFLNK | 0777u, .inode_ops = &node_link_ops};
    char name[16];

    snprintf(name, sizeof name, "node%u", node);
    return text_node_add(directory, name, &link, node);
}

/* The directory at @path below node @node, made as needed. */
static struct dentry *
access_directory(struct dentry *parent, unsigned node, unsigned rank, const char *side)
{
    char node_name[16], rank_name[16];

    snprintf(node_name, sizeof node_name, "node%u", node);
    snprintf(rank_name, sizeof rank_name, "access%u", rank);

    const char *const path[] = {node_name, rank_name, side};

    return text_path_add(parent, path, QR_ARRAY_COUNT(path));
}

static bool
domain_has_cpus(unsigned domain)
{
    for (unsigned i = 0; i < boot_machine.cpu_count; i++) {
        if (boot_machine.cpu_domains[i] == domain) {
            return true;
        }
    }
    return false;
}

static bool
pair_add(struct dentry *parent, unsigned rank, unsigned from, unsigned to)
{
    unsigned initiator = memory_node_of_domain(from), target = memory_node_of_domain(to);
    struct dentry *initiators = access_directory(parent, target, rank, "initiators");
    struct dentry *targets = access_directory(parent, initiator, rank, "targets");
    bool done = initiators != NULL && targets != NULL && node_link_add(initiators, initiator) &&
                node_link_add(targets, target);

    for (size_t i = 0; i < QR_ARRAY_COUNT(access_nodes) && done; i++) {
        done = text_node_add(initiators, access_nodes[i].node.name, &access_nodes[i].node,
                             access_key(from, to));
    }
    return done;
}

bool
node_access_add(struct dentry *parent, unsigned nodes)
{
    for (unsigned node = 0; node < nodes; node++) {
        uint32_t from, to;

        if (!memory_domain_of_node(node, &to) || !boot_nearest_initiator(to, &from) ||
            !memory_domain_exists(from)) {
            continue;
        }
        for (unsigned rank = 0; rank < ACCESS_CLASSES; rank++) {
            if ((rank == 0 || domain_has_cpus(from)) && !pair_add(parent, rank, from, to)) {
                return false;
            }
        }
    }
    return true;
}
