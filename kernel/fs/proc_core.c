/* SPDX-License-Identifier: MIT */
/*
 * Core files: /proc/PID/coredump_filter, and what they are called in /proc/sys/kernel.
 */
#include "core.h"
#include "proc.h"
#include "proc_pid.h"
#include "proc_vm.h"

void
proc_show_coredump_filter(const struct text_target *target, struct qr_writer *writer)
{
    struct mm *mm = mm_of_process(target->process);

    if (mm == NULL)
        return;
    qr_writer_printf(writer, "%08x\n", atomic_load(&mm->core_filter));
    mm_put(mm);
}

int64_t
proc_store_coredump_filter(const struct text_target *target, const char *text, size_t length)
{
    size_t sign = length > 0 && text[0] == '+', used;
    uint64_t value;
    struct mm *mm;

    used = proc_digits_parse(text + sign, length - sign, UINT32_MAX, &value);
    if (used == 0 || (sign + used < length && strcmp(text + sign + used, "\n") != 0))
        return -EINVAL;
    mm = mm_of_process(target->process);
    if (mm == NULL)
        return -ESRCH;
    atomic_store(&mm->core_filter, (unsigned)value & CORE_FILTER_ALL);
    mm_put(mm);
    return 0;
}

static void
show_pattern(const struct text_target *target, struct qr_writer *writer)
{
    char pattern[CORE_PATTERN_BYTES];

    (void)target;
    core_pattern_get(pattern);
    qr_writer_printf(writer, "%s\n", pattern);
}

static int64_t
store_pattern(const struct text_target *target, const char *text, size_t length)
{
    (void)target;
    return core_pattern_set(text, length);
}

static uint64_t
get_uses_pid(void)
{
    return atomic_load(&core_uses_pid);
}

static void
set_uses_pid(uint64_t value)
{
    atomic_store(&core_uses_pid, value);
}

static const struct text_node pattern_nodes[] = {
    {.name = "core_pattern",
     .mode = 0644,
     .show = show_pattern,
     .store = store_pattern,
     .only_first = true},
};

static const struct proc_number numbers[] = {
    PROC_NUMBER("core_uses_pid", 0, INT32_MAX, uses_pid),
};

bool
proc_core_add(struct dentry *kernel)
{
    return text_nodes_add(kernel, pattern_nodes, QR_ARRAY_COUNT(pattern_nodes)) &&
           proc_numbers_add(kernel, numbers, QR_ARRAY_COUNT(numbers));
}
