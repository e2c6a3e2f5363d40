/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID/fdinfo/N: where an open file stands, and what its kind has to say (file_ops.describe).
 */
#include "fd_table.h"
#include "proc.h"
#include "proc_pid.h"
#include "text.h"

/* With a leading 0, as C has it. */
static void
octal_number_write(struct qr_writer *writer, uint32_t value)
{
    char digits[12];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + (value & 7));
        value >>= 3;
    } while (value != 0);
    digits[--at] = '0';
    writer->emit(writer, digits + at, sizeof digits - at);
}

void
proc_show_fdinfo(const struct text_target *target, struct qr_writer *writer)
{
    int fd = (int)target->inode->key_more;
    struct fd_table *files = process_files(target->process);
    struct file *file = files == NULL ? NULL : fd_table_get(files, fd);

    if (file != NULL) {
        /* Whoever reads the file now holds P; a torn read on 32 bits shows a mixed position at worst. */
        qr_writer_printf(writer, "pos:\t%llu\nflags:\t", (unsigned long long)file->position);
        octal_number_write(writer, atomic_load(&file->flags) |
                                       (fd_table_get_cloexec(files, fd) > 0 ? O_CLOEXEC : 0));
        qr_writer_printf(writer, "\nmnt_id:\t%u\nino:\t%llu\n",
                         DEV_MINOR(file->dentry->superblock->device),
                         (unsigned long long)file->inode->number);
        if (file->ops->describe != NULL) {
            file->ops->describe(file, writer);
        }
        file_put(file);
    }
    if (files != NULL) {
        fd_table_put(files);
    }
}
