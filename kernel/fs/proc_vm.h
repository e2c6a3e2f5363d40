/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_PROC_VM_H
#define KERNEL_FS_PROC_VM_H

#include "text.h"

/** A number of /proc/sys that acts: what is none within its limits is EINVAL and changes nothing. */
struct proc_number {
    struct text_node node; /* first; its functions are the two below */
    uint64_t least, most;
    uint64_t (*get)(void);
    void (*set)(uint64_t value);
};

void proc_number_show(const struct text_target *target, struct qr_writer *writer);
int64_t proc_number_store(const struct text_target *target, const char *text, size_t length);
/** A row: `get_ID` and `set_ID` are its functions. */
#define PROC_NUMBER(text, from, to, id)      \
    {                                        \
        {.name = (text),                     \
         .mode = 0644,                       \
         .show = proc_number_show,           \
         .store = proc_number_store,         \
         .only_first = true},                \
            (from), (to), get_##id, set_##id \
    }
/** T held for writing. @return false without memory */
bool proc_numbers_add(struct dentry *directory, const struct proc_number *numbers, size_t count);

/** Add the nodes of /proc/sys/vm that belong to no other file. T held for writing. */
bool proc_vm_add(struct dentry *vm);
/** core_pattern and core_uses_pid of /proc/sys/kernel. T held for writing. */
bool proc_core_add(struct dentry *kernel);
/**
 * The first number of a text, in C's three bases; blanks may be around it, and whatever else behind them.
 * @return the bytes that it takes with the blanks; -EINVAL: none from @least to @most
 */
int64_t proc_number_parse(const char *text, size_t length, uint64_t least, uint64_t most,
                          uint64_t *out);
/** The digits at @text. @return the bytes they take; 0: none, or more than @most */
size_t proc_digits_parse(const char *text, size_t length, uint64_t most, uint64_t *out);
/** /proc/sys/fs. T held for writing. */
bool proc_fs_add(struct dentry *fs);

#endif
