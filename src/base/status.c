/* SPDX-License-Identifier: MIT */
#include <quire/status.h>

/*
 * Names for reports and test output.  A switch without default, so that the
 * compiler asks for the name of every new status.
 */

const char *
qr_status_name(enum qr_status status)
{
    switch (status) {
    case QR_OK:
        return "OK";
    case QR_ERR_NO_MEMORY:
        return "NO_MEMORY";
    case QR_ERR_INVALID:
        return "INVALID";
    case QR_ERR_RANGE:
        return "RANGE";
    case QR_ERR_EXISTS:
        return "EXISTS";
    case QR_ERR_NOT_FOUND:
        return "NOT_FOUND";
    case QR_ERR_ACCESS:
        return "ACCESS";
    case QR_ERR_LIMIT:
        return "LIMIT";
    case QR_ERR_BUSY:
        return "BUSY";
    case QR_ERR_AGAIN:
        return "AGAIN";
    case QR_ERR_FAULT:
        return "FAULT";
    case QR_ERR_IO:
        return "IO";
    case QR_ERR_INTERRUPTED:
        return "INTERRUPTED";
    case QR_ERR_UNSUPPORTED:
        return "UNSUPPORTED";
    case QR_ERR_SEALED:
        return "SEALED";
    }
    return "UNKNOWN";
}
