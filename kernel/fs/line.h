/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_LINE_H
#define KERNEL_FS_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The line discipline: what stands between a terminal line and its reader.
 * See line.c.  Not locked: the terminal that owns it does that.
 */

/* Input modes. */
#define ISTRIP  0x0020u
#define INLCR   0x0040u
#define IGNCR   0x0080u
#define ICRNL   0x0100u
#define IUCLC   0x0200u
#define IXON    0x0400u
#define IXANY   0x0800u
#define IMAXBEL 0x2000u
#define IUTF8   0x4000u

/* Output modes. */
#define OPOST  0x0001u
#define OLCUC  0x0002u
#define ONLCR  0x0004u
#define OCRNL  0x0008u
#define ONOCR  0x0010u
#define ONLRET 0x0020u
#define TABDLY 0x1800u
#define XTABS  0x1800u

/* Control modes: only kept, the emulated line has no speed. */
#define CBAUD_115200 0x1002u
#define CS8          0x0030u
#define CREAD        0x0080u
#define HUPCL        0x0400u
#define CLOCAL       0x0800u

/* Local modes. */
#define ISIG    0x0001u
#define ICANON  0x0002u
#define ECHO    0x0008u
#define ECHOE   0x0010u
#define ECHOK   0x0020u
#define ECHONL  0x0040u
#define NOFLSH  0x0080u
#define TOSTOP  0x0100u
#define ECHOCTL 0x0200u
#define ECHOKE  0x0800u
#define IEXTEN  0x8000u

enum line_control {
    VINTR,
    VQUIT,
    VERASE,
    VKILL,
    VEOF,
    VTIME,
    VMIN,
    VSWTC,
    VSTART,
    VSTOP,
    VSUSP,
    VEOL,
    VREPRINT,
    VDISCARD,
    VWERASE,
    VLNEXT,
    VEOL2,
    LINE_CONTROLS = 19
};

/** Linux's kernel struct termios (TCGETS), 36 bytes. */
struct termios {
    uint32_t c_iflag;
    uint32_t c_oflag;
    uint32_t c_cflag;
    uint32_t c_lflag;
    uint8_t c_line;
    uint8_t c_cc[LINE_CONTROLS];
};

enum { LINE_RING_BYTES = 4096 };

struct line {
    struct termios termios;
    /** Send one byte to the wire; set by the owner before line_init(). */
    void (*transmit)(struct line *line, char c);
    uint8_t ring[LINE_RING_BYTES];
    uint8_t ends[LINE_RING_BYTES / 8]; /**< bit set: a line ends with this byte */
    uint32_t tail;                     /**< next byte to read; counters run freely */
    uint32_t ready;                    /**< canonical: end of the last complete line */
    uint32_t head;                     /**< next byte to fill */
    uint32_t column;                   /**< of the cursor */
    uint32_t start_column;             /**< where the line being edited begins */
    bool literal;                      /**< VLNEXT was seen: take the next as it is */
    bool stopped;                      /**< VSTOP was seen: the owner holds output back */
};

/** Signals that input can cause; the numbers are Linux's. */
enum line_signal { LINE_NO_SIGNAL = 0, LINE_SIGINT = 2, LINE_SIGQUIT = 3, LINE_SIGTSTP = 20 };

/** Cooked defaults, empty ring. Keeps `transmit`. */
void line_init(struct line *line);

/** One byte from the wire. @return the signal for the foreground group, or LINE_NO_SIGNAL */
enum line_signal line_receive(struct line *line, uint8_t c);

/** Bytes that a read could return now, line ends counted: 0 means that it would wait. */
size_t line_readable(const struct line *line);

/**
 * Take up to @n bytes; in canonical mode no further than the end of one line.
 * @param out_line_done  set when a line end was met, which also says "return to the reader"
 * @return bytes stored; 0 with *out_line_done is an end of file
 */
size_t line_read(struct line *line, uint8_t *buffer, size_t n, bool *out_line_done);

/** One byte from a writer, output processing applied. */
void line_write(struct line *line, uint8_t c);

/** Adopt new modes; pending input is kept as Linux keeps it. */
void line_set_termios(struct line *line, const struct termios *termios);

/** Forget pending input. */
void line_flush_input(struct line *line);

#endif
