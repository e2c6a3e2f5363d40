/* SPDX-License-Identifier: MIT */
/*
 * System calls about limits, usage and the machine as a whole.
 */
#include "proc_private.h"

#include "abi_errno.h"
#include "arch_abi.h"
#include "file.h"
#include "kstring.h"
#include "memory.h"
#include "printk.h"
#include "sched_private.h"
#include "syscall.h"

enum {
    CAP_SYS_ADMIN = 21,
    CAP_SYS_BOOT = 22,
    CAP_SYS_RESOURCE = 24,
    CAP_SETPCAP = 8,
    CAP_LAST = 40,
    UTS_BYTES = 65
};

/* ---- limits -------------------------------------------------------------------- */

static int64_t
set_limit(struct process *process, unsigned which, const struct rlimit *wanted)
{
    struct rlimit *limit = &process->limits[which];
    int64_t error = 0;

    if (wanted->soft > wanted->hard)
        return -EINVAL;
    if (which == RLIMIT_NOFILE && wanted->hard > atomic_load(&file_nr_open))
        return -EPERM;
    process_tree_lock();
    if (wanted->hard > limit->hard && !process_has_capability(CAP_SYS_RESOURCE))
        error = -EPERM;
    else
        *limit = *wanted;
    mm_apply_limits(process);
    process_tree_unlock();
    return error;
}

static int64_t
limit_get_and_set(struct process *process, unsigned which, uint64_t new_limit, uint64_t old_limit)
{
    struct rlimit wanted, old = process->limits[which];
    int64_t error = 0;

    if (new_limit != 0) {
        if (user_read(&wanted, new_limit, sizeof(wanted)) != 0)
            return -EFAULT;
        error = set_limit(process, which, &wanted);
    }
    if (error == 0 && old_limit != 0)
        error = user_write(old_limit, &old, sizeof(old));
    return error;
}

int64_t
sys_prlimit64(const struct syscall_args *args)
{
    int32_t id = (int32_t)args->arg[0];
    uint32_t which = (uint32_t)args->arg[1];
    struct process *process;
    int64_t error;

    if (which >= RLIMIT_COUNT)
        return -EINVAL;
    if (id == 0 || id == process_current()->id)
        return limit_get_and_set(process_current(), which, args->arg[2], args->arg[3]);
    process = process_find(id);
    if (process == NULL)
        return -ESRCH;
    if (process->credentials.uid != process_current()->credentials.uid &&
        !process_has_capability(CAP_SYS_RESOURCE))
        error = -EPERM;
    else
        error = limit_get_and_set(process, which, args->arg[2], args->arg[3]);
    process_put(process);
    return error;
}

int64_t
sys_getrlimit(const struct syscall_args *args)
{
    if ((uint32_t)args->arg[0] >= RLIMIT_COUNT)
        return -EINVAL;
    return user_write(args->arg[1], &process_current()->limits[(uint32_t)args->arg[0]],
                      sizeof(struct rlimit));
}

int64_t
sys_setrlimit(const struct syscall_args *args)
{
    struct rlimit wanted;

    if (user_read(&wanted, args->arg[1], sizeof(wanted)) != 0)
        return -EFAULT;
    if ((uint32_t)args->arg[0] >= RLIMIT_COUNT)
        return -EINVAL;
    return set_limit(process_current(), (uint32_t)args->arg[0], &wanted);
}

int64_t
sys_getrusage(const struct syscall_args *args)
{
    struct process *process = process_current();
    struct usage used;

    process_tree_lock();
    switch ((int32_t)args->arg[0]) {
    case 0: /* RUSAGE_SELF */
        process_usage(process, &used);
        break;
    case -1: /* RUSAGE_CHILDREN */
        used = process->children_used;
        break;
    case 1: /* RUSAGE_THREAD */
        thread_usage(thread_current(), &used);
        break;
    default:
        process_tree_unlock();
        return -EINVAL;
    }
    process_tree_unlock();
    if ((int32_t)args->arg[0] != -1) {
        uint64_t peak = qr_space_peak_pages(process->mm->space);

        used.peak_pages = peak > used.peak_pages ? peak : used.peak_pages;
    }
    return usage_to_user(args->arg[1], &used);
}

/* ---- names ------------------------------------------------------------------------- */

struct utsname {
    char system[UTS_BYTES], node[UTS_BYTES], release[UTS_BYTES], version[UTS_BYTES];
    char machine[UTS_BYTES], domain[UTS_BYTES];
};

static struct qr_spin uts_lock = QR_SPIN_INIT(QR_RANK_NONE);
static struct utsname uts = {
    /* uts_lock */
    .system = "Linux",        .node = "quire",
    .release = "6.1.0-quire", .version = "#1 SMP PREEMPT_DYNAMIC Quire",
    .machine = ARCH_PLATFORM, .domain = "(none)",
};

int64_t
sys_uname(const struct syscall_args *args)
{
    struct utsname copy;

    qr_spin_lock(&uts_lock);
    copy = uts;
    qr_spin_unlock(&uts_lock);
    return user_write(args->arg[0], &copy, sizeof(copy));
}

static int64_t
set_name(char *name, uint64_t address, uint64_t length)
{
    char copy[UTS_BYTES] = {0};

    if (!process_has_capability(CAP_SYS_ADMIN))
        return -EPERM;
    if (length > UTS_BYTES - 1)
        return -EINVAL;
    if (user_read(copy, address, length) != 0)
        return -EFAULT;
    qr_spin_lock(&uts_lock);
    memcpy(name, copy, UTS_BYTES);
    qr_spin_unlock(&uts_lock);
    return 0;
}

int64_t
sys_sethostname(const struct syscall_args *args)
{
    return set_name(uts.node, args->arg[0], args->arg[1]);
}

int64_t
sys_setdomainname(const struct syscall_args *args)
{
    return set_name(uts.domain, args->arg[0], args->arg[1]);
}

void
machine_host_name(char out[65])
{
    qr_spin_lock(&uts_lock);
    memcpy(out, uts.node, UTS_BYTES);
    qr_spin_unlock(&uts_lock);
}

/* ---- the machine -------------------------------------------------------------------------- */

struct sysinfo_user {
    int64_t uptime;
    uint64_t loads[3], total_ram, free_ram, shared_ram, buffer_ram, total_swap, free_swap;
    uint16_t processes, pad;
    uint32_t pad2;
    uint64_t total_high, free_high;
    uint32_t unit;
    uint32_t pad3;
};

_Static_assert(sizeof(struct sysinfo_user) == 112, "Linux ABI");

int64_t
sys_sysinfo(const struct syscall_args *args)
{
    struct sysinfo_user info = {0};
    struct qr_frames_stats stats;
    struct qr_swap_stats swap;
    uint32_t loads[3];
    size_t high, high_free;
    long shared = qr_counter_read(qr_frames_counters(memory.frames), QR_PAGES_SHMEM);

    qr_frames_stats(memory.frames, &stats);
    sched_load_averages(loads);
    info.uptime = (int64_t)(clock_monotonic_ns() / 1000000000);
    for (unsigned i = 0; i < 3; i++)
        info.loads[i] = loads[i];
    info.total_ram = (uint64_t)stats.total << QR_PAGE_SHIFT;
    info.free_ram = (uint64_t)stats.free << QR_PAGE_SHIFT;
    info.shared_ram = (uint64_t)(shared > 0 ? shared : 0) << QR_PAGE_SHIFT;
    if (qr_frames_high_stats(memory.frames, &high, &high_free)) {
        info.total_high = (uint64_t)high << QR_PAGE_SHIFT;
        info.free_high = (uint64_t)high_free << QR_PAGE_SHIFT;
    }
    qr_swap_stats(memory.swap, &swap);
    info.total_swap = (uint64_t)swap.pages << QR_PAGE_SHIFT;
    info.free_swap = (uint64_t)(swap.pages - swap.used) << QR_PAGE_SHIFT;
    info.processes = (uint16_t)thread_count();
    info.unit = 1;
    return user_write(args->arg[0], &info, sizeof(info));
}

int64_t
sys_getrandom(const struct syscall_args *args)
{
    uint64_t done = 0, length = args->arg[1];
    uint64_t words[32];

    if (args->arg[2] & ~(uint64_t)7 || (args->arg[2] & 6) == 6)
        return -EINVAL;
    if (length > INT32_MAX)
        length = INT32_MAX;
    while (done < length) {
        size_t piece = length - done < sizeof(words) ? (size_t)(length - done) : sizeof(words);
        size_t moved;

        for (size_t i = 0; i * 8 < piece; i++)
            words[i] = arch_random();
        moved = user_write_partial(args->arg[0] + done, words, piece);
        done += moved;
        if (moved < piece)
            return done == 0 ? -EFAULT : (int64_t)done;
        if (done % 65536 == 0) {
            if (signal_is_pending())
                break;
            sched_relax();
        }
    }
    return (int64_t)done;
}

enum { REBOOT_HALT = (int)0xcdef0123, REBOOT_POWER_OFF = 0x4321fedc, REBOOT_RESTART = 0x01234567 };

int64_t
sys_reboot(const struct syscall_args *args)
{
    uint32_t magic2 = (uint32_t)args->arg[1];

    if (!process_has_capability(CAP_SYS_BOOT))
        return -EPERM;
    if ((uint32_t)args->arg[0] != 0xfee1dead ||
        (magic2 != 672274793 && magic2 != 85072278 && magic2 != 369367448 && magic2 != 537993216))
        return -EINVAL;
    switch ((int)args->arg[2]) {
    case 0: /* Ctrl-Alt-Del off, on */
    case (int)0x89abcdef:
        return 0;
    case REBOOT_HALT:
    case REBOOT_POWER_OFF:
    case REBOOT_RESTART:
        printk("reboot: the machine stops\n");
        kernel_exit(0);
    default:
        return -EINVAL;
    }
}

/* The kernel's log is on the log port; there is no buffer to read from. */
int64_t
sys_syslog(const struct syscall_args *args)
{
    switch ((int)args->arg[0]) {
    case 2:
    case 3:
    case 4:
    case 9:
    case 10:
        return 0;
    case 0:
    case 1:
    case 5:
    case 6:
    case 7:
    case 8:
        return 0;
    default:
        return -EINVAL;
    }
}

int64_t
sys_vhangup(const struct syscall_args *args)
{
    (void)args;
    return process_has_capability(26) ? 0 : -EPERM; /* CAP_SYS_TTY_CONFIG */
}

int64_t
sys_personality(const struct syscall_args *args)
{
    struct process *process = process_current();
    uint32_t old = process->personality;

    if ((uint32_t)args->arg[0] != UINT32_MAX)
        process->personality = (uint32_t)args->arg[0];
    return old;
}

/* ---- prctl ---------------------------------------------------------------------------------- */

enum {
    PR_SET_PDEATHSIG = 1,
    PR_GET_PDEATHSIG = 2,
    PR_GET_DUMPABLE = 3,
    PR_SET_DUMPABLE = 4,
    PR_GET_KEEPCAPS = 7,
    PR_SET_KEEPCAPS = 8,
    PR_SET_NAME = 15,
    PR_GET_NAME = 16,
    PR_CAPBSET_READ = 23,
    PR_CAPBSET_DROP = 24,
    PR_GET_SECUREBITS = 27,
    PR_SET_SECUREBITS = 28,
    PR_SET_TIMERSLACK = 29,
    PR_GET_TIMERSLACK = 30,
    PR_SET_CHILD_SUBREAPER = 36,
    PR_GET_CHILD_SUBREAPER = 37,
    PR_SET_NO_NEW_PRIVS = 38,
    PR_GET_NO_NEW_PRIVS = 39,
    PR_GET_TID_ADDRESS = 40,
    PR_SET_THP_DISABLE = 41,
    PR_GET_THP_DISABLE = 42,
    PR_SET_VMA = 0x53564d41
};

static int64_t
set_thread_name(struct thread *thread, uint64_t address)
{
    char name[COMM_BYTES] = {0};
    int64_t length = user_read_string(name, address, COMM_BYTES);

    if (length == -EFAULT)
        return -EFAULT;
    name[COMM_BYTES - 1] = '\0';
    for (size_t i = strlen(name); i < COMM_BYTES; i++)
        name[i] = '\0';
    process_tree_lock();
    memcpy(thread->name, name, COMM_BYTES);
    if (thread->process->leader_thread == thread)
        memcpy(thread->process->name, name, COMM_BYTES);
    process_tree_unlock();
    return 0;
}

static int64_t
set_flag(struct process *process, uint32_t flag, bool on)
{
    if (on)
        atomic_fetch_or(&process->flags, flag);
    else
        atomic_fetch_and(&process->flags, ~flag);
    return 0;
}

int64_t
sys_prctl(const struct syscall_args *args)
{
    struct thread *thread = thread_current();
    struct process *process = thread->process;
    uint64_t value = args->arg[1];

    switch ((int)args->arg[0]) {
    case PR_SET_PDEATHSIG:
        if (value > SIGRTMAX)
            return -EINVAL;
        thread->parent_death_signal = (int)value;
        return 0;
    case PR_GET_PDEATHSIG:
        return user_write_u32(value, (uint32_t)thread->parent_death_signal);
    case PR_GET_DUMPABLE:
        return process->mm->dumpable;
    case PR_SET_DUMPABLE:
        if (value > 1)
            return -EINVAL;
        process->mm->dumpable = value != 0;
        return 0;
    case PR_GET_KEEPCAPS:
        return 0;
    case PR_SET_KEEPCAPS:
        return value > 1 ? -EINVAL : 0;
    case PR_SET_NAME:
        return set_thread_name(thread, value);
    case PR_GET_NAME:
        return user_write(value, thread->name, COMM_BYTES);
    case PR_CAPBSET_READ:
        return value > CAP_LAST ? -EINVAL
                                : (int64_t)(process->credentials.cap_bounding >> value & 1);
    case PR_CAPBSET_DROP:
        if (value > CAP_LAST)
            return -EINVAL;
        if (!process_has_capability(CAP_SETPCAP))
            return -EPERM;
        process->credentials.cap_bounding &= ~((uint64_t)1 << value);
        return 0;
    case PR_GET_SECUREBITS:
        return process->credentials.securebits;
    case PR_SET_TIMERSLACK:
        thread->timer_slack_ns = value == 0 ? 50000 : value;
        return 0;
    case PR_GET_TIMERSLACK:
        return (int64_t)thread->timer_slack_ns;
    case PR_SET_CHILD_SUBREAPER:
        return set_flag(process, PROCESS_SUBREAPER, value != 0);
    case PR_GET_CHILD_SUBREAPER:
        return user_write_u32(value, (atomic_load(&process->flags) & PROCESS_SUBREAPER) != 0);
    case PR_SET_NO_NEW_PRIVS:
        if (value != 1 || args->arg[2] != 0 || args->arg[3] != 0 || args->arg[4] != 0)
            return -EINVAL;
        return set_flag(process, PROCESS_NO_NEW_PRIVS, true);
    case PR_GET_NO_NEW_PRIVS:
        if (value != 0 || args->arg[2] != 0 || args->arg[3] != 0 || args->arg[4] != 0)
            return -EINVAL;
        return (atomic_load(&process->flags) & PROCESS_NO_NEW_PRIVS) != 0;
    case PR_GET_TID_ADDRESS:
        return user_write_word(value, thread->clear_tid);
    case PR_SET_THP_DISABLE:
        if (args->arg[2] != 0 || args->arg[3] != 0 || args->arg[4] != 0)
            return -EINVAL;
        qr_space_set_huge_disabled(process->mm->space, value != 0);
        return 0;
    case PR_GET_THP_DISABLE:
        if (value != 0 || args->arg[2] != 0 || args->arg[3] != 0 || args->arg[4] != 0)
            return -EINVAL;
        return qr_space_huge_disabled(process->mm->space);
    case PR_SET_VMA: /* names of anonymous regions: as a Linux without CONFIG_ANON_VMA_NAME */
    default:
        return -EINVAL;
    }
}
