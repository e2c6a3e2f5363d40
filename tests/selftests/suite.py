# SPDX-License-Identifier: MIT
"""Other people's tests, many in one boot of the reference kernel, against a list of what to expect.

A list has lines `when | command | result | why`: `quick` rows run by default, `long` ones on
request, `never` ones not at all; a number of seconds may follow, the row's own time limit.  The
result is pass, skip or fail.  What differs from it, for better or worse, is an error.

elsewhere.expected says what is otherwise on other architectures, `architectures | command | result | why`;
the result `none` is of programs that cannot be there.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, "build", "selftests")
PAGE = os.path.join(ROOT, "docs", "selftests.md")
CANNOT_RUN = 77
COMPILERS = {
    "x86_64": ["gcc", "-mxsave"],
    "i386": ["gcc", "-m32", "-mxsave", "-idirafter", "/usr/include/x86_64-linux-gnu"],
    "aarch64": ["aarch64-linux-gnu-gcc"],
    "riscv64": ["riscv64-linux-gnu-gcc"],
}
SKIP = 4  # the exit status by which Linux's tests say so


class Row:
    """One line of a list."""

    def __init__(self, line):
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != 4:
            raise SystemExit(f"{line!r}: not `when | command | result | why`")
        when, self.command, self.result, self.why = fields
        found = re.fullmatch(r"(quick|long|never)(?: (\d+) s)?", when)
        if found is None or self.result not in ("pass", "skip", "fail"):
            raise SystemExit(f"{line!r}: quick, long or never; pass, skip or fail")
        if self.result != "pass" and not self.why:
            raise SystemExit(f"{line!r}: why not?")
        self.when, self.seconds = found.group(1), int(found.group(2) or 60)
        self.program = self.command.split()[0]


def read_rows(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return [Row(line) for line in file if line.strip() and not line.startswith("#")]


def read_elsewhere(rows):
    """Of elsewhere.expected the lines about these @p rows: (architectures, command, result, why)."""
    commands = {row.command for row in rows}
    with open(os.path.join(HERE, "elsewhere.expected"), encoding="utf-8") as file:
        lines = [[field.strip() for field in line.split("|")] for line in file
                 if line.strip() and not line.startswith("#")]
    for line in lines:
        if len(line) != 4 or line[2] not in ("pass", "skip", "fail", "none") or not line[3]:
            raise SystemExit(f"{line}: not `architectures | command | result | why`")
    return [(line[0].split(), *line[1:]) for line in lines if line[1] in commands]


def choose(rows, options):
    other = {command: result for architectures, command, result, _why in read_elsewhere(rows)
             if options.arch in architectures}
    for row in rows:
        row.result = other.get(row.command, row.result)
    rows = [row for row in rows if row.result != "none"]
    if options.names:
        return [row for row in rows if {row.program, row.command} & set(options.names)]
    return [row for row in rows if row.when == "quick" or (options.all and row.when == "long")]


def parser(description):
    made = argparse.ArgumentParser(description=description,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--all", action="store_true", help="every row, not the quick ones alone")
    made.add_argument("--table", action="store_true", help="print the list as docs/selftests.md has it")
    made.add_argument("-v", "--verbose", action="store_true", help="what each one said")
    made.add_argument("--smp", type=int, default=4)
    made.add_argument("--mem", help="taken from this machine only as far as it is used")
    made.add_argument("--kernel", metavar="ELF")
    made.add_argument("--arch", choices=list(COMPILERS), default="x86_64")
    made.add_argument("--run", action="append", default=[], metavar="ARG", help="for tools/quire-run")
    made.add_argument("names", nargs="*", metavar="NAME", help="programs or whole commands")
    return made


def script(rows, shell, before, between, after):
    """Every row in turn, and @p between after each; marks that nothing else prints part the outputs."""
    lines = [before]
    for number, row in enumerate(rows):
        lines.append(f"read from x </proc/uptime; echo; echo '@@ {number}'; "
                     f"timeout -s KILL {row.seconds} {shell(row)} 2>&1; "
                     f's=$?; echo; read to x </proc/uptime; echo "@= $s $from $to"; {between}')
    return "\n".join(lines) + "\n" + after


def disk(name, megabytes, contents=None):
    """A new disk under build/. @return its arguments for quire-run; @p contents: "ext2", or nothing yet"""
    path = os.path.join(BUILD, name)
    os.makedirs(BUILD, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(megabytes << 20)
    if contents:
        mke2fs = shutil.which("mke2fs", path=os.environ["PATH"] + ":/sbin:/usr/sbin")
        subprocess.run([mke2fs or "mke2fs", "-q", "-F", "-t", contents, path], check=True)
    return ["--disk", path]


def boot(name, text, seconds, options, arguments):
    """Run the script @p text, its output in build/selftests/NAME.out meanwhile.

    @return by row number (status, output, seconds), and what is wrong with the kernel
    """
    os.makedirs(BUILD, exist_ok=True)
    path = os.path.join(BUILD, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    command = [os.path.join(ROOT, "tools", "quire-run"), "--arch", options.arch, "--smp", str(options.smp),
               "--mem", options.mem, "--timeout", str(seconds), "--add", path, *arguments, *options.run]
    if options.kernel:
        command += ["--kernel", options.kernel]
    with open(path + ".out", "w", encoding="utf-8") as out, open(path + ".log", "w", encoding="utf-8") as log:
        subprocess.run(command + ["sh " + name], stdout=out, stderr=log, check=False)
    with open(path + ".out", encoding="utf-8", errors="replace") as out:
        said = out.read()
    with open(path + ".log", encoding="utf-8", errors="replace") as log:
        kernel = log.read()
    found = {}
    for part in said.split("\n@@ ")[1:]:
        number, _, output = part.partition("\n")
        end = re.search(r"^@= (\d+) ([\d.]+) ([\d.]+)$", output, re.M)
        found[int(number)] = ((int(end.group(1)), output[:end.start()], float(end.group(3)) - float(end.group(2)))
                              if end else (None, output, 0))
    good = "leak check: every" in kernel
    return found, [] if good else ["the kernel: " + "\n".join(kernel.splitlines()[-20:])]


def result_of(status):
    if status is None:
        return "no end"
    if status in (124, 137):
        return "too slow"
    return {0: "pass", SKIP: "skip"}.get(status, "fail")


def compare(rows, found, judge, verbose):
    """Print one line a row. @return how many are not as expected"""
    failed = 0
    for number, row in enumerate(rows):
        status, output, seconds = found.get(number, (None, "", 0))
        result = judge(row, status, output)
        good = result == row.result
        failed += not good
        print(("ok   " if good else "FAIL ") + f"{row.command}: {result} in {seconds:.1f} s"
              + ("" if good else f" (status {status}), and {row.result} was expected"))
        if not good or verbose:
            print("\n".join("     | " + line for line in output.splitlines()[-15:]))
    return failed


def table(rows, prefix=""):
    lines = ["| test | result | why |", "| --- | --- | --- |"]
    lines += [f"| `{prefix}{row.command}` | {row.result} | {row.why} |" for row in rows]
    counts = [f"{sum(row.result == result for row in rows)} {result}" for result in ("pass", "skip", "fail")]
    other = read_elsewhere(rows)
    lines += ["", f"{len(rows)} rows: {', '.join(counts)}. On the other architectures the quick ones do the same"
              + (", but for:" if other else ".")]
    if other:
        lines += ["", "| test | architectures | result | why |", "| --- | --- | --- | --- |"]
    lines += [f"| `{prefix}{command}` | {', '.join(architectures)} | {result} | {why} |"
              for architectures, command, result, why in other]
    return "\n".join(lines) + "\n"


def check_page(rows, prefix=""):
    """@return 1 where docs/selftests.md says something else"""
    with open(PAGE, encoding="utf-8") as page:
        if table(rows, prefix) in page.read():
            return 0
    print(f"FAIL docs/selftests.md has not what {os.path.basename(sys.argv[0])} --table prints")
    return 1
