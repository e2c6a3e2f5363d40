#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# limit: 120
"""A person at the terminal: line editing, Ctrl-C, Ctrl-Z, fg, bg, jobs, Ctrl-D.

Types into `tools/quire-run` through a pseudo-terminal and waits for what must appear.
"""

import os
import pty
import re
import select
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT = 30
PROMPT = r"quire:\S*# "


class Session:
    def __init__(self):
        self.text = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execv(os.path.join(ROOT, "tools", "quire-run"), ["quire-run", "--smp", "2"])

    def expect(self, pattern, what):
        deadline = time.monotonic() + LIMIT
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end():]
                return
            left = deadline - time.monotonic()
            ready = select.select([self.terminal], [], [], max(left, 0))[0] if left > 0 else []
            if not ready:
                sys.exit("FAIL %s: no %r within %d s; seen: %r" % (what, pattern, LIMIT, self.text[-500:]))
            try:
                self.text += os.read(self.terminal, 4096).decode(errors="replace")
            except OSError:
                sys.exit("FAIL %s: the session ended; seen: %r" % (what, self.text[-500:]))

    def type(self, text):
        os.write(self.terminal, text.encode())

    def run(self, command, pattern, what):
        self.type(command + "\n")
        self.expect(pattern, what)
        self.expect(PROMPT, what + ", prompt")
        print("ok   " + what)


def main():
    session = Session()
    session.expect(r"Leave with(.|\n)*quire:\S*# ", "the shell starts")
    print("ok   the shell starts")
    session.run("echo one two | tr a-z A-Z", r"\nONE TWO\r", "a pipe")
    session.run("ech\x7fho er\x7fdited", r"\nedited\r", "erase while typing")
    session.run("stty -a | head -1", r"speed \d+", "terminal settings")

    session.type("sleep 100\n")
    time.sleep(0.5)
    session.type("\x03")
    session.expect(PROMPT, "Ctrl-C ends the foreground job")
    session.run("echo status $?", r"\nstatus 130\r", "Ctrl-C ends the foreground job")

    session.type("sleep 100\n")
    time.sleep(0.5)
    session.type("\x1a")
    session.expect(r"Stopped.*sleep 100", "Ctrl-Z stops it")
    session.expect(PROMPT, "Ctrl-Z stops it")
    session.run("jobs", r"\[1\]\+ +Stopped +sleep 100", "jobs lists it")
    session.run("bg", r"sleep 100", "bg lets it run")
    session.run("jobs", r"Running", "jobs sees it run")
    session.type("fg\n")
    session.expect(r"sleep 100", "fg")
    time.sleep(0.5)
    session.type("\x03")
    session.expect(PROMPT, "fg and Ctrl-C")
    session.run("jobs | wc -l", r"\n *0\r", "no job is left")
    session.type("cat > /tmp/typed\n")
    time.sleep(0.5)
    session.type("line one\nline two\n\x04")
    session.expect(PROMPT, "Ctrl-D ends input")
    session.run("wc -l < /tmp/typed", r"\n *2\r", "Ctrl-D ends input")
    session.type("vi /tmp/typed\n")
    session.expect(r"line one", "vi shows the file")
    session.type("dd:wq\n")
    session.expect(PROMPT, "vi writes and quits")
    session.run("cat /tmp/typed", r"\nline two\r", "vi edits a file")

    session.type("exit\n")
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        pid, status = os.waitpid(session.pid, os.WNOHANG)
        if pid != 0:
            code = os.waitstatus_to_exitcode(status)
            if code != 0:
                sys.exit("FAIL the session ends with status %d" % code)
            print("ok   exit")
            return
        if select.select([session.terminal], [], [], 0.1)[0]:
            try:
                os.read(session.terminal, 4096)
            except OSError:
                pass
    sys.exit("FAIL the session does not end")


if __name__ == "__main__":
    main()
