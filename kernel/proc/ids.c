/* SPDX-License-Identifier: MIT */
/*
 * Who a process is: numbers, groups, sessions, users and capabilities.
 *
 * Credentials belong to the process; its own threads change them under the tree
 * lock.  They mean something for files and for signals between users; there is
 * no set-user-id execution.
 */
#include "proc_private.h"

#include "abi_errno.h"
#include "kstring.h"
#include "sched_private.h"
#include "syscall.h"

enum { CAP_SETGID = 6, CAP_SETUID = 7, CAP_SETPCAP = 8, CAP_LAST = 40 };

/* ---- numbers ------------------------------------------------------------------- */

int64_t
sys_getpid(const struct syscall_args *args)
{
    (void)args;
    return process_current()->id;
}

int64_t
sys_gettid(const struct syscall_args *args)
{
    (void)args;
    return thread_current()->tid;
}

int64_t
sys_getppid(const struct syscall_args *args)
{
    (void)args;
    return process_parent_id(process_current());
}

int64_t
sys_set_tid_address(const struct syscall_args *args)
{
    thread_current()->clear_tid = args->arg[0];
    return thread_current()->tid;
}

int64_t
sys_getpgrp(const struct syscall_args *args)
{
    (void)args;
    return process_group_id(process_current());
}

/* Group or session of process @id (0: the current one), or -ESRCH. */
static int64_t
id_of_other(int32_t id, int32_t (*get)(struct process *process))
{
    struct process *process;
    int64_t result;

    if (id == 0)
        return get(process_current());
    process = id < 0 ? NULL : process_find(id);
    if (process == NULL)
        return -ESRCH;
    result = get(process);
    process_put(process);
    return result;
}

int64_t
sys_getpgid(const struct syscall_args *args)
{
    return id_of_other((int32_t)args->arg[0], process_group_id);
}

int64_t
sys_getsid(const struct syscall_args *args)
{
    return id_of_other((int32_t)args->arg[0], process_session_id);
}

/* Tree. */
static int64_t
setpgid_locked(struct process *self, int32_t id, int32_t group_id)
{
    struct pid *pid = pid_lookup(id), *group;
    struct process *target = pid != NULL ? pid->process : NULL;

    if (target == NULL)
        return -ESRCH;
    if (target != self) {
        if (target->parent != self)
            return -ESRCH;
        if (target->session != self->session)
            return -EPERM;
        if (atomic_load(&target->flags) & PROCESS_EXECED)
            return -EACCES;
    }
    if (target->session == target->pid)
        return -EPERM; /* a session leader stays where it is */
    group = pid_lookup(group_id);
    if (group_id == id)
        group = pid;
    if (group == NULL)
        return -EPERM;
    if (group != pid) {
        struct process *member;

        if (qr_list_is_empty(&group->group))
            return -EPERM;
        member = qr_list_entry(group->group.next, struct process, group_link);
        if (member->session != self->session)
            return -EPERM;
    }
    if (target->group != group)
        process_set_group(target, group);
    return 0;
}

int64_t
sys_setpgid(const struct syscall_args *args)
{
    struct process *self = process_current();
    int32_t id = (int32_t)args->arg[0], group = (int32_t)args->arg[1];
    int64_t result;

    if (group < 0)
        return -EINVAL;
    if (id < 0)
        return -ESRCH;
    id = id == 0 ? self->id : id;
    group = group == 0 ? id : group;
    process_tree_lock();
    result = setpgid_locked(self, id, group);
    process_tree_unlock();
    return result;
}

int64_t
sys_setsid(const struct syscall_args *args)
{
    struct process *self = process_current();
    int64_t result = self->id;

    (void)args;
    process_tree_lock();
    if (!qr_list_is_empty(&self->pid->group)) {
        result = -EPERM; /* the number already names a group */
    } else {
        process_set_session(self, self->pid);
        process_set_group(self, self->pid);
    }
    process_tree_unlock();
    return result;
}

/* ---- users ------------------------------------------------------------------------- */

#define CURRENT_ID(call, field)                               \
    int64_t sys_##call(const struct syscall_args *args)       \
    {                                                         \
        (void)args;                                           \
        return (int64_t)process_current()->credentials.field; \
    }

CURRENT_ID(getuid, uid)
CURRENT_ID(geteuid, euid)
CURRENT_ID(getgid, gid)
CURRENT_ID(getegid, egid)

/* Real, effective and saved number of one kind; -1 leaves it alone. */
struct id_change {
    uint32_t real, effective, saved;
};

#define KEEP UINT32_MAX

static bool
is_one_of(uint32_t id, const struct credentials *who, bool group)
{
    if (group)
        return id == who->gid || id == who->egid || id == who->sgid;
    return id == who->uid || id == who->euid || id == who->suid;
}

/* Losing the last root number drops the capabilities, as without securebits in Linux. */
static void
update_capabilities(struct credentials *who, bool was_root)
{
    bool any_root = who->uid == 0 || who->euid == 0 || who->suid == 0;

    if (was_root && !any_root) {
        who->cap_permitted = 0;
        who->cap_effective = 0;
        who->cap_ambient = 0;
    } else if (who->euid != 0) {
        who->cap_effective = 0;
    } else {
        who->cap_effective = who->cap_permitted;
    }
}

static int64_t
change_ids(const struct id_change *change, bool group)
{
    struct process *process = process_current();
    struct credentials *who = &process->credentials;
    bool privileged = process_has_capability(group ? CAP_SETGID : CAP_SETUID);
    const uint32_t wanted[3] = {change->real, change->effective, change->saved};

    for (unsigned i = 0; i < 3; i++) {
        if (wanted[i] != KEEP && !privileged && !is_one_of(wanted[i], who, group))
            return -EPERM;
    }
    const struct credentials before = *who;

    process_tree_lock();
    if (group) {
        who->gid = wanted[0] != KEEP ? wanted[0] : who->gid;
        who->egid = wanted[1] != KEEP ? wanted[1] : who->egid;
        who->sgid = wanted[2] != KEEP ? wanted[2] : who->sgid;
        who->fsgid = who->egid;
    } else {
        bool was_root = who->uid == 0 || who->euid == 0 || who->suid == 0;

        who->uid = wanted[0] != KEEP ? wanted[0] : who->uid;
        who->euid = wanted[1] != KEEP ? wanted[1] : who->euid;
        who->suid = wanted[2] != KEEP ? wanted[2] : who->suid;
        who->fsuid = who->euid;
        update_capabilities(who, was_root);
    }
    if (before.euid != who->euid || before.egid != who->egid || before.fsuid != who->fsuid ||
        before.fsgid != who->fsgid)
        process->mm->dumpable = false; /* it knows what the new user may not */
    mm_apply_limits(process);          /* which some capabilities lift */
    process_tree_unlock();
    return 0;
}

/* setuid(id): everything for the privileged, else the effective number only. */
static int64_t
set_one(uint32_t id, bool group)
{
    struct id_change change = {KEEP, id, KEEP};

    if (id == KEEP)
        return -EINVAL;
    if (process_has_capability(group ? CAP_SETGID : CAP_SETUID))
        change.real = change.saved = id;
    return change_ids(&change, group);
}

/* setreuid(real, effective): the saved number follows when the real one is set. */
static int64_t
set_two(uint32_t real, uint32_t effective, bool group)
{
    const struct credentials *who = &process_current()->credentials;
    uint32_t old_real = group ? who->gid : who->uid;
    struct id_change change = {real, effective, KEEP};

    if (real != KEEP || (effective != KEEP && effective != old_real))
        change.saved = effective != KEEP ? effective : group ? who->egid : who->euid;
    return change_ids(&change, group);
}

int64_t
sys_setuid(const struct syscall_args *args)
{
    return set_one((uint32_t)args->arg[0], false);
}

int64_t
sys_setgid(const struct syscall_args *args)
{
    return set_one((uint32_t)args->arg[0], true);
}

int64_t
sys_setreuid(const struct syscall_args *args)
{
    return set_two((uint32_t)args->arg[0], (uint32_t)args->arg[1], false);
}

int64_t
sys_setregid(const struct syscall_args *args)
{
    return set_two((uint32_t)args->arg[0], (uint32_t)args->arg[1], true);
}

int64_t
sys_setresuid(const struct syscall_args *args)
{
    struct id_change change = {(uint32_t)args->arg[0], (uint32_t)args->arg[1],
                               (uint32_t)args->arg[2]};

    return change_ids(&change, false);
}

int64_t
sys_setresgid(const struct syscall_args *args)
{
    struct id_change change = {(uint32_t)args->arg[0], (uint32_t)args->arg[1],
                               (uint32_t)args->arg[2]};

    return change_ids(&change, true);
}

static int64_t
write_three(const struct syscall_args *args, uint32_t a, uint32_t b, uint32_t c)
{
    if (user_write_u32(args->arg[0], a) != 0 || user_write_u32(args->arg[1], b) != 0 ||
        user_write_u32(args->arg[2], c) != 0)
        return -EFAULT;
    return 0;
}

int64_t
sys_getresuid(const struct syscall_args *args)
{
    const struct credentials *who = &process_current()->credentials;

    return write_three(args, who->uid, who->euid, who->suid);
}

int64_t
sys_getresgid(const struct syscall_args *args)
{
    const struct credentials *who = &process_current()->credentials;

    return write_three(args, who->gid, who->egid, who->sgid);
}

int64_t
sys_setfsuid(const struct syscall_args *args)
{
    struct credentials *who = &process_current()->credentials;
    uint32_t id = (uint32_t)args->arg[0], old = who->fsuid;

    if (id != old && id != KEEP &&
        (process_has_capability(CAP_SETUID) || is_one_of(id, who, false))) {
        process_tree_lock();
        who->fsuid = id;
        process_current()->mm->dumpable = false;
        process_tree_unlock();
    }
    return old;
}

int64_t
sys_setfsgid(const struct syscall_args *args)
{
    struct credentials *who = &process_current()->credentials;
    uint32_t id = (uint32_t)args->arg[0], old = who->fsgid;

    if (id != old && id != KEEP &&
        (process_has_capability(CAP_SETGID) || is_one_of(id, who, true))) {
        process_tree_lock();
        who->fsgid = id;
        process_current()->mm->dumpable = false;
        process_tree_unlock();
    }
    return old;
}

int64_t
sys_getgroups(const struct syscall_args *args)
{
    const struct credentials *who = &process_current()->credentials;
    int32_t size = (int32_t)args->arg[0];

    if (size < 0)
        return -EINVAL;
    if (size == 0)
        return who->group_count;
    if ((uint32_t)size < who->group_count)
        return -EINVAL;
    if (user_write(args->arg[1], who->groups, who->group_count * sizeof(uint32_t)) != 0)
        return -EFAULT;
    return who->group_count;
}

int64_t
sys_setgroups(const struct syscall_args *args)
{
    struct credentials *who = &process_current()->credentials;
    uint32_t groups[QR_ARRAY_COUNT(who->groups)], count = (uint32_t)args->arg[0];

    if (!process_has_capability(CAP_SETGID))
        return -EPERM;
    if (count > QR_ARRAY_COUNT(groups))
        return -EINVAL;
    if (user_read(groups, args->arg[1], count * sizeof(uint32_t)) != 0)
        return -EFAULT;
    process_tree_lock();
    memcpy(who->groups, groups, count * sizeof(uint32_t));
    who->group_count = count;
    process_tree_unlock();
    return 0;
}

/* ---- capabilities ---------------------------------------------------------------------- */

#define CAPABILITY_VERSION_1 0x19980330u
#define CAPABILITY_VERSION_2 0x20071026u
#define CAPABILITY_VERSION_3 0x20080522u

/* Words of each set for the version in the header; 0 where unknown (the header gets ours). */
static int64_t
capability_words(uint64_t header, unsigned *out_words)
{
    uint32_t version;

    if (user_read_u32(&version, header) != 0)
        return -EFAULT;
    switch (version) {
    case CAPABILITY_VERSION_1:
        *out_words = 1;
        return 0;
    case CAPABILITY_VERSION_2:
    case CAPABILITY_VERSION_3:
        *out_words = 2;
        return 0;
    default:
        if (user_write_u32(header, CAPABILITY_VERSION_3) != 0)
            return -EFAULT;
        return -EINVAL;
    }
}

int64_t
sys_capget(const struct syscall_args *args)
{
    struct credentials who;
    uint32_t id, words[2][3];
    unsigned count;
    struct process *process;
    int64_t error = capability_words(args->arg[0], &count);

    if (error != 0)
        return error == -EINVAL && args->arg[1] == 0 ? 0 : error;
    if (user_read_u32(&id, args->arg[0] + 4) != 0)
        return -EFAULT;
    if ((int32_t)id < 0)
        return -EINVAL;
    process = process_find(id == 0 ? process_current()->id : (int32_t)id);
    if (process == NULL)
        return -ESRCH;
    who = process->credentials;
    process_put(process);
    if (args->arg[1] == 0)
        return 0;
    for (unsigned i = 0; i < 2; i++) {
        words[i][0] = (uint32_t)(who.cap_effective >> (32 * i));
        words[i][1] = (uint32_t)(who.cap_permitted >> (32 * i));
        words[i][2] = (uint32_t)(who.cap_inheritable >> (32 * i));
    }
    return user_write(args->arg[1], words, count * sizeof(words[0]));
}

int64_t
sys_capset(const struct syscall_args *args)
{
    struct credentials *who = &process_current()->credentials;
    uint32_t id, words[2][3] = {{0}};
    uint64_t sets[3];
    unsigned count;
    int64_t error = capability_words(args->arg[0], &count);

    if (error != 0)
        return error;
    if (user_read_u32(&id, args->arg[0] + 4) != 0 ||
        user_read(words, args->arg[1], count * sizeof(words[0])) != 0)
        return -EFAULT;
    if (id != 0 && (int32_t)id != process_current()->id)
        return -EPERM;
    for (unsigned i = 0; i < 3; i++)
        sets[i] = words[0][i] | (uint64_t)words[1][i] << 32;
    if ((sets[1] & ~who->cap_permitted) != 0 || (sets[0] & ~sets[1]) != 0)
        return -EPERM;
    if ((sets[2] & ~(who->cap_inheritable | who->cap_permitted)) != 0 &&
        !process_has_capability(CAP_SETPCAP))
        return -EPERM;
    process_tree_lock();
    who->cap_effective = sets[0];
    who->cap_permitted = sets[1];
    who->cap_inheritable = sets[2];
    who->cap_ambient &= sets[1] & sets[2];
    mm_apply_limits(process_current());
    process_tree_unlock();
    return 0;
}
