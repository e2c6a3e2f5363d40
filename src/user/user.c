/* SPDX-License-Identifier: MIT */
/*
 * User copies: the range check, and what is built on the CPU's four primitives.
 *
 * The CPU back-end moves bytes and survives faults; here every range is held
 * against the end of the user half first, so that no user pointer ever reaches
 * kernel memory (invariants 20).  A range that only begins in the user half is
 * refused whole: no program can mean it.
 *
 * Strings are copied before they are looked at: the bytes are fetched once, and
 * what is judged is what is kept (invariants 22).  They are fetched in pieces
 * that end at page ends, so that a string which ends just before an unmapped page
 * is read without touching it.
 */
#include <quire/arch.h>
#include <quire/user.h>

static bool
user_range_ok(qr_va va, size_t bytes)
{
    return qr_user_range_is_valid(va.v, bytes, qr_port_user_end());
}

size_t
qr_copy_from_user(void *to, qr_va from, size_t bytes)
{
    return user_range_ok(from, bytes) ? qr_arch_copy_from_user(to, from, bytes) : bytes;
}

size_t
qr_copy_to_user(qr_va to, const void *from, size_t bytes)
{
    return user_range_ok(to, bytes) ? qr_arch_copy_to_user(to, from, bytes) : bytes;
}

size_t
qr_clear_user(qr_va to, size_t bytes)
{
    return user_range_ok(to, bytes) ? qr_arch_clear_user(to, bytes) : bytes;
}

/* Bytes from @va to the end of its page, at most @limit and at most what the user half has. */
static size_t
string_piece(qr_va va, size_t limit)
{
    uintptr_t user_end = qr_port_user_end();
    size_t piece = QR_PAGE_SIZE - (va.v & QR_PAGE_MASK);

    if (piece > limit)
        piece = limit;
    if (va.v >= user_end)
        return 0;
    return piece > user_end - va.v ? user_end - va.v : piece;
}

/* Where the terminator is among @bytes of @text; @bytes where there is none. */
static size_t
string_end(const char *text, size_t bytes)
{
    size_t length = 0;

    while (length < bytes && text[length] != '\0')
        length++;
    return length;
}

enum qr_status
qr_strncpy_from_user(char *to, qr_va from, size_t capacity, size_t *out_length)
{
    size_t done = 0;

    while (done < capacity) {
        qr_va at = qr_va_of(from.v + done);
        size_t piece = string_piece(at, capacity - done);
        size_t copied = piece - qr_arch_copy_from_user(to + done, at, piece);
        size_t length = string_end(to + done, copied);

        if (length < copied) {
            *out_length = done + length;
            return QR_OK;
        }
        if (copied < piece || piece == 0)
            return QR_ERR_FAULT;
        done += piece;
    }
    return QR_ERR_LIMIT;
}

enum qr_status
qr_strnlen_user(qr_va from, size_t limit, size_t *out_length)
{
    char buffer[64];
    size_t done = 0;

    while (done < limit) {
        size_t most = limit - done < sizeof(buffer) ? limit - done : sizeof(buffer);
        qr_va at = qr_va_of(from.v + done);
        size_t piece = string_piece(at, most);
        size_t copied = piece - qr_arch_copy_from_user(buffer, at, piece);
        size_t length = string_end(buffer, copied);

        if (length < copied) {
            *out_length = done + length;
            return QR_OK;
        }
        if (copied < piece || piece == 0)
            return QR_ERR_FAULT;
        done += piece;
    }
    return QR_ERR_LIMIT;
}

enum qr_status
qr_get_user_u32(qr_va from, uint32_t *out_value)
{
    uint32_t value;

    if (qr_copy_from_user(&value, from, sizeof(value)) != 0)
        return QR_ERR_FAULT;
    *out_value = value;
    return QR_OK;
}

enum qr_status
qr_get_user_u64(qr_va from, uint64_t *out_value)
{
    uint64_t value;

    if (qr_copy_from_user(&value, from, sizeof(value)) != 0)
        return QR_ERR_FAULT;
    *out_value = value;
    return QR_OK;
}

enum qr_status
qr_put_user_u32(qr_va to, uint32_t value)
{
    return qr_copy_to_user(to, &value, sizeof(value)) == 0 ? QR_OK : QR_ERR_FAULT;
}

enum qr_status
qr_put_user_u64(qr_va to, uint64_t value)
{
    return qr_copy_to_user(to, &value, sizeof(value)) == 0 ? QR_OK : QR_ERR_FAULT;
}

enum qr_status
qr_cas_user_u32(qr_va at, uint32_t expected, uint32_t desired, uint32_t *out_old)
{
    if ((at.v & 3) != 0)
        return QR_ERR_INVALID;
    if (!user_range_ok(at, sizeof(uint32_t)))
        return QR_ERR_FAULT;
    return qr_arch_user_cas32(at, expected, desired, out_old) ? QR_OK : QR_ERR_FAULT;
}
