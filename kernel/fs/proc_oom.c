/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID/cgroup, oom_score and oom_score_adj: whom memory is taken from when there is none left.
 */
#include "cgroup.h"
#include "oom.h"
#include "proc.h"
#include "proc_pid.h"
#include "text.h"

enum { CAP_SYS_RESOURCE = 24 };

void
proc_show_oom_score(const struct text_target *target, struct qr_writer *writer)
{
    qr_writer_printf(writer, "%ld\n", oom_score(target->process));
}

void
proc_show_oom_score_adj(const struct text_target *target, struct qr_writer *writer)
{
    qr_writer_printf(writer, "%d\n", target->process->oom_adjustment);
}

void
proc_show_cgroup(const struct text_target *target, struct qr_writer *writer)
{
    qr_writer_printf(writer, "0::");
    cgroup_write_path(target->process, writer);
    qr_writer_printf(writer, "\n");
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

/* A number from -OOM_ADJUSTMENT_MAX to OOM_ADJUSTMENT_MAX, alone but for blanks. */
static int64_t
adjustment_parse(const char *text, size_t length, int16_t *out)
{
    size_t at = 0, digits;
    uint64_t value;
    bool negative;

    while (at < length && is_blank(text[at])) {
        at++;
    }
    negative = at < length && text[at] == '-';
    at += negative;
    digits = decimal_parse(text + at, length - at, &value);
    if (digits == 0 || value > OOM_ADJUSTMENT_MAX) {
        return -EINVAL;
    }
    at += digits;
    while (at < length && is_blank(text[at])) {
        at++;
    }
    *out = (int16_t)(negative ? -(int)value : (int)value);
    return at == length ? 0 : -EINVAL;
}

int64_t
proc_store_oom_score_adj(const struct text_target *target, const char *text, size_t length)
{
    bool may_lower = process_has_capability(CAP_SYS_RESOURCE);
    struct process *process = target->process;
    int16_t adjustment;
    int64_t error = adjustment_parse(text, length, &adjustment);

    if (error != 0) {
        return error;
    }
    process_tree_lock();
    if (adjustment < process->oom_adjustment_min && !may_lower) {
        error = -EACCES;
    } else {
        process->oom_adjustment = adjustment;
        if (may_lower) {
            process->oom_adjustment_min = adjustment;
        }
    }
    process_tree_unlock();
    return error;
}
