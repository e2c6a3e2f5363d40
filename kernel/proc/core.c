/* SPDX-License-Identifier: MIT */
/*
 * Core files: who writes one, and the end of the others meanwhile.
 *
 * A thread that takes a signal whose default action leaves a core file becomes the process's core_thread,
 * of which there is one at most, and none while the process ends or executes a program.  From then on
 * all other threads are to end; each saves its registers as it begins to (core_pass()) and
 * waits there, with all that it has, until the process ends for good (core_end()).  Meanwhile no
 * thread can join them: clone() sees that it is superseded.
 *
 *      core_begin    core_others = core_running = those that have not begun to end; they are woken
 *      core_pass     in_core, core_running - 1
 *      core_write    once core_running is 0
 *      core_end      group_exit, core_thread = NULL; all go on to end
 *
 * The writer holds no lock but for looking: the list of regions and the list of threads are copied, with
 * references, and memory is read page by page through mm_access() into a page of the kernel's, from where it
 * goes to the file like any other write.  So the file may be on any file system, and another process
 * that shares the memory (CLONE_VM) may change it as it likes; it is not stopped, as in Linux.
 *
 * SIGKILL ends it all: process->killed makes every wait of the writer end, and what there is of the
 * file stays.  That is also how the OOM killer gets its memory.
 *
 * Locks: core_thread and what is counted are S's; core_begin takes the tree lock for the list.
 */
#include "core_private.h"

#include "abi_errno.h"
#include "file.h"
#include "proc_private.h"
#include "vfs.h"

/* @return false: the process ends, or changes its program, already */
static bool
core_begin(struct thread *thread)
{
    struct process *process = thread->process;
    bool begins;

    process_tree_lock();
    qr_spin_lock(&process->signal_lock);
    begins = !signal_ends(process) && process->exec_thread == NULL && process->core_thread == NULL;
    if (begins) {
        unsigned others = 0;

        process->core_thread = thread;
        qr_list_for_each(link, &process->threads)
        {
            struct thread *other = qr_list_entry(link, struct thread, thread_link);

            if (other == thread || other->exiting)
                continue;
            others++;
            signal_wake(other, true);
        }
        process->core_others = others;
        atomic_store(&process->core_running, others);
    }
    qr_spin_unlock(&process->signal_lock);
    process_tree_unlock();
    return begins;
}

void
core_pass(struct thread *thread)
{
    struct process *process = thread->process;
    int64_t result;

    qr_spin_lock(&process->signal_lock);
    bool waits = process->core_thread != NULL && process->core_thread != thread;
    thread->exiting = true;
    qr_spin_unlock(&process->signal_lock);
    if (!waits)
        return;
    arch_thread_save(&thread->arch);
    qr_spin_lock(&process->signal_lock);
    thread->in_core = true;
    atomic_fetch_sub(&process->core_running, 1);
    qr_spin_unlock(&process->signal_lock);
    wait_wake_all(&process->exec_wait);
    WAIT_EVENT_UNTIL(result, &process->exec_wait,
                     __atomic_load_n(&process->core_thread, __ATOMIC_ACQUIRE) == NULL,
                     WAIT_UNINTERRUPTIBLE, WAIT_FOREVER);
    (void)result;
}

void
core_end(struct thread *thread)
{
    struct process *process = thread->process;

    if (process->core_thread != thread)
        return;
    __atomic_store_n(&process->core_thread, NULL, __ATOMIC_RELEASE);
    wait_wake_all(&process->exec_wait);
}

/* @return whether there is a file with something in it now */
static bool
write_file(int number, const struct signal_info *info)
{
    char *path = kmem_alloc(PATH_MAX);
    struct file *file;
    bool written = false;

    if (path == NULL)
        return false;
    if (core_name(path, PATH_MAX, number) == 0 && vfs_create_core(path, &file) == 0) {
        written = core_write(file, process_limit(RLIMIT_CORE), info);
        file_put(file);
    }
    kmem_free(path);
    return written;
}

int
core_dump(int number, const struct signal_info *info)
{
    struct thread *thread = thread_current();
    struct process *process = thread->process;
    bool written = false;
    int64_t result;

    if (process_limit(RLIMIT_CORE) < QR_PAGE_SIZE || !process->mm->dumpable)
        return number;
    if (core_begin(thread)) {
        WAIT_EVENT_UNTIL(result, &process->exec_wait, atomic_load(&process->core_running) == 0,
                         WAIT_KILLABLE, WAIT_FOREVER);
        if (result == 0) {
            arch_thread_save(&thread->arch);
            written = write_file(number, info);
        }
    }
    if (process->killed)
        return SIGKILL;
    return written ? number | 0x80 : number;
}
