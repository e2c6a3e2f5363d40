/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_WRITER_H
#define QUIRE_WRITER_H

#include <stdarg.h>
#include <stddef.h>

#include <quire/compiler.h>

/**
 * @file
 * A sink for text: what every report is written into.  A host makes one over a
 * buffer, a console or a file; the writers above know none of these.
 */

QR_BEGIN_DECLS

struct qr_writer {
    /** Take @p bytes of @p text. */
    void (*emit)(struct qr_writer *writer, const char *text, size_t bytes);
};

/**
 * printf's %d %i %u %x %X %p %s %c %% with -, 0, width, precision and the lengths hh h l ll z.
 * No floating point.  Never fails; unknown conversions are copied as they stand.
 */
void qr_writer_printf(struct qr_writer *writer, const char *format, ...) QR_PRINTF(2, 3);
void qr_writer_vprintf(struct qr_writer *writer, const char *format, va_list list);

/** A writer over a buffer of its owner: always terminated, excess counted but dropped. */
struct qr_buffer_writer {
    struct qr_writer writer;
    char *buffer;
    size_t capacity; /**< including the terminator; at least 1 */
    size_t length;   /**< what was written or would have been, without the terminator */
};

void qr_buffer_writer_init(struct qr_buffer_writer *writer, char *buffer, size_t capacity);

/** As snprintf, with the conversions of qr_writer_printf(). */
size_t qr_format(char *buffer, size_t capacity, const char *format, ...) QR_PRINTF(3, 4);

QR_END_DECLS

#endif
