#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 120
#
# Archives as they should not be: cut short, followed by rubbish, with hostile members.  The kernel
# says what it met, keeps what was good, and never crashes.
. "$(dirname "$0")/boot_common"

busybox=$(command -v busybox) || { echo "busybox is not installed"; exit 77; }

python3 - "$busybox" "$work" <<'PYTHON'
import os
import sys

busybox, work = open(sys.argv[1], "rb").read(), sys.argv[2]


def member(name, mode, data=b"", links=1, inode=1, size=None):
    raw = name + b"\0"
    fields = [inode, mode, 0, 0, links, 0, len(data) if size is None else size, 0, 0, 0, 0,
              len(raw), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


TRAILER = member(b"TRAILER!!!", 0)
CHECK = b"""#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc
[ "$(busybox cat /hard/one 2>/dev/null)" = "$(busybox cat /hard/two 2>/dev/null)" ] || exit 3
busybox find / -xdev | busybox sort >/dev/console
exit 7
"""
good = (member(b"init", 0o100755, CHECK) + member(b"bin", 0o40755)
        + member(b"bin/busybox", 0o100755, busybox) + TRAILER)
hostile = b"".join([
    member(b"../../../../escaped", 0o100644, b"x"),
    member(b"a/../../b", 0o100644, b"x"),
    member(b"///.//./abs", 0o100644, b"x"),
    member(b"n" * 300, 0o100644, b"x"),
    member(b"d/" * 2040 + b"x", 0o100644, b"x"),
    member(b"loop", 0o120777, b"loop"),
    member(b"loop/x", 0o100644, b"x"),
    member(b"empty-link", 0o120777, b""),
    member(b"long-link", 0o120777, b"t" * 5000),
    member(b"odd", 0o070000, b""),
    member(b"device", 0o060644, b""),
    member(b"abs/below-a-file", 0o100644, b"x"),
    member(b".", 0o40755),
    member(b"hard/one", 0o100644, b"", 2, 9),
    member(b"hard/two", 0o100644, b"shared", 2, 9),
    TRAILER, b"\0" * 300])
rubbish = os.urandom(4000)
cases = {
    "good": good,
    "rubbish": good + b"\0" * 100 + b"junk" + rubbish,
    "hostile": hostile + good,
    "huge": good[:-len(TRAILER)] + member(b"huge", 0o100644, b"x", size=0xfffffff0) + TRAILER,
    "cut": good[:len(good) // 2],
    "noise": rubbish,
}
for name, data in cases.items():
    with open(os.path.join(work, name), "wb") as out:
        out.write(data)
PYTHON

boot() {
    machine -m 256 -kernel "$kernel" -initrd "$work/$1"
    log=$(printf '%s\n%s' "$log" "$(cat "$work/console")")
}

boot good
expect "a good archive" 7 /bin/busybox
boot rubbish
expect "rubbish after an archive" 7 "initramfs: damaged at byte" /bin/busybox
boot hostile
expect "hostile members" 7 "initramfs: [0-9]* members could not be unpacked" "^/escaped" "^/b" \
    "^/abs" "^/loop"
boot huge
expect "a member longer than the archive" 7 "initramfs: damaged at byte"
boot cut
expect "an archive cut in the middle" 125 "initramfs: damaged at byte"
boot noise
expect "noise" 125 "initramfs: damaged at byte"
finish
