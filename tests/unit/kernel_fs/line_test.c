/* SPDX-License-Identifier: MIT */
/*
 * The line discipline, typed at.
 */
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "kernel/fs/line.h"

static char screen[65536];
static size_t screen_bytes;
static struct line line;

static void
screen_transmit(struct line *l, char c)
{
    (void)l;
    if (screen_bytes < sizeof screen - 1) {
        screen[screen_bytes++] = c;
    }
    screen[screen_bytes] = '\0';
}

static void
screen_clear(void)
{
    screen_bytes = 0;
    screen[0] = '\0';
}

static void
line_fresh(void)
{
    memset(&line, 0, sizeof line);
    line.transmit = screen_transmit;
    line_init(&line);
    screen_clear();
}

static enum line_signal
type(const char *text)
{
    enum line_signal last = LINE_NO_SIGNAL;

    for (; *text != '\0'; text++) {
        enum line_signal signal = line_receive(&line, (uint8_t)*text);

        last = signal != LINE_NO_SIGNAL ? signal : last;
    }
    return last;
}

/* What one read of up to @n bytes gives, as text; "<eof>" for an end of file, "<wait>". */
static const char *
reads(size_t n)
{
    static char buffer[LINE_RING_BYTES + 1];
    bool done;

    if (line_readable(&line) == 0) {
        return "<wait>";
    }
    size_t got = line_read(&line, (uint8_t *)buffer, n, &done);
    buffer[got] = '\0';
    return got == 0 && done ? "<eof>" : buffer;
}

static void
modes(uint32_t off, uint32_t on)
{
    struct termios termios = line.termios;

    termios.c_lflag = (termios.c_lflag & ~off) | on;
    line_set_termios(&line, &termios);
}

TEST(line, a_line_is_read_when_it_is_complete)
{
    line_fresh();
    type("ls -l");
    EXPECT_STR(reads(100), "<wait>");
    type("\r");
    EXPECT_STR(screen, "ls -l\r\n");
    EXPECT_STR(reads(100), "ls -l\n");
    EXPECT_STR(reads(100), "<wait>");
}

TEST(line, one_read_gives_one_line_and_small_reads_share_it)
{
    line_fresh();
    type("one\ntwo\n");
    EXPECT_STR(reads(2), "on");
    EXPECT_STR(reads(100), "e\n");
    EXPECT_STR(reads(100), "two\n");
    EXPECT_STR(reads(100), "<wait>");
}

TEST(line, erase_kill_and_word)
{
    line_fresh();
    type("abx\177c\r");
    EXPECT_STR(screen, "abx\b \bc\r\n");
    EXPECT_STR(reads(100), "abc\n");
    type("wrong\025right\n");
    EXPECT_STR(reads(100), "right\n");
    type("echo one  two.. \027X\n");
    EXPECT_STR(reads(100), "echo one  X\n");
    type("\177\177\027\025a\n");
    EXPECT_STR(reads(100), "a\n");
}

TEST(line, erase_goes_back_no_further_than_this_line)
{
    line_fresh();
    type("first\n\177\177\177second\n");
    EXPECT_STR(reads(100), "first\n");
    EXPECT_STR(reads(100), "second\n");
}

TEST(line, erase_of_control_tab_and_utf8_takes_what_was_shown)
{
    line_fresh();
    type("a\001\177");
    EXPECT_STR(screen, "a^A\b \b\b \b");
    screen_clear();
    type("\tz\177\177");
    EXPECT_STR(screen, "\tz\b \b\b \b\b \b\b \b\b \b\b \b\b \b\b \b");
    type("\n");
    EXPECT_STR(reads(100), "a\n");

    line_fresh();
    line.termios.c_iflag |= IUTF8;
    type("x\xc3\xa4\177y\n");
    EXPECT_STR(screen, "x\xc3\xa4\b \by\r\n");
    EXPECT_STR(reads(100), "xy\n");
}

TEST(line, end_of_file_alone_and_after_text)
{
    line_fresh();
    type("\004");
    EXPECT_STR(reads(100), "<eof>");
    EXPECT_STR(reads(100), "<wait>");
    type("abc\004");
    EXPECT_STR(reads(100), "abc");
    EXPECT_STR(reads(100), "<wait>");
    EXPECT_STR(screen, "abc");
}

TEST(line, signals_flush_what_was_typed)
{
    line_fresh();
    type("done\nhalf");
    EXPECT_EQ(type("\003"), LINE_SIGINT);
    EXPECT_STR(reads(100), "<wait>");
    EXPECT_EQ(type("\034"), LINE_SIGQUIT);
    EXPECT_EQ(type("\032"), LINE_SIGTSTP);
    EXPECT_STR(screen, "done\r\nhalf^C^\\^Z");
    modes(0, NOFLSH);
    type("kept\n");
    EXPECT_EQ(type("\003"), LINE_SIGINT);
    EXPECT_STR(reads(100), "kept\n");
    modes(ISIG, 0);
    EXPECT_EQ(type("\003"), LINE_NO_SIGNAL);
}

TEST(line, literal_next_takes_anything)
{
    line_fresh();
    EXPECT_EQ(type("a\026\003b\026\026\n"), LINE_NO_SIGNAL);
    EXPECT_STR(reads(100), "a\003b\026\n");
}

TEST(line, raw_mode_gives_bytes_at_once)
{
    line_fresh();
    modes(ICANON | ECHO | ISIG, 0);
    type("a\003\177\004");
    EXPECT_STR(reads(100), "a\003\177\004");
    EXPECT_STR(screen, "");
}

TEST(line, pending_bytes_survive_a_change_of_mode)
{
    line_fresh();
    type("half");
    modes(ICANON, 0);
    EXPECT_STR(reads(100), "half");
    type("raw");
    modes(0, ICANON);
    EXPECT_STR(reads(100), "raw");
    type("line\nrest");
    modes(ICANON, 0);
    EXPECT_STR(reads(100), "line\nrest");
}

TEST(line, a_full_ring_keeps_room_for_the_end_of_the_line)
{
    line_fresh();
    for (unsigned i = 0; i < LINE_RING_BYTES + 10; i++) {
        type("x");
    }
    EXPECT_STR(reads(100), "<wait>");
    type("\n");
    EXPECT_EQ(line_readable(&line), LINE_RING_BYTES);
    EXPECT_EQ(strlen(reads(LINE_RING_BYTES)), LINE_RING_BYTES);
    type("again\n");
    EXPECT_STR(reads(100), "again\n");
}

TEST(line, a_full_ring_of_bytes_still_erases)
{
    line_fresh();
    for (unsigned i = 0; i < LINE_RING_BYTES + 10; i++) {
        type("x");
    }
    type("\025ok\n");
    EXPECT_STR(reads(100), "ok\n");
}

TEST(line, output_processing)
{
    static const char text[] = "a\tb\nc\rd\n";

    line_fresh();
    for (const char *c = text; *c != '\0'; c++) {
        line_write(&line, (uint8_t)*c);
    }
    EXPECT_STR(screen, "a\tb\r\nc\rd\r\n");
    line_fresh();
    line.termios.c_oflag |= XTABS;
    line_write(&line, 'a');
    line_write(&line, '\t');
    line_write(&line, 'b');
    EXPECT_STR(screen, "a       b");
    line_fresh();
    line.termios.c_oflag &= ~OPOST;
    line_write(&line, '\n');
    EXPECT_STR(screen, "\n");
}

TEST(line, input_translation)
{
    line_fresh();
    line.termios.c_iflag &= ~ICRNL;
    type("a\rb\n");
    EXPECT_STR(reads(100), "a\rb\n");
    line.termios.c_iflag |= IGNCR;
    type("a\rb\n");
    EXPECT_STR(reads(100), "ab\n");
    line.termios.c_iflag = INLCR;
    type("a\n");
    EXPECT_STR(reads(100), "<wait>");
}

TEST(line, stop_and_start)
{
    line_fresh();
    type("\023");
    EXPECT_TRUE(line.stopped);
    type("\021");
    EXPECT_FALSE(line.stopped);
    EXPECT_STR(reads(100), "<wait>");
    type("\023\003");
    EXPECT_FALSE(line.stopped);
}

static void
invariants_check(void)
{
    EXPECT_LE(line.head - line.tail, LINE_RING_BYTES);
    EXPECT_LE(line.ready - line.tail, line.head - line.tail);
}

/* Anything typed, any modes, any reads: the counters stay in order and no line is lost whole. */
TEST(line, random_use_keeps_the_ring_sound)
{
    uint64_t state = test_seed();

    line_fresh();
    for (unsigned i = 0; i < 300000; i++) {
        uint64_t pick = test_random(&state) % 100;

        if (pick < 80) {
            line_receive(&line, (uint8_t)(test_random(&state) >> 7));
        } else if (pick < 95) {
            reads(test_random(&state) % 300);
        } else if (pick < 99) {
            struct termios termios = line.termios;

            termios.c_lflag = (uint32_t)test_random(&state);
            termios.c_iflag = (uint32_t)test_random(&state);
            line_set_termios(&line, &termios);
        } else {
            line_flush_input(&line);
        }
        invariants_check();
        screen_clear();
    }
}
