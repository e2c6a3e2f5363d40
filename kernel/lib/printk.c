/* SPDX-License-Identifier: MIT */
/*
 * Formatted text, and the log.
 *
 * One pass over the format; each conversion makes its digits or characters in a
 * small buffer and field_put() adds what width, precision and flags ask for.
 * Output beyond the buffer is counted but not stored.
 */
#include <stdbool.h>
#include <stdint.h>

#include <arch.h>
#include <kstring.h>
#include <printk.h>

#define LINE_BYTES 1024

struct output {
    char *buffer;
    size_t size;
    size_t length; /* what it would be without the bound */
};

struct conversion {
    bool left, plus, space, alternate, zero;
    int width;
    int precision; /* -1: none */
    int size;      /* bytes of an integer argument */
};

static void
put(struct output *out, char c)
{
    if (out->length + 1 < out->size)
        out->buffer[out->length] = c;
    out->length++;
}

static void
put_many(struct output *out, char c, int count)
{
    while (count-- > 0)
        put(out, c);
}

/** prefix (sign or 0x), zeros up to the precision, text; padded to the width. */
static void
field_put(struct output *out, const struct conversion *conv, const char *prefix, int zeros,
          const char *text, int length)
{
    int pad = conv->width - (int)strlen(prefix) - zeros - length;

    if (!conv->left && !conv->zero)
        put_many(out, ' ', pad);
    while (*prefix != '\0')
        put(out, *prefix++);
    if (!conv->left && conv->zero)
        put_many(out, '0', pad);
    put_many(out, '0', zeros);
    for (int i = 0; i < length; i++)
        put(out, text[i]);
    if (conv->left)
        put_many(out, ' ', pad);
}

static void
number_put(struct output *out, struct conversion *conv, uint64_t value, unsigned base, bool upper,
           const char *prefix)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char text[24];
    int at = sizeof text;
    int length;

    for (; value != 0; value /= base)
        text[--at] = digits[value % base];
    if (at == sizeof text && conv->precision != 0)
        text[--at] = '0';
    length = (int)sizeof text - at;
    if (conv->precision >= 0)
        conv->zero = false;
    field_put(out, conv, prefix, conv->precision > length ? conv->precision - length : 0, text + at,
              length);
}

static int64_t
signed_argument(int size, va_list *arguments)
{
    switch (size) {
    case 1:
        return (signed char)va_arg(*arguments, int);
    case 2:
        return (short)va_arg(*arguments, int);
    case 4:
        return va_arg(*arguments, int);
    default:
        return va_arg(*arguments, long long);
    }
}

static uint64_t
unsigned_argument(int size, va_list *arguments)
{
    switch (size) {
    case 1:
        return (unsigned char)va_arg(*arguments, int);
    case 2:
        return (unsigned short)va_arg(*arguments, int);
    case 4:
        return va_arg(*arguments, unsigned);
    default:
        return va_arg(*arguments, unsigned long long);
    }
}

static const char *
parse_number(const char *format, int *out_value, va_list *arguments)
{
    int value = 0;

    if (*format == '*') {
        *out_value = va_arg(*arguments, int);
        return format + 1;
    }
    for (; *format >= '0' && *format <= '9'; format++)
        value = value < 100000 ? value * 10 + (*format - '0') : value;
    *out_value = value;
    return format;
}

static const char *
parse_flags(const char *format, struct conversion *conv)
{
    for (;; format++) {
        switch (*format) {
        case '-':
            conv->left = true;
            break;
        case '+':
            conv->plus = true;
            break;
        case ' ':
            conv->space = true;
            break;
        case '#':
            conv->alternate = true;
            break;
        case '0':
            conv->zero = true;
            break;
        default:
            return format;
        }
    }
}

static const char *
parse_conversion(const char *format, struct conversion *conv, va_list *arguments)
{
    *conv = (struct conversion){.precision = -1, .size = sizeof(int)};
    format = parse_flags(format, conv);
    format = parse_number(format, &conv->width, arguments);
    if (conv->width < 0) {
        conv->left = true;
        conv->width = -conv->width;
    }
    if (*format == '.')
        format = parse_number(format + 1, &conv->precision, arguments);
    for (;; format++) {
        if (*format == 'l')
            conv->size = conv->size == 4 && sizeof(long) == 4 ? 5 : 8; /* l, then ll */
        else if (*format == 'z' || *format == 't' || *format == 'j')
            conv->size = *format == 'j' ? 8 : (int)sizeof(size_t);
        else if (*format == 'h')
            conv->size = conv->size == 2 ? 1 : 2;
        else
            break;
    }
    if (conv->size == 5)
        conv->size = 4;
    return format;
}

static void
string_put(struct output *out, const struct conversion *conv, const char *text)
{
    struct conversion plain = *conv;
    size_t limit = conv->precision >= 0 ? (size_t)conv->precision : SIZE_MAX;

    plain.zero = false;
    text = text ? text : "(null)";
    field_put(out, &plain, "", 0, text, (int)strnlen(text, limit));
}

static void
convert(struct output *out, char kind, struct conversion *conv, va_list *arguments)
{
    char c;

    switch (kind) {
    case 'd':
    case 'i': {
        int64_t value = signed_argument(conv->size, arguments);
        uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

        number_put(out, conv, magnitude, 10, false,
                   value < 0     ? "-"
                   : conv->plus  ? "+"
                   : conv->space ? " "
                                 : "");
        break;
    }
    case 'u':
        number_put(out, conv, unsigned_argument(conv->size, arguments), 10, false, "");
        break;
    case 'o':
        number_put(out, conv, unsigned_argument(conv->size, arguments), 8, false,
                   conv->alternate ? "0" : "");
        break;
    case 'x':
    case 'X':
        number_put(out, conv, unsigned_argument(conv->size, arguments), 16, kind == 'X',
                   conv->alternate ? "0x" : "");
        break;
    case 'p':
        number_put(out, conv, (uintptr_t)va_arg(*arguments, void *), 16, false, "0x");
        break;
    case 's':
        string_put(out, conv, va_arg(*arguments, const char *));
        break;
    case 'c':
        c = (char)va_arg(*arguments, int);
        conv->zero = false;
        field_put(out, conv, "", 0, &c, 1);
        break;
    default:
        put(out, kind);
        break;
    }
}

int
vsnprintf(char *buffer, size_t size, const char *format, va_list arguments)
{
    struct output out = {buffer, size, 0};
    va_list copy; /* a va_list parameter may be an array: only a local's address is a va_list * */

    va_copy(copy, arguments);
    while (*format != '\0') {
        struct conversion conv;

        if (*format != '%') {
            put(&out, *format++);
            continue;
        }
        format = parse_conversion(format + 1, &conv, &copy);
        if (*format == '\0')
            break;
        convert(&out, *format++, &conv, &copy);
    }
    va_end(copy);
    if (size > 0)
        buffer[out.length < size ? out.length : size - 1] = '\0';
    return (int)out.length;
}

int
snprintf(char *buffer, size_t size, const char *format, ...)
{
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(buffer, size, format, arguments);
    va_end(arguments);
    return length;
}

void
printk(const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    log_write(line, length < LINE_BYTES ? (size_t)length : LINE_BYTES - 1);
}
