/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_CALLS_POLICY_H
#define TESTS_USER_CALLS_POLICY_H

/* What <numaif.h> has, which is not everywhere. */

enum { MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED_MANY };

#define MPOL_F_STATIC_NODES   0x8000
#define MPOL_F_RELATIVE_NODES 0x4000
#define MPOL_F_NUMA_BALANCING 0x2000
#define MPOL_F_NODE           1
#define MPOL_F_ADDR           2
#define MPOL_F_MEMS_ALLOWED   4
#define MPOL_MF_STRICT        1
#define MPOL_MF_MOVE          2
#define MPOL_MF_MOVE_ALL      4

/* One word of nodes and what is told of its length: every kernel of ours has fewer than 32. */
#define NODES_BITS 33

#endif
