/* SPDX-License-Identifier: MIT */
/*
 * What a core file is called: core_pattern, a template, as core(5) describes it.
 *
 * What is filled in for the host, the thread or the program is one component of a path whatever it
 * contains: slashes become exclamation marks, and it is never empty, "." or "..".
 */
#include "core_private.h"

#include <quire/lock.h>

#include "abi_errno.h"
#include "file.h"
#include "kstring.h"
#include "printk.h"
#include "proc_private.h"
#include "vfs.h"

static struct qr_spin pattern_lock = QR_SPIN_INIT(QR_RANK_NONE);
static char pattern[CORE_PATTERN_BYTES] = "core"; /* pattern_lock */
_Atomic uint64_t core_uses_pid;

void
core_pattern_get(char out[CORE_PATTERN_BYTES])
{
    qr_spin_lock(&pattern_lock);
    memcpy(out, pattern, CORE_PATTERN_BYTES);
    qr_spin_unlock(&pattern_lock);
}

int64_t
core_pattern_set(const char *text, size_t length)
{
    char copy[CORE_PATTERN_BYTES] = {0};
    size_t used = 0;

    while (used < length && used < CORE_PATTERN_BYTES - 1 && text[used] != '\n' &&
           text[used] != '\0') {
        copy[used] = text[used];
        used++;
    }
    if (copy[0] == '|')
        return -EINVAL;
    qr_spin_lock(&pattern_lock);
    memcpy(pattern, copy, CORE_PATTERN_BYTES);
    qr_spin_unlock(&pattern_lock);
    return 0;
}

/* ---- putting it together ---------------------------------------------------------------- */

struct name {
    char *text;
    size_t size, length; /* size or more: it did not fit */
};

static void
add(struct name *name, const char *text)
{
    size_t length = strlen(text);

    if (name->length < name->size && length < name->size - name->length)
        memcpy(name->text + name->length, text, length + 1);
    name->length += length;
}

static void
add_number(struct name *name, uint64_t value)
{
    char digits[24];

    (void)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
    add(name, digits);
}

/* One component of the path; @p text is changed to be one. */
static void
add_component(struct name *name, char *text)
{
    if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        text[0] = '!';
    for (char *at = text; *at != '\0'; at++)
        *at = *at == '/' ? '!' : *at;
    add(name, *text != '\0' ? text : "!");
}

static void
add_program(struct name *name, bool whole)
{
    struct file *exe = process_current()->mm->exe;
    char *buffer = kmem_alloc(PATH_MAX);

    if (buffer != NULL && exe != NULL) {
        const char *path = file_path(exe, buffer, PATH_MAX), *last = strrchr(path, '/');

        add_component(name, buffer + ((whole || last == NULL ? path : last + 1) - buffer));
    }
    kmem_free(buffer);
}

static void
add_host(struct name *name)
{
    char host[65];

    machine_host_name(host);
    add_component(name, host);
}

static void
add_thread_name(struct name *name, const struct thread *thread)
{
    char text[COMM_BYTES];

    strlcpy(text, thread->name, COMM_BYTES);
    add_component(name, text);
}

/* What the letter after a % stands for; nothing for those that mean nothing. */
static void
add_letter(struct name *name, char letter, int number)
{
    const struct thread *thread = thread_current();
    const struct process *process = thread->process;

    switch (letter) {
    case '%':
        return add(name, "%");
    case 'p':
    case 'P':
        return add_number(name, (uint64_t)process->id);
    case 'i':
    case 'I':
        return add_number(name, (uint64_t)thread->tid);
    case 'u':
        return add_number(name, process->credentials.uid);
    case 'g':
        return add_number(name, process->credentials.gid);
    case 'd':
        return add_number(name, process->mm->dumpable);
    case 's':
        return add_number(name, (uint64_t)number);
    case 't':
        return add_number(name, clock_realtime_ns() / 1000000000u);
    case 'c':
        return add_number(name, (unsigned long)process_limit(RLIMIT_CORE));
    case 'C':
        return add_number(name, atomic_load(&thread->cpu));
    case 'h':
        return add_host(name);
    case 'e':
        return add_thread_name(name, thread);
    case 'f':
        return add_program(name, false);
    case 'E':
        return add_program(name, true);
    default:
        return;
    }
}

int64_t
core_name(char *out, size_t size, int number)
{
    struct name name = {.text = out, .size = size};
    char from[CORE_PATTERN_BYTES];
    bool has_id = false;

    core_pattern_get(from);
    out[0] = '\0';
    for (const char *at = from; *at != '\0'; at++) {
        if (*at != '%') {
            add(&name, (const char[]){*at, '\0'});
            continue;
        }
        if (*++at == '\0')
            break;
        has_id = has_id || *at == 'p';
        add_letter(&name, *at, number);
    }
    if (!has_id && atomic_load(&core_uses_pid) != 0) {
        add(&name, ".");
        add_number(&name, (uint64_t)process_current()->id);
    }
    return name.length < size ? 0 : -ENAMETOOLONG;
}
