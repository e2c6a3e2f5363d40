/* SPDX-License-Identifier: MIT */
/*
 * Memory policies.  Every side has one node, so that policies and what is asked of them differ,
 * and places do not.
 */
#include "differential.h"

#include <sys/syscall.h>

#ifdef SYS_set_mempolicy_home_node
#define CALL_HOME_NODE SYS_set_mempolicy_home_node
#else
#define CALL_HOME_NODE 450
#endif

/* A set of nodes in scratch memory. */
static uintptr_t
nodes_put(size_t offset, uint64_t nodes)
{
    const uint64_t words[16] = {nodes};

    scratch_put(offset, words, sizeof(words));
    return machine_scratch() + offset;
}

static void
get_execute(const uintptr_t *arg)
{
    uint64_t nodes = 0;
    uint32_t mode = 0;
    long result;

    scratch_put(0, &mode, sizeof(mode));
    result = call(SYS_get_mempolicy, machine_scratch(), nodes_put(64, 0), arg[2], arg[0], arg[1]);
    say_result(result);
    scratch_get(&mode, 0, sizeof(mode));
    scratch_get(&nodes, 64, sizeof(nodes));
    if (result == 0)
        say(" mode 0x%x nodes %lx", mode, (unsigned long)nodes);
}

static void
move_execute(const uintptr_t *arg, int pid)
{
    const uint32_t node = (uint32_t)arg[2] - 1;
    uintptr_t nodes = arg[2] == 0 ? 0 : machine_scratch() + 64;
    int32_t status = 0x1234;
    struct fault fault;
    uint8_t byte;
    long result;

    touch(arg[1], ACCESS_LOAD, &byte, &fault); /* else it may be mapped ahead, or not */
    scratch_put(0, &arg[1], sizeof(arg[1]));
    scratch_put(64, &node, sizeof(node));
    scratch_put(128, &status, sizeof(status));
    result = call(SYS_move_pages, (uint64_t)pid, 1, machine_scratch(), nodes,
                  machine_scratch() + 128, arg[3]);
    say_result(result);
    scratch_get(&status, 128, sizeof(status));
    say(" status %d", status);
}

void
policy_execute(enum op_kind kind, const uintptr_t *arg)
{
    int pid = process_id((unsigned)arg[0]);

    switch (kind) {
    case OP_MBIND:
        /* What is swapped out lies on no node. */
        if (swapping() != SWAP_NONE && (arg[5] & 1 /* STRICT */) != 0)
            say(" not asked");
        else
            say_result(
                call(SYS_mbind, arg[0], arg[1], arg[2], nodes_put(0, arg[3]), arg[4], arg[5]));
        break;
    case OP_SET_POLICY:
        say_result(call(SYS_set_mempolicy, arg[0], nodes_put(0, arg[1]), arg[2]));
        break;
    case OP_GET_POLICY:
        get_execute(arg);
        break;
    case OP_HOME_NODE:
        say_result(call(CALL_HOME_NODE, arg[0], arg[1], arg[2], arg[3]));
        break;
    case OP_MOVE_PAGES:
        if (pid != process_id(self))
            say(" nobody");
        else
            move_execute(arg, pid);
        break;
    default:
        if (pid == 0)
            say(" nobody");
        else
            say_result(call(SYS_migrate_pages, (uint64_t)pid, arg[1], nodes_put(0, arg[2]),
                            nodes_put(128, arg[3])));
        break;
    }
}
