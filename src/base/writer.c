/* SPDX-License-Identifier: MIT */
/*
 * Text output without a libc.
 *
 * One formatter, qr_writer_vprintf(), parses a conversion into a small struct,
 * renders the digits into a buffer on the stack, and emits padding and text in
 * pieces.  Nothing is allocated and nothing fails, so a report can be written
 * from a panic.
 */
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include <quire/writer.h>

enum length { LENGTH_CHAR, LENGTH_SHORT, LENGTH_INT, LENGTH_LONG, LENGTH_LONG_LONG, LENGTH_SIZE };

struct conversion {
    bool left;
    bool zero;
    int width;
    int precision; /* -1: none given */
    enum length length;
    char kind;
};

enum { PADDING_BYTES = 16 };

/* @of: PADDING_BYTES times the same character. */
static void
emit_repeated(struct qr_writer *writer, const char *of, int count)
{
    for (; count > 0; count -= PADDING_BYTES)
        writer->emit(writer, of, (size_t)(count < PADDING_BYTES ? count : PADDING_BYTES));
}

static const char blanks[] = "                ", zeroes[] = "0000000000000000";

static void
emit_padded(struct qr_writer *writer, const struct conversion *conversion, const char *text,
            int bytes)
{
    int padding = conversion->width > bytes ? conversion->width - bytes : 0;

    if (!conversion->left)
        emit_repeated(writer, blanks, padding);
    writer->emit(writer, text, (size_t)bytes);
    if (conversion->left)
        emit_repeated(writer, blanks, padding);
}

/* The digits of @value, none for 0, before @end. @return the first */
static char *
digits_before(char *end, uint64_t value, char kind)
{
    const char *digit_set = kind == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";

    if (kind != 'x' && kind != 'X' && kind != 'p') {
        for (; value > UINT32_MAX; value /= 10)
            *--end = (char)('0' + value % 10);
        for (uint32_t rest = (uint32_t)value; rest != 0; rest /= 10)
            *--end = (char)('0' + rest % 10);
        return end;
    }
    for (; value != 0; value >>= 4)
        *--end = digit_set[value & 15];
    return end;
}

static void
emit_number(struct qr_writer *writer, const struct conversion *conversion, uint64_t value,
            bool negative)
{
    char digits[24];
    char *end = digits + sizeof(digits), *first = digits_before(end, value, conversion->kind);
    int count = (int)(end - first);
    int least = conversion->precision >= 0 ? conversion->precision : 1;
    const char *prefix = negative ? "-" : conversion->kind == 'p' ? "0x" : "";
    int prefix_bytes = negative ? 1 : conversion->kind == 'p' ? 2 : 0;

    if (conversion->zero && !conversion->left && conversion->precision < 0 &&
        conversion->width - prefix_bytes > least)
        least = conversion->width - prefix_bytes;
    int zeros = least > count ? least - count : 0;
    int padding = conversion->width - prefix_bytes - zeros - count;

    if (!conversion->left)
        emit_repeated(writer, blanks, padding);
    if (prefix_bytes > 0)
        writer->emit(writer, prefix, (size_t)prefix_bytes);
    emit_repeated(writer, zeroes, zeros);
    writer->emit(writer, first, (size_t)count);
    if (conversion->left)
        emit_repeated(writer, blanks, padding);
}

static const char *
parse_length(const char *at, enum length *out_length)
{
    *out_length = LENGTH_INT;
    if (at[0] == 'z') {
        *out_length = LENGTH_SIZE;
        return at + 1;
    }
    if (at[0] == 'l') {
        *out_length = at[1] == 'l' ? LENGTH_LONG_LONG : LENGTH_LONG;
        return at[1] == 'l' ? at + 2 : at + 1;
    }
    if (at[0] == 'h') {
        *out_length = at[1] == 'h' ? LENGTH_CHAR : LENGTH_SHORT;
        return at[1] == 'h' ? at + 2 : at + 1;
    }
    return at;
}

static const char *
parse_count(const char *at, int *out_count)
{
    int count = 0;

    while (*at >= '0' && *at <= '9') {
        if (count < INT_MAX / 16)
            count = count * 10 + (*at - '0');
        at++;
    }
    *out_count = count;
    return at;
}

static int
text_bytes(const char *text, int most)
{
    int bytes = 0;

    while ((most < 0 || bytes < most) && text[bytes] != '\0')
        bytes++;
    return bytes;
}

/* A va_list inside a struct can be handed on by pointer on every ABI. */
struct arguments {
    va_list list;
};

static int64_t
take_signed(struct arguments *arguments, enum length length)
{
    switch (length) {
    case LENGTH_CHAR:
        return (signed char)va_arg(arguments->list, int);
    case LENGTH_SHORT:
        return (short)va_arg(arguments->list, int);
    case LENGTH_INT:
        return va_arg(arguments->list, int);
    case LENGTH_LONG:
        return va_arg(arguments->list, long);
    case LENGTH_LONG_LONG:
        return va_arg(arguments->list, long long);
    case LENGTH_SIZE:
        return (int64_t)va_arg(arguments->list, size_t);
    }
    return 0;
}

static uint64_t
take_unsigned(struct arguments *arguments, enum length length)
{
    switch (length) {
    case LENGTH_CHAR:
        return (unsigned char)va_arg(arguments->list, unsigned);
    case LENGTH_SHORT:
        return (unsigned short)va_arg(arguments->list, unsigned);
    case LENGTH_INT:
        return va_arg(arguments->list, unsigned);
    case LENGTH_LONG:
        return va_arg(arguments->list, unsigned long);
    case LENGTH_LONG_LONG:
        return va_arg(arguments->list, unsigned long long);
    case LENGTH_SIZE:
        return va_arg(arguments->list, size_t);
    }
    return 0;
}

/* @return false where the kind is unknown; nothing was taken or written then */
static bool
emit_conversion(struct qr_writer *writer, const struct conversion *conversion,
                struct arguments *arguments)
{
    switch (conversion->kind) {
    case 'd':
    case 'i': {
        int64_t value = take_signed(arguments, conversion->length);
        uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

        emit_number(writer, conversion, magnitude, value < 0);
        return true;
    }
    case 'u':
    case 'x':
    case 'X':
        emit_number(writer, conversion, take_unsigned(arguments, conversion->length), false);
        return true;
    case 'p':
        emit_number(writer, conversion, (uintptr_t)va_arg(arguments->list, void *), false);
        return true;
    case 'c': {
        char c = (char)va_arg(arguments->list, int);

        emit_padded(writer, conversion, &c, 1);
        return true;
    }
    case 's': {
        const char *text = va_arg(arguments->list, const char *);

        if (text == NULL)
            text = "(null)";
        emit_padded(writer, conversion, text, text_bytes(text, conversion->precision));
        return true;
    }
    case '%':
        writer->emit(writer, "%", 1);
        return true;
    default:
        return false;
    }
}

static const char *
parse_conversion(const char *at, struct conversion *conversion, struct arguments *arguments)
{
    *conversion = (struct conversion){.precision = -1};
    for (;; at++) {
        if (*at == '-')
            conversion->left = true;
        else if (*at == '0')
            conversion->zero = true;
        else
            break;
    }
    if (*at == '*') {
        conversion->width = va_arg(arguments->list, int);
        at++;
    } else {
        at = parse_count(at, &conversion->width);
    }
    if (*at == '.' && at[1] == '*') {
        conversion->precision = va_arg(arguments->list, int);
        at += 2;
    } else if (*at == '.') {
        at = parse_count(at + 1, &conversion->precision);
    }
    at = parse_length(at, &conversion->length);
    conversion->kind = *at;
    return at;
}

void
qr_writer_vprintf(struct qr_writer *writer, const char *format, va_list list)
{
    struct arguments arguments;

    va_copy(arguments.list, list);
    while (*format != '\0') {
        const char *plain = format;

        while (*format != '\0' && *format != '%')
            format++;
        if (format != plain)
            writer->emit(writer, plain, (size_t)(format - plain));
        if (*format == '\0')
            break;

        struct conversion conversion;
        const char *last = parse_conversion(format + 1, &conversion, &arguments);

        if (*last == '\0' || !emit_conversion(writer, &conversion, &arguments)) {
            writer->emit(writer, format, (size_t)(last - format) + (*last != '\0'));
            format = *last == '\0' ? last : last + 1;
            continue;
        }
        format = last + 1;
    }
    va_end(arguments.list);
}

void
qr_writer_printf(struct qr_writer *writer, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    qr_writer_vprintf(writer, format, arguments);
    va_end(arguments);
}

static void
buffer_emit(struct qr_writer *base, const char *text, size_t bytes)
{
    struct qr_buffer_writer *writer = qr_container_of(base, struct qr_buffer_writer, writer);

    if (writer->length < writer->capacity) {
        size_t room = writer->capacity - 1 - writer->length, kept = bytes < room ? bytes : room;

        __builtin_memcpy(writer->buffer + writer->length, text, kept);
        writer->buffer[writer->length + kept] = '\0';
    }
    writer->length += bytes;
}

void
qr_buffer_writer_init(struct qr_buffer_writer *writer, char *buffer, size_t capacity)
{
    writer->writer.emit = buffer_emit;
    writer->buffer = buffer;
    writer->capacity = capacity;
    writer->length = 0;
    buffer[0] = '\0';
}

size_t
qr_format(char *buffer, size_t capacity, const char *format, ...)
{
    struct qr_buffer_writer writer;
    va_list arguments;

    qr_buffer_writer_init(&writer, buffer, capacity);
    va_start(arguments, format);
    qr_writer_vprintf(&writer.writer, format, arguments);
    va_end(arguments);
    return writer.length;
}
