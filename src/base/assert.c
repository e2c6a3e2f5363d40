/* SPDX-License-Identifier: MIT */
/*
 * The end of the road for programming errors: the message is built on the stack
 * and handed to the host, which stops the machine.
 */
#include <quire/assert.h>
#include <quire/port.h>
#include <quire/writer.h>

void
qr_panic(const char *format, ...)
{
    char message[320];
    struct qr_buffer_writer writer;
    va_list arguments;

    qr_buffer_writer_init(&writer, message, sizeof(message));
    va_start(arguments, format);
    qr_writer_vprintf(&writer.writer, format, arguments);
    va_end(arguments);
    qr_port_panic(message);
}

void
qr_assert_failed(const char *condition, const char *file, int line)
{
    qr_panic("assertion failed: %s (%s:%d)", condition, file, line);
}
