/* SPDX-License-Identifier: MIT */
/*
 * The serial terminal: the line discipline of line.c between a wire and processes, with job
 * control.
 *
 * There is one terminal.  /dev/console, /dev/ttyS0 and, for processes of its session, /dev/tty
 * are names of it.  A session owns the terminal when `session` is its number: no process keeps a
 * pointer to its terminal, so that there is nothing to clean up but that number.
 *
 *      wire --interrupt--> tty_input --> line ring --> read()
 *      wire <-- console_write <-- out buffer <-- line <-- write(), echo
 *
 * Job control: a read from a background group sends it SIGTTIN, a write SIGTTOU when TOSTOP is
 * set, a change of settings SIGTTOU; a group that could never be continued gets EIO instead.
 *
 * Lock: tty.lock, a spin lock taken in interrupts too, for all fields; the signals that input
 * causes are sent after it is released.
 */

#include "tty.h"

#include <quire/assert.h>

#include "arch.h"
#include "fs.h"
#include "line.h"
#include "proc.h"

enum {
    OUT_BYTES = 256,
    READ_CHUNK = 256,
    WRITE_CHUNK = 128,
    DECISECOND_NS = 100000000,
    TTY_DEVICE_CONSOLE = 5 << 20 | 1,
    TTY_DEVICE_CURRENT = 5 << 20,
    TTY_DEVICE_SERIAL = 4 << 20 | 64,
};

struct winsize {
    uint16_t rows, columns, x_pixels, y_pixels;
};

static struct tty {
    struct qr_spin lock;
    struct line line;    /* lock */
    char out[OUT_BYTES]; /* lock */
    size_t out_bytes;    /* lock */
    int32_t session;     /* lock: owner, 0 for none */
    int32_t foreground;  /* lock: process group, 0 for none */
    struct winsize size; /* lock */
    struct wait_queue readable;
    struct wait_queue writable; /* output was stopped by VSTOP */
    atomic_bool ready;
} tty;

/* ---- output --------------------------------------------------------------------- */

static void
out_flush(void)
{
    if (tty.out_bytes > 0) {
        console_write(tty.out, tty.out_bytes);
        tty.out_bytes = 0;
    }
}

static void
out_transmit(struct line *line, char c)
{
    (void)line;
    if (tty.out_bytes == OUT_BYTES) {
        out_flush();
    }
    tty.out[tty.out_bytes++] = c;
}

/* On first use: fs_init() runs before the first open, input may come earlier. */
static void
tty_prepare(void)
{
    qr_spin_lock(&tty.lock);
    if (!atomic_load(&tty.ready)) {
        tty.line.transmit = out_transmit;
        line_init(&tty.line);
        wait_queue_init(&tty.readable);
        wait_queue_init(&tty.writable);
        tty.size = (struct winsize){.rows = 24, .columns = 80};
        atomic_store(&tty.ready, true);
    }
    qr_spin_unlock(&tty.lock);
}

/* ---- input, from the interrupt ------------------------------------------------------ */

void
tty_input(char byte)
{
    if (!atomic_load(&tty.ready)) {
        tty_prepare();
    }
    qr_spin_lock(&tty.lock);
    bool was_stopped = tty.line.stopped;
    enum line_signal signal = line_receive(&tty.line, (uint8_t)byte);
    int32_t group = tty.foreground;
    bool readable = line_readable(&tty.line) > 0;
    bool restarted = was_stopped && !tty.line.stopped;
    out_flush();
    qr_spin_unlock(&tty.lock);

    if (readable) {
        wait_wake_all(&tty.readable);
    }
    if (restarted) {
        wait_wake_all(&tty.writable);
    }
    if (signal != LINE_NO_SIGNAL && group > 0) {
        signal_send_group(group, (int)signal, NULL);
    }
}

/* ---- job control ----------------------------------------------------------------------- */

enum job_verdict { JOB_ALLOWED, JOB_ERROR, JOB_SIGNALLED };

/* May the current process do what background groups may not? */
static enum job_verdict
job_check(int signal)
{
    struct process *process = process_current();

    if (process == NULL) {
        return JOB_ALLOWED;
    }
    int32_t group = process_group_id(process);
    if (tty.session == 0 || process_session_id(process) != tty.session || tty.foreground == 0 ||
        group == tty.foreground) {
        return JOB_ALLOWED;
    }
    if (signal_is_blocked_or_ignored(signal)) {
        return signal == SIGTTIN ? JOB_ERROR : JOB_ALLOWED;
    }
    if (process_group_is_orphaned(group)) {
        return JOB_ERROR;
    }
    signal_send_group(group, signal, NULL);
    return JOB_SIGNALLED;
}

static int64_t
job_result(enum job_verdict verdict)
{
    return verdict == JOB_ALLOWED ? 0 : verdict == JOB_ERROR ? -EIO : -ERESTARTSYS;
}

/* ---- read -------------------------------------------------------------------------------- */

/* How long to wait for how many bytes: VMIN and VTIME outside canonical mode. */
struct read_goal {
    size_t minimum;   /* bytes that must be there before the first are taken */
    uint64_t timeout; /* nanoseconds; 0: none */
    bool timer_first; /* the time runs from the start; else from each byte */
};

static struct read_goal
read_goal(size_t wanted)
{
    const struct termios *termios = &tty.line.termios;

    if (termios->c_lflag & ICANON) {
        return (struct read_goal){.minimum = 1};
    }
    size_t minimum = termios->c_cc[VMIN];
    struct read_goal goal = {.minimum = minimum < wanted ? minimum : wanted,
                             .timeout = (uint64_t)termios->c_cc[VTIME] * DECISECOND_NS,
                             .timer_first = minimum == 0};
    if (goal.timer_first && goal.timeout > 0) {
        goal.minimum = 1;
    }
    return goal;
}

/* Wait until the goal is met. @return 0: take what is there; -EAGAIN, -ERESTARTSYS, -EIO */
static int64_t
read_wait(const struct file *file, size_t wanted)
{
    struct read_goal goal = read_goal(wanted);
    int64_t error = 0;

    while (line_readable(&tty.line) < goal.minimum) {
        size_t before = line_readable(&tty.line);
        uint64_t deadline = WAIT_FOREVER;

        if (atomic_load(&file->flags) & O_NONBLOCK) {
            return before > 0 ? 0 : -EAGAIN;
        }
        error = job_result(job_check(SIGTTIN));
        if (error != 0) {
            return error;
        }
        if (goal.timeout > 0 && (goal.timer_first || before > 0)) {
            deadline = clock_monotonic_ns() + goal.timeout;
        }
        WAIT_EVENT_UNTIL(error, &tty.readable, line_readable(&tty.line) > before,
                         WAIT_INTERRUPTIBLE, deadline);
        if (error == -ETIMEDOUT) {
            return 0;
        }
        if (error != 0) {
            return before > 0 ? 0 : error;
        }
        goal = read_goal(wanted);
    }
    return 0;
}

static int64_t
tty_read(struct file *file, struct io *io, uint64_t *position)
{
    uint8_t bytes[READ_CHUNK];
    size_t total = 0;
    bool line_done = false;

    (void)position;
    if (io->left == 0) {
        return 0;
    }
    int64_t error = job_result(job_check(SIGTTIN));
    if (error == 0) {
        error = read_wait(file, io->left);
    }
    if (error != 0) {
        return error;
    }
    while (io->left > 0 && !line_done) {
        size_t want = io->left < sizeof bytes ? io->left : sizeof bytes;

        qr_spin_lock(&tty.lock);
        size_t got = line_read(&tty.line, bytes, want, &line_done);
        qr_spin_unlock(&tty.lock);
        if (got == 0) {
            break;
        }
        size_t put = io_put(io, bytes, got);
        total += put;
        if (put < got) {
            return total > 0 ? (int64_t)total : -EFAULT;
        }
    }
    return (int64_t)total;
}

/* ---- write ----------------------------------------------------------------------------------- */

static int64_t
write_wait(const struct file *file)
{
    int64_t error;

    if (tty.line.termios.c_lflag & TOSTOP) {
        error = job_result(job_check(SIGTTOU));
        if (error != 0) {
            return error;
        }
    }
    if (!tty.line.stopped) {
        return 0;
    }
    if (atomic_load(&file->flags) & O_NONBLOCK) {
        return -EAGAIN;
    }
    WAIT_EVENT(error, &tty.writable, !tty.line.stopped);
    return error;
}

static int64_t
tty_write(struct file *file, struct io *io, uint64_t *position)
{
    uint8_t bytes[WRITE_CHUNK];
    size_t total = 0;

    (void)position;
    while (io->left > 0) {
        int64_t error = write_wait(file);

        if (error != 0) {
            return total > 0 ? (int64_t)total : error;
        }
        size_t got = io_take(io, bytes, sizeof bytes);
        if (got == 0) {
            return total > 0 ? (int64_t)total : -EFAULT;
        }
        qr_spin_lock(&tty.lock);
        for (size_t i = 0; i < got; i++) {
            line_write(&tty.line, bytes[i]);
        }
        out_flush();
        qr_spin_unlock(&tty.lock);
        total += got;
        if (signal_is_fatal_pending()) {
            break;
        }
        sched_relax();
    }
    return (int64_t)total;
}

static uint32_t
tty_poll(struct file *file, struct poll_table *table)
{
    uint32_t events = 0;

    (void)file;
    poll_register(table, &tty.readable);
    poll_register(table, &tty.writable);
    if (line_readable(&tty.line) > 0) {
        events |= POLLIN | POLLRDNORM;
    }
    return events | (tty.line.stopped ? 0 : POLLOUT | POLLWRNORM);
}

/* ---- ownership --------------------------------------------------------------------------------- */

/* TIOCSCTTY. @param force  take it from its session (root) */
static int64_t
terminal_acquire(bool force)
{
    struct process *process = process_current();
    int32_t session = process_session_id(process);
    int32_t group = process_group_id(process);
    int64_t result = 0;

    if (!process_is_session_leader(process)) {
        return -EPERM;
    }
    qr_spin_lock(&tty.lock);
    if (tty.session != 0 && tty.session != session && !force) {
        result = -EPERM;
    } else if (tty.session != session) {
        tty.session = session;
        tty.foreground = group;
    }
    qr_spin_unlock(&tty.lock);
    return result;
}

void
tty_session_end(int32_t session_id)
{
    qr_spin_lock(&tty.lock);
    bool owned = session_id != 0 && tty.session == session_id;
    int32_t group = tty.foreground;
    if (owned) {
        tty.session = 0;
        tty.foreground = 0;
    }
    qr_spin_unlock(&tty.lock);
    if (owned && group > 0) {
        signal_send_group(group, SIGHUP, NULL);
        signal_send_group(group, SIGCONT, NULL);
    }
}

uint32_t
tty_session_device(int32_t session_id)
{
    return session_id != 0 && tty.session == session_id ? TTY_DEVICE_SERIAL : 0;
}

int32_t
tty_session_foreground(int32_t session_id)
{
    return session_id != 0 && tty.session == session_id ? tty.foreground : -1;
}

static bool
is_own_terminal(void)
{
    struct process *process = process_current();

    return process != NULL && tty.session != 0 && process_session_id(process) == tty.session;
}

/* TIOCNOTTY */
static int64_t
terminal_give_up(void)
{
    if (!is_own_terminal()) {
        return -ENOTTY;
    }
    if (process_is_session_leader(process_current())) {
        tty_session_end(process_session_id(process_current()));
    }
    return 0;
}

static int64_t
foreground_set(uint64_t argument)
{
    uint32_t group;
    int64_t error;

    if (!is_own_terminal()) {
        return -ENOTTY;
    }
    error = job_result(job_check(SIGTTOU));
    if (error == 0) {
        error = user_read_u32(&group, argument);
    }
    if (error != 0) {
        return error;
    }
    if ((int32_t)group < 0) {
        return -EINVAL;
    }
    if (!process_group_in_session((int32_t)group, tty.session)) {
        return -EPERM;
    }
    qr_spin_lock(&tty.lock);
    tty.foreground = (int32_t)group;
    qr_spin_unlock(&tty.lock);
    return 0;
}

/* ---- ioctl ---------------------------------------------------------------------------------------- */

enum {
    TCGETS = 0x5401,
    TCSETS = 0x5402,
    TCSETSW = 0x5403,
    TCSETSF = 0x5404,
    TCSBRK = 0x5409,
    TCXONC = 0x540a,
    TCFLSH = 0x540b,
    TIOCEXCL = 0x540c,
    TIOCNXCL = 0x540d,
    TIOCSCTTY = 0x540e,
    TIOCGPGRP = 0x540f,
    TIOCSPGRP = 0x5410,
    TIOCOUTQ = 0x5411,
    TIOCSTI = 0x5412,
    TIOCGWINSZ = 0x5413,
    TIOCSWINSZ = 0x5414,
    FIONREAD = 0x541b,
    TIOCGSERIAL = 0x541e,
    TIOCNOTTY = 0x5422,
    TCSBRKP = 0x5425,
    TIOCGSID = 0x5429,
    SERIAL_STRUCT_BYTES = 72,
    TERMIOS_BYTES = 36,
};

static int64_t
termios_get(uint64_t argument)
{
    struct termios copy;

    qr_spin_lock(&tty.lock);
    copy = tty.line.termios;
    qr_spin_unlock(&tty.lock);
    return user_write(argument, &copy, TERMIOS_BYTES);
}

static int64_t
termios_set(uint64_t argument, bool flush)
{
    struct termios fresh;
    int64_t error = job_result(job_check(SIGTTOU));

    if (error == 0) {
        error = user_read(&fresh, argument, TERMIOS_BYTES);
    }
    if (error != 0) {
        return error;
    }
    qr_spin_lock(&tty.lock);
    if (flush) {
        line_flush_input(&tty.line);
    }
    line_set_termios(&tty.line, &fresh);
    if (!(fresh.c_iflag & IXON)) {
        tty.line.stopped = false;
    }
    qr_spin_unlock(&tty.lock);
    wait_wake_all(&tty.readable);
    wait_wake_all(&tty.writable);
    return 0;
}

static int64_t
window_set(uint64_t argument)
{
    struct winsize fresh;
    int64_t error = user_read(&fresh, argument, sizeof fresh);

    if (error != 0) {
        return error;
    }
    qr_spin_lock(&tty.lock);
    bool changed = memcmp(&fresh, &tty.size, sizeof fresh) != 0;
    int32_t group = tty.foreground;
    tty.size = fresh;
    qr_spin_unlock(&tty.lock);
    if (changed && group > 0) {
        signal_send_group(group, SIGWINCH, NULL);
    }
    return 0;
}

static int64_t
window_get(uint64_t argument)
{
    struct winsize copy;

    qr_spin_lock(&tty.lock);
    copy = tty.size;
    qr_spin_unlock(&tty.lock);
    return user_write(argument, &copy, sizeof copy);
}

/* TCXONC: 0 and 1 stop and start output; 2 and 3 would send VSTOP and VSTART. */
static int64_t
flow_set(uint64_t action)
{
    if (action > 3) {
        return -EINVAL;
    }
    qr_spin_lock(&tty.lock);
    if (action <= 1) {
        tty.line.stopped = action == 0;
    }
    qr_spin_unlock(&tty.lock);
    wait_wake_all(&tty.writable);
    return 0;
}

static int64_t
input_flush(uint64_t queue)
{
    if (queue > 2) {
        return -EINVAL;
    }
    if (queue != 1) {
        qr_spin_lock(&tty.lock);
        line_flush_input(&tty.line);
        qr_spin_unlock(&tty.lock);
    }
    return 0;
}

static int64_t
type_in(uint64_t argument)
{
    char c;

    if (process_fsuid() != 0 && !is_own_terminal()) {
        return -EPERM;
    }
    int64_t error = user_read(&c, argument, 1);
    if (error == 0) {
        tty_input(c);
    }
    return error;
}

static int64_t
own_number(int32_t number, uint64_t argument)
{
    return is_own_terminal() ? user_write_u32(argument, (uint32_t)number) : -ENOTTY;
}

static int64_t
serial_info(uint64_t argument)
{
    uint8_t info[SERIAL_STRUCT_BYTES] = {4}; /* type 16550A, line 0 */

    return user_write(argument, info, sizeof info);
}

static int64_t
tty_ioctl(struct file *file, uint32_t command, uint64_t argument)
{
    (void)file;
    switch (command) {
    case TCGETS:
        return termios_get(argument);
    case TCSETS:
    case TCSETSW:
        return termios_set(argument, false);
    case TCSETSF:
        return termios_set(argument, true);
    case TCSBRK:
    case TCSBRKP:
    case TIOCEXCL:
    case TIOCNXCL:
        return 0; /* output is synchronous, breaks and exclusiveness mean nothing here */
    case TCXONC:
        return flow_set(argument);
    case TCFLSH:
        return input_flush(argument);
    case TIOCSCTTY:
        return terminal_acquire(argument == 1 && process_fsuid() == 0);
    case TIOCNOTTY:
        return terminal_give_up();
    case TIOCGPGRP:
        return own_number(tty.foreground, argument);
    case TIOCSPGRP:
        return foreground_set(argument);
    case TIOCGSID:
        return own_number(tty.session, argument);
    case TIOCOUTQ:
        return user_write_u32(argument, 0);
    case TIOCSTI:
        return type_in(argument);
    case TIOCGWINSZ:
        return window_get(argument);
    case TIOCSWINSZ:
        return window_set(argument);
    case FIONREAD:
        return user_write_u32(argument, (uint32_t)line_readable(&tty.line));
    case TIOCGSERIAL:
        return serial_info(argument);
    default:
        return -ENOTTY;
    }
}

static const struct file_ops tty_file_ops = {
    .name = "tty",
    .read = tty_read,
    .write = tty_write,
    .ioctl = tty_ioctl,
    .poll = tty_poll,
};

int64_t
tty_open(struct inode *inode, struct file *file)
{
    if (!atomic_load(&tty.ready)) {
        tty_prepare();
    }
    if (inode->rdev == TTY_DEVICE_CURRENT && !is_own_terminal()) {
        return -ENXIO;
    }
    file->ops = &tty_file_ops;
    file->mode |= FILE_STREAM;
    return 0;
}

/* A session leader that opens a free terminal without O_NOCTTY makes it its own. */
void
tty_opened(struct file *file, uint32_t flags)
{
    struct process *process = process_current();

    if (file->ops == &tty_file_ops && file->inode->rdev == TTY_DEVICE_SERIAL &&
        !(flags & O_NOCTTY) && process != NULL && process_is_session_leader(process) &&
        tty.session == 0) {
        terminal_acquire(false);
    }
}

bool
tty_is_terminal(const struct file *file)
{
    return file->ops == &tty_file_ops;
}
