/* SPDX-License-Identifier: MIT */
/*
 * The line discipline: erase and kill, end of line, signals, echo, output processing.
 *
 * One ring holds what was typed:
 *
 *      tail            ready              head
 *       |  whole lines   |  line in editing |
 *       v                v                  v
 *   ...[ l s \n c a t \n ][ e c h o          ]...
 *                ^     ^ bits in `ends`
 *
 * In canonical mode a reader sees only [tail, ready), one line at a time, and erase goes back
 * no further than `ready`.  In raw mode it sees all of [tail, head).  An end of file (VEOF) is a
 * zero byte with its bit in `ends` set: it ends a line and is not part of it.  A typed zero byte
 * has no bit.
 *
 * Invariants: head - tail <= LINE_RING_BYTES; ready lies in [tail, head]; bits in `ends` are set
 * only for bytes in [tail, ready).
 *
 * Pure: no locks, no memory; the owner's `transmit` is the only way out.
 */

#include "line.h"

enum { BELL = 7, BACKSPACE = 8, TAB_WIDTH = 8, DELETE = 0x7f };

static const struct termios termios_default = {
    .c_iflag = ICRNL | IXON,
    .c_oflag = OPOST | ONLCR,
    .c_cflag = CBAUD_115200 | CS8 | CREAD | HUPCL | CLOCAL,
    .c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
    .c_cc = {[VINTR] = 003,
             [VQUIT] = 034,
             [VERASE] = 0177,
             [VKILL] = 025,
             [VEOF] = 004,
             [VTIME] = 0,
             [VMIN] = 1,
             [VSTART] = 021,
             [VSTOP] = 023,
             [VSUSP] = 032,
             [VREPRINT] = 022,
             [VDISCARD] = 017,
             [VWERASE] = 027,
             [VLNEXT] = 026},
};

static bool
local(const struct line *line, uint32_t flag)
{
    return (line->termios.c_lflag & flag) != 0;
}

static bool
input(const struct line *line, uint32_t flag)
{
    return (line->termios.c_iflag & flag) != 0;
}

/* Whether @c is the control character @which; zero disables a control character. */
static bool
is_control(const struct line *line, uint8_t c, enum line_control which)
{
    return c != 0 && line->termios.c_cc[which] == c;
}

/* ---- the ring ------------------------------------------------------------- */

static uint8_t
ring_at(const struct line *line, uint32_t position)
{
    return line->ring[position % LINE_RING_BYTES];
}

static bool
end_at(const struct line *line, uint32_t position)
{
    uint32_t bit = position % LINE_RING_BYTES;

    return (line->ends[bit / 8] >> bit % 8 & 1) != 0;
}

static void
end_set(struct line *line, uint32_t position, bool on)
{
    uint32_t bit = position % LINE_RING_BYTES;
    uint8_t mask = (uint8_t)(1u << bit % 8);

    if (on) {
        line->ends[bit / 8] |= mask;
    } else {
        line->ends[bit / 8] &= (uint8_t)~mask;
    }
}

static void
ring_push(struct line *line, uint8_t c, bool is_end)
{
    line->ring[line->head % LINE_RING_BYTES] = c;
    end_set(line, line->head, is_end);
    line->head++;
    if (is_end || !local(line, ICANON)) {
        line->ready = line->head;
    }
}

void
line_flush_input(struct line *line)
{
    line->tail = line->ready = line->head;
    line->literal = false;
}

/* ---- output ------------------------------------------------------------------ */

static void
column_advance(struct line *line, uint8_t c)
{
    if (c == '\r') {
        line->column = 0;
    } else if (c == BACKSPACE) {
        line->column -= line->column > 0;
    } else if (c == '\t') {
        line->column += TAB_WIDTH - line->column % TAB_WIDTH;
    } else if (c >= ' ' && c != DELETE && (!input(line, IUTF8) || (c & 0xc0) != 0x80)) {
        line->column++;
    }
}

static void
transmit(struct line *line, uint8_t c)
{
    column_advance(line, c);
    line->transmit(line, (char)c);
}

static void
transmit_tab(struct line *line)
{
    if ((line->termios.c_oflag & TABDLY) != XTABS) {
        transmit(line, '\t');
        return;
    }
    for (uint32_t n = TAB_WIDTH - line->column % TAB_WIDTH; n > 0; n--) {
        transmit(line, ' ');
    }
}

void
line_write(struct line *line, uint8_t c)
{
    uint32_t modes = line->termios.c_oflag;

    if (!(modes & OPOST)) {
        transmit(line, c);
        return;
    }
    if (c == '\r' && (modes & OCRNL)) {
        c = '\n';
    }
    if (c == '\n') {
        if (modes & ONLCR) {
            transmit(line, '\r');
        } else if (modes & ONLRET) {
            line->column = 0;
        }
        transmit(line, '\n');
    } else if (c == '\r') {
        if (!(modes & ONOCR) || line->column != 0) {
            transmit(line, '\r');
        }
    } else if (c == '\t') {
        transmit_tab(line);
    } else {
        transmit(line, (modes & OLCUC) && c >= 'a' && c <= 'z' ? (uint8_t)(c - 32) : c);
    }
}

/* ---- echo ---------------------------------------------------------------------- */

static bool
shows_as_two(const struct line *line, uint8_t c)
{
    return local(line, ECHOCTL) && (c < ' ' || c == DELETE) && c != '\t' && c != '\n';
}

static void
echo_raw(struct line *line, uint8_t c)
{
    if (shows_as_two(line, c)) {
        line_write(line, '^');
        line_write(line, c ^ 0x40);
    } else {
        line_write(line, c);
    }
}

static void
echo(struct line *line, uint8_t c)
{
    if (local(line, ECHO)) {
        echo_raw(line, c);
    } else if (c == '\n' && local(line, ECHONL) && local(line, ICANON)) {
        line_write(line, c);
    }
}

/* Columns that the byte at @position takes when the cursor stands at @column. */
static uint32_t
width_at(const struct line *line, uint32_t position, uint32_t column)
{
    uint8_t c = ring_at(line, position);

    if (c == '\t') {
        return TAB_WIDTH - column % TAB_WIDTH;
    }
    if (shows_as_two(line, c)) {
        return 2;
    }
    if (c < ' ' || c == DELETE || (input(line, IUTF8) && (c & 0xc0) == 0x80)) {
        return 0;
    }
    return 1;
}

/* Columns from the start of the edited line up to @position. */
static uint32_t
column_of(const struct line *line, uint32_t position)
{
    uint32_t column = line->start_column;

    for (uint32_t at = line->ready; at != position; at++) {
        column += width_at(line, at, column);
    }
    return column;
}

/* ---- editing ---------------------------------------------------------------------- */

/* Take the last character (all bytes of it) off the line in editing and off the screen. */
static void
erase_one(struct line *line)
{
    uint32_t before = column_of(line, line->head);

    do {
        line->head--;
    } while (line->head != line->ready && input(line, IUTF8) &&
             (ring_at(line, line->head) & 0xc0) == 0x80);

    if (!local(line, ECHO)) {
        return;
    }
    if (!local(line, ECHOE)) {
        echo_raw(line, line->termios.c_cc[VERASE]);
        return;
    }
    for (uint32_t n = before - column_of(line, line->head); n > 0; n--) {
        transmit(line, BACKSPACE);
        transmit(line, ' ');
        transmit(line, BACKSPACE);
    }
}

static bool
is_word_byte(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c >= 0x80;
}

static void
erase_word(struct line *line)
{
    bool seen_word = false;

    while (line->head != line->ready) {
        bool is_word = is_word_byte(ring_at(line, line->head - 1));

        if (seen_word && !is_word) {
            break;
        }
        seen_word |= is_word;
        erase_one(line);
    }
}

static void
erase_line(struct line *line)
{
    if (local(line, ECHOKE) && local(line, ECHOE)) {
        while (line->head != line->ready) {
            erase_one(line);
        }
        return;
    }
    line->head = line->ready;
    echo(line, line->termios.c_cc[VKILL]);
    if (local(line, ECHOK)) {
        echo(line, '\n');
    }
}

static void
reprint(struct line *line)
{
    echo(line, line->termios.c_cc[VREPRINT]);
    echo(line, '\n');
    line->start_column = line->column;
    for (uint32_t at = line->ready; at != line->head; at++) {
        echo(line, ring_at(line, at));
    }
}

/* Room for one ordinary byte; canonical mode keeps the last one for the end of the line. */
static bool
has_room(const struct line *line)
{
    uint32_t reserve = local(line, ICANON) ? 1 : 0;

    return line->head - line->tail < LINE_RING_BYTES - reserve;
}

static void
store(struct line *line, uint8_t c)
{
    if (!has_room(line)) {
        if (input(line, IMAXBEL)) {
            line->transmit(line, BELL);
        }
        return;
    }
    if (line->head == line->ready) {
        line->start_column = line->column;
    }
    ring_push(line, c, false);
    echo(line, c);
}

static void
finish_line(struct line *line, uint8_t c, bool is_eof)
{
    if (line->head - line->tail >= LINE_RING_BYTES) {
        return;
    }
    ring_push(line, is_eof ? 0 : c, true);
    if (!is_eof) {
        echo(line, c);
    }
}

/* Canonical mode: @return whether @c was an editing character and is dealt with. */
static bool
edit(struct line *line, uint8_t c)
{
    if (is_control(line, c, VERASE)) {
        if (line->head != line->ready) {
            erase_one(line);
        }
    } else if (is_control(line, c, VKILL)) {
        erase_line(line);
    } else if (is_control(line, c, VWERASE) && local(line, IEXTEN)) {
        erase_word(line);
    } else if (is_control(line, c, VREPRINT) && local(line, IEXTEN) && local(line, ECHO)) {
        reprint(line);
    } else if (c == '\n' || is_control(line, c, VEOL) ||
               (is_control(line, c, VEOL2) && local(line, IEXTEN))) {
        finish_line(line, c, false);
    } else if (is_control(line, c, VEOF)) {
        finish_line(line, c, true);
    } else {
        return false;
    }
    return true;
}

/* ---- input ------------------------------------------------------------------------- */

static enum line_signal
signal_for(const struct line *line, uint8_t c)
{
    if (!local(line, ISIG)) {
        return LINE_NO_SIGNAL;
    }
    if (is_control(line, c, VINTR)) {
        return LINE_SIGINT;
    }
    if (is_control(line, c, VQUIT)) {
        return LINE_SIGQUIT;
    }
    return is_control(line, c, VSUSP) ? LINE_SIGTSTP : LINE_NO_SIGNAL;
}

/* Start and stop. @return whether @c was eaten. */
static bool
flow_control(struct line *line, uint8_t c)
{
    if (!input(line, IXON)) {
        return false;
    }
    if (is_control(line, c, VSTART)) {
        line->stopped = false;
        return true;
    }
    if (is_control(line, c, VSTOP)) {
        line->stopped = true;
        return true;
    }
    if (line->stopped && input(line, IXANY)) {
        line->stopped = false;
    }
    return false;
}

/* @return false when the byte is to be dropped. */
static bool
translate(const struct line *line, uint8_t *c)
{
    if (input(line, ISTRIP)) {
        *c &= 0x7f;
    }
    if (input(line, IUCLC) && local(line, IEXTEN) && *c >= 'A' && *c <= 'Z') {
        *c = (uint8_t)(*c + 32);
    }
    if (*c == '\r') {
        if (input(line, IGNCR)) {
            return false;
        }
        if (input(line, ICRNL)) {
            *c = '\n';
        }
    } else if (*c == '\n' && input(line, INLCR)) {
        *c = '\r';
    }
    return true;
}

enum line_signal
line_receive(struct line *line, uint8_t c)
{
    if (line->literal) {
        line->literal = false;
        store(line, c);
        return LINE_NO_SIGNAL;
    }
    if (!translate(line, &c) || flow_control(line, c)) {
        return LINE_NO_SIGNAL;
    }

    enum line_signal signal = signal_for(line, c);
    if (signal != LINE_NO_SIGNAL) {
        line->stopped = false;
        if (!local(line, NOFLSH)) {
            line_flush_input(line);
        }
        echo(line, c);
        return signal;
    }
    if (local(line, ICANON)) {
        if (is_control(line, c, VLNEXT) && local(line, IEXTEN)) {
            line->literal = true;
            if (local(line, ECHO) && local(line, ECHOCTL)) {
                transmit(line, '^');
                transmit(line, BACKSPACE);
            }
            return LINE_NO_SIGNAL;
        }
        if (edit(line, c)) {
            return LINE_NO_SIGNAL;
        }
    }
    store(line, c);
    return LINE_NO_SIGNAL;
}

/* ---- reading ---------------------------------------------------------------------------- */

size_t
line_readable(const struct line *line)
{
    return (local(line, ICANON) ? line->ready : line->head) - line->tail;
}

size_t
line_read(struct line *line, uint8_t *buffer, size_t n, bool *out_line_done)
{
    size_t available = line_readable(line);
    size_t stored = 0;

    *out_line_done = false;
    while (available > 0 && !*out_line_done) {
        uint8_t c = ring_at(line, line->tail);
        bool ends = end_at(line, line->tail);
        bool is_eof = ends && c == 0;

        if (!is_eof) {
            if (stored == n) {
                break;
            }
            buffer[stored++] = c;
        }
        line->tail++;
        available--;
        *out_line_done = ends && local(line, ICANON);
    }
    if ((int32_t)(line->ready - line->tail) < 0) {
        line->ready = line->tail;
    }
    return stored;
}

/* ---- modes -------------------------------------------------------------------------------- */

void
line_set_termios(struct line *line, const struct termios *termios)
{
    bool was_canonical = local(line, ICANON);

    line->termios = *termios;
    if (was_canonical == local(line, ICANON)) {
        return;
    }
    /* What is pending becomes one line, or plain bytes. */
    line->literal = false;
    if (!was_canonical && line->head != line->tail) {
        end_set(line, line->head - 1, true);
    }
    line->ready = line->head;
}

void
line_init(struct line *line)
{
    line->termios = termios_default;
    line->tail = line->ready = line->head = 0;
    line->column = line->start_column = 0;
    line->literal = line->stopped = false;
}
