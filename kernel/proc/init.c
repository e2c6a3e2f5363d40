/* SPDX-License-Identifier: MIT */
/*
 * The beginning and the end: idle threads, process 1, and what happens when it
 * has ended.
 *
 * Process 1 starts as a kernel thread that already is a process without memory;
 * it executes the program that the command line names and enters user mode.
 * When it ends, every other process is killed, the kernel checks that nothing is
 * left over, and the machine powers off with init's status.
 */
#include "boot.h"
#include "cgroup.h"
#include "file.h"
#include "kstring.h"
#include "memory.h"
#include "platform.h"
#include "printk.h"
#include "proc_private.h"
#include "psi.h"
#include "sched_private.h"
#include "shm.h"
#include "swap.h"
#include "vfs.h"

#include <quire/assert.h>

enum { ARGUMENTS_MAX = 32, SHUTDOWN_MS = 5000 };

static struct thread idle_threads[CONFIG_MAX_CPUS];

/* ---- processors -------------------------------------------------------------- */

static void
become_idle_thread(struct cpu *cpu)
{
    struct thread *idle = &idle_threads[cpu->index];

    thread_init_idle(idle, "idle");
    cpu->idle = idle;
    sched_init_cpu(cpu);
}

void
proc_init(void)
{
    process_init();
    psi_init();
    cgroup_init();
    group_init();
    wait_init();
    futex_init();
    mm_init();
    clock_init_wall();
    become_idle_thread(cpu_this());
}

void
cpu_main(void)
{
    become_idle_thread(cpu_this());
    sched_idle();
}

void
sched_run(void)
{
    sched_idle();
}

/* ---- process 1 ------------------------------------------------------------------ */

struct init_arguments {
    char path[256];
    char text[BOOT_CMDLINE_MAX];
    const char *argv[ARGUMENTS_MAX + 1];
};

/* Words of @text, double quotes around spaces, cut in place. */
static void
split_arguments(struct init_arguments *init)
{
    char *from = init->text, *to = init->text;
    unsigned count = 1;

    init->argv[0] = init->path;
    while (count < ARGUMENTS_MAX) {
        bool quoted = false;

        while (*from == ' ')
            from++;
        if (*from == '\0')
            break;
        init->argv[count++] = to;
        for (; *from != '\0' && (quoted || *from != ' '); from++) {
            if (*from == '"')
                quoted = !quoted;
            else
                *to++ = *from;
        }
        if (*from != '\0')
            from++;
        *to++ = '\0';
    }
    init->argv[count] = NULL;
}

static void
default_limits(struct process *process)
{
    for (unsigned i = 0; i < RLIMIT_COUNT; i++)
        process->limits[i] = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
    process->limits[RLIMIT_STACK].soft = (uint64_t)8 << 20;
    process->limits[RLIMIT_CORE].soft = 0;
    process->limits[RLIMIT_NOFILE] = (struct rlimit){1024, 4096};
    process->limits[RLIMIT_NPROC] = (struct rlimit){THREADS_LIMIT / 2, THREADS_LIMIT / 2};
    process->limits[RLIMIT_MEMLOCK] = (struct rlimit){(uint64_t)8 << 20, (uint64_t)8 << 20};
    process->limits[RLIMIT_SIGPENDING] = (struct rlimit){THREADS_LIMIT / 2, THREADS_LIMIT / 2};
    process->limits[RLIMIT_MSGQUEUE] = (struct rlimit){819200, 819200};
    process->limits[RLIMIT_NICE] = (struct rlimit){0, 0};
    process->limits[RLIMIT_RTPRIO] = (struct rlimit){0, 0};
}

static void
root_credentials(struct credentials *who)
{
    const uint64_t all = ((uint64_t)1 << 41) - 1;

    who->cap_effective = who->cap_permitted = who->cap_bounding = all;
}

static void
init_main(void *argument)
{
    static const char *const environment[] = {"HOME=/", "TERM=linux",
                                              "PATH=/sbin:/usr/sbin:/bin:/usr/bin", NULL};
    struct init_arguments *init = argument;
    int64_t error = vfs_open_console();

    if (error != 0)
        printk("init: no /dev/console: error %ld\n", (long)-error);
    error = exec_kernel(init->path, init->argv, environment);
    if (error != 0)
        panic("init: cannot execute %s: error %ld\n", init->path, (long)-error);
    kmem_free(init);
    arch_enter_user();
}

/* A process of one thread, without memory yet, in a group and session of its own. */
static struct thread *
first_process(void)
{
    struct thread *thread = thread_alloc();
    struct process *process = process_alloc();
    struct pid *pid;

    if (thread == NULL || process == NULL || pid_create(0, &pid) != 0)
        return NULL;
    thread->files = fd_table_create();
    thread->fs = fs_context_create();
    process->actions = signal_actions_create(NULL);
    if (thread->files == NULL || thread->fs == NULL || process->actions == NULL)
        return NULL;
    process->id = pid->number;
    process->pid = pid;
    process->exit_signal = SIGCHLD;
    default_limits(process);
    root_credentials(&process->credentials);
    mm_apply_limits(process);
    atomic_store(&process->flags, PROCESS_INIT);
    process_set_init(process);
    process_tree_lock();
    process_add(process, NULL);
    if (cgroup_enter(process, cgroup_root()) != 0)
        panic("init: no control group");
    process_set_group(process, pid);
    process_set_session(process, pid);
    process->leader_thread = thread;
    thread_add(thread, process, pid);
    process_tree_unlock();
    return thread;
}

void
process_start_init(void)
{
    struct init_arguments *init = kmem_zalloc(sizeof(*init));
    struct thread *thread = first_process();

    if (init == NULL || thread == NULL)
        panic("init: no memory for process 1\n");
    if (!boot_option("init", init->path, sizeof(init->path)) || init->path[0] == '\0')
        strlcpy(init->path, "/init", sizeof(init->path));
    strlcpy(init->text, boot_arguments(), sizeof(init->text));
    split_arguments(init);
    strlcpy(thread->name, "init", COMM_BYTES);
    arch_thread_init_kernel(&thread->arch, init_main, init);
    sched_start(thread);
}

/* ---- the end ------------------------------------------------------------------------ */

static void
kill_visit(struct process *process, void *context)
{
    unsigned *alive = context;

    if (process == process_init_process() || process->state != PROCESS_ALIVE)
        return;
    (*alive)++;
    (void)signal_send_process_locked(process, SIGKILL, NULL);
}

static unsigned
kill_everybody(void)
{
    unsigned alive = 0;

    process_tree_lock();
    process_visit_all(kill_visit, &alive);
    process_tree_unlock();
    return alive;
}

/* Zombies whose parent is init: nobody will wait for them any more. */
static void
reap_everybody(struct process *init)
{
    for (;;) {
        struct process *dead = NULL;

        process_tree_lock();
        qr_list_for_each(link, &init->children)
        {
            struct process *child = qr_list_entry(link, struct process, sibling_link);

            if (child->state == PROCESS_ZOMBIE) {
                dead = child;
                process_remove(child);
                break;
            }
        }
        process_tree_unlock();
        if (dead == NULL)
            return;
        process_put(dead);
    }
}

_Noreturn void
process_shutdown(int code)
{
    struct process *init = process_init_process();
    unsigned alive = 1;

    for (unsigned waited = 0; waited < SHUTDOWN_MS && alive > 0; waited += 4) {
        alive = kill_everybody();
        if (alive > 0)
            sched_sleep_until(clock_monotonic_ns() + 4000000);
        reap_everybody(init);
    }
    /* A thread's structure goes when its CPU has switched away from it. */
    for (unsigned waited = 0; waited < SHUTDOWN_MS && thread_count() > 1; waited += 4)
        sched_sleep_until(clock_monotonic_ns() + 4000000);
    if (alive > 0)
        printk("shutdown: %u processes do not end\n", alive);
    shm_end();
    swaps_end();
    (void)process_leak_check();
    vfs_close_disks();
    platform_audit();
    kernel_exit(code);
}
