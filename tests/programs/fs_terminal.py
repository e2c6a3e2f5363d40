#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A session at the reference kernel's terminal: editing, job control, full-screen programs.

usage: fs_terminal.py [QUIRE-RUN-ARGUMENT...]
"""

import os
import pty
import re
import select
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROMPT = rb"quire:[^\n]*[$#] "


class Session:
    def __init__(self, arguments):
        self.pending = b""
        try:
            self.pid, self.terminal = pty.fork()
        except OSError as error:
            print("no pseudo-terminal here (is devpts mounted?): %s" % error)
            sys.exit(77)
        if self.pid == 0:
            os.execv(os.path.join(ROOT, "tools/quire-run"),
                     ["quire-run", "--timeout", "100"] + arguments)

    def send(self, text):
        os.write(self.terminal, text.encode())

    def expect(self, pattern, seconds=15):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = re.search(pattern, self.pending)
            if found:
                self.pending = self.pending[found.end():]
                return
            if select.select([self.terminal], [], [], 0.2)[0]:
                try:
                    piece = os.read(self.terminal, 4096)
                except OSError:
                    break
                self.pending += piece
        print("FAIL: no %r in %r" % (pattern, self.pending[-400:]))
        sys.exit(1)

    def command(self, text, *patterns):
        self.send(text + "\r")
        for pattern in patterns:
            self.expect(pattern)
        self.expect(PROMPT)

    def start(self, text, echo):
        """Start a program and give it time to be there."""
        self.send(text + "\r")
        self.expect(echo)
        time.sleep(0.7)


    def finish(self, seconds=15):
        """The session's exit status; what it still prints is read and dropped."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid != 0:
                return os.waitstatus_to_exitcode(status)
            if select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    os.read(self.terminal, 4096)
                except OSError:
                    pass
        return "none: it does not end"


def main():
    session = Session(sys.argv[1:])
    session.expect(rb"Leave with(.|\n)*?quire:\S*# ", 30)
    session.command("echo one two | tr a-z A-Z", rb"\nONE TWO\r")
    session.command("ech\x7fho er\x7fdited", rb"\nedited\r")

    # signals to the foreground group
    session.start("sleep 100", rb"sleep 100")
    session.send("\x03")
    session.expect(PROMPT)
    session.command("echo status $?", rb"status 130")
    session.start("sleep 100", rb"sleep 100")
    session.send("\x1c")
    session.expect(PROMPT)
    session.command("echo status $?", rb"status 131")

    # stop, background, foreground
    session.start("sleep 100", rb"sleep 100")
    session.send("\x1a")
    session.expect(rb"Stopped")
    session.expect(PROMPT)
    session.command("jobs", rb"Stopped +sleep 100")
    session.command("bg", rb"sleep 100")
    session.command("jobs", rb"Running +sleep 100")
    session.start("fg", rb"sleep 100")
    session.send("\x03")
    session.expect(PROMPT)

    # a background job that reads is stopped
    session.command("cat &")
    session.command("while jobs %1 | grep -q Running; do sleep 0.1; done; jobs",
                    rb"Stopped \(tty input\)")
    session.command("kill %1")
    session.command("fg", rb"Terminated")

    # the line editor of the kernel, end of file
    session.start("cat", rb"cat")
    session.send("hello wor\x7f\x7f\x7fxy\r")
    session.expect(rb"\nhello xy")
    session.send("wrong\x15right\r")
    session.expect(rb"\nright")
    session.send("\x04")
    session.expect(PROMPT)
    session.command("echo end $?", rb"end 0")

    # modes
    session.command("tty", rb"/dev/(console|ttyS0)")
    session.command("stty -a", rb"isig icanon iexten echo ")
    session.command("stty rows 33 cols 99; stty size", rb"33 99")
    session.command("stty rows 24 cols 80")
    session.command("sh -c 'read -t 1 x; echo read $?'", rb"read [1-9]")

    # full-screen programs in raw mode
    session.start("vi /tmp/text", rb"vi /tmp/text")
    session.send("ihello vi\x1b")
    time.sleep(0.7)
    session.send(":wq\r")
    session.expect(PROMPT)
    session.command("cat /tmp/text", rb"\nhello vi")
    session.start("top", rb"COMMAND")
    session.send("q")
    session.expect(PROMPT)

    # a session's end
    session.command("sleep 1000 &")
    session.command("yes >/dev/null &")
    session.command("kill %2")
    session.send("exit\r")
    status = session.finish()
    if status != 0:
        print("FAIL: the session's status is %s" % status)
        sys.exit(1)
    print("a session at the terminal: as on Linux")


main()
