/* SPDX-License-Identifier: MIT */
/*
 * The "newc" archive format, as an initramfs brings it.
 *
 *   +--------------------+---------------+-----+-------------+-----+
 *   | "070701" 13 x 8 hex| name ... '\0' | pad | data        | pad |  next member
 *   +--------------------+---------------+-----+-------------+-----+
 *   0                   110                   ^4            ^4  (padding counts from the start)
 *
 * The archive is untrusted: whoever started the machine chose it, and it may have been
 * cut short.  So every length is compared with what is left before it is used, by
 * subtraction, which cannot overflow.  The reader only ever moves forward by at least one
 * header, which bounds the caller's loop by the length of the archive.
 *
 * Pure: no memory, no kernel; tests and the fuzzer run it hosted.
 */

#include "cpio.h"

#include <stdbool.h>

enum { CPIO_HEADER_BYTES = 110, CPIO_FIELDS = 13, CPIO_ALIGN = 4 };

/* Order of the fields behind the magic number. */
enum {
    FIELD_INODE,
    FIELD_MODE,
    FIELD_UID,
    FIELD_GID,
    FIELD_LINKS,
    FIELD_MTIME,
    FIELD_FILE_BYTES,
    FIELD_MAJOR,
    FIELD_MINOR,
    FIELD_RMAJOR,
    FIELD_RMINOR,
    FIELD_NAME_BYTES,
    FIELD_CHECK
};

void
cpio_init(struct cpio_reader *reader, const void *data, size_t bytes)
{
    reader->data = data;
    reader->bytes = data == NULL ? 0 : bytes;
    reader->at = 0;
}

static bool
hex_parse(const uint8_t *text, uint32_t *out_value)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < 8; i++) {
        uint8_t c = text[i];
        uint32_t digit;

        if (c >= '0' && c <= '9') {
            digit = c - '0';
        } else if (c >= 'a' && c <= 'f') {
            digit = c - 'a' + 10u;
        } else if (c >= 'A' && c <= 'F') {
            digit = c - 'A' + 10u;
        } else {
            return false;
        }
        value = value << 4 | digit;
    }
    *out_value = value;
    return true;
}

static bool
header_parse(const uint8_t *header, uint32_t fields[CPIO_FIELDS])
{
    static const char magic[] = "07070";

    for (unsigned i = 0; i < 5; i++) {
        if (header[i] != (uint8_t)magic[i]) {
            return false;
        }
    }
    if (header[5] != '1' && header[5] != '2') {
        return false;
    }
    for (unsigned i = 0; i < CPIO_FIELDS; i++) {
        if (!hex_parse(header + 6 + 8 * i, &fields[i])) {
            return false;
        }
    }
    return true;
}

/* Bytes from @at to the next multiple of four, no more than are left. */
static size_t
padding_at(const struct cpio_reader *reader, size_t at)
{
    size_t pad = (CPIO_ALIGN - at % CPIO_ALIGN) % CPIO_ALIGN;
    size_t left = reader->bytes - at;

    return pad < left ? pad : left;
}

static bool
name_is_sound(const uint8_t *name, size_t bytes)
{
    if (bytes < 2 || bytes > CPIO_NAME_MAX + 1 || name[bytes - 1] != '\0') {
        return false;
    }
    for (size_t i = 0; i + 1 < bytes; i++) {
        if (name[i] == '\0') {
            return false;
        }
    }
    return true;
}

static bool
name_is_trailer(const char *name, size_t bytes)
{
    static const char trailer[] = "TRAILER!!!";

    if (bytes != sizeof trailer) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (name[i] != trailer[i]) {
            return false;
        }
    }
    return true;
}

/* Archives in a row are padded to a block with zero bytes. */
static void
zeros_skip(struct cpio_reader *reader)
{
    while (reader->at < reader->bytes && reader->data[reader->at] == 0) {
        reader->at++;
    }
}

enum cpio_result
cpio_next(struct cpio_reader *reader, struct cpio_entry *out_entry)
{
    uint32_t fields[CPIO_FIELDS];

    zeros_skip(reader);
    if (reader->at == reader->bytes) {
        return CPIO_END;
    }

    size_t at = reader->at;
    if (reader->bytes - at < CPIO_HEADER_BYTES || !header_parse(reader->data + at, fields)) {
        return CPIO_DAMAGED;
    }
    at += CPIO_HEADER_BYTES;

    size_t name_bytes = fields[FIELD_NAME_BYTES];
    const uint8_t *name = reader->data + at;
    if (name_bytes > reader->bytes - at || !name_is_sound(name, name_bytes)) {
        return CPIO_DAMAGED;
    }
    at += name_bytes;
    at += padding_at(reader, at);

    size_t data_bytes = fields[FIELD_FILE_BYTES];
    if (data_bytes > reader->bytes - at) {
        return CPIO_DAMAGED;
    }
    const uint8_t *data = reader->data + at;
    at += data_bytes;
    at += padding_at(reader, at);
    reader->at = at;

    if (name_is_trailer((const char *)name, name_bytes)) {
        return CPIO_MARK;
    }
    *out_entry = (struct cpio_entry){
        .name = (const char *)name,
        .name_bytes = name_bytes - 1,
        .data = data,
        .data_bytes = fields[FIELD_FILE_BYTES],
        .inode = fields[FIELD_INODE],
        .mode = fields[FIELD_MODE],
        .uid = fields[FIELD_UID],
        .gid = fields[FIELD_GID],
        .links = fields[FIELD_LINKS],
        .mtime = fields[FIELD_MTIME],
        .device_major = fields[FIELD_MAJOR],
        .device_minor = fields[FIELD_MINOR],
        .rdev_major = fields[FIELD_RMAJOR],
        .rdev_minor = fields[FIELD_RMINOR],
    };
    return CPIO_ENTRY;
}
