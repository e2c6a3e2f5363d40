#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 200
#
# q35's memory modules: one that is there at start, one that comes while programs run, is
# used, and goes again while its pages move elsewhere; and one that cannot go because memory
# is too full to take its pages.  KERNEL in the environment names another build.
set -u
cd "$(dirname "$0")/../.." || exit 1

exec /usr/bin/env python3 - "${KERNEL:-}" <<'END'
import json, os, re, socket, subprocess, sys, tempfile, time

work = tempfile.mkdtemp()
monitor = os.path.join(work, "qmp")
session = os.path.join(work, "session")
open(session, "w").write("""
total() { set -- $(grep MemTotal /proc/meminfo); echo $2; }
wait_for() { for i in $(seq 300); do [ $(total) $1 $2 ] && return; sleep 0.1; done; echo timeout; }
echo start $(total)
wait_for -gt 300000
echo cold $(total)
echo PLUG; read go </dev/null
wait_for -gt 420000
echo plugged $(total)
dd if=/dev/urandom of=/tmp/file bs=1M count=180 2>/dev/null
sum=$(md5sum </tmp/file)
echo iomem $(grep -c 'System RAM' /proc/iomem)
echo UNPLUG
wait_for -lt 420000
echo unplugged $(total)
[ "$sum" = "$(md5sum </tmp/file)" ] && echo contents kept
set -- $(grep pgmigrate_success /proc/vmstat); echo moved $2
echo validate >/sys/kernel/debug/memory
dd if=/dev/zero of=/tmp/more bs=1M count=110 2>/dev/null
echo UNPLUG2
sleep 4
echo still $(total)
[ "$sum" = "$(md5sum </tmp/file)" ] && echo contents kept again
echo validate >/sys/kernel/debug/memory
""")
command = ["tools/quire-run", "--mem", "256M,slots=4,maxmem=4G", "--timeout", "150", "--add", session]
if sys.argv[1]:
    command += ["--kernel", sys.argv[1]]
for argument in ["-numa", "node,nodeid=0,memdev=m0", "-object",
                 "memory-backend-ram,id=m0,size=256M",
                 "-object", "memory-backend-ram,id=d0,size=128M",
                 "-device", "pc-dimm,id=dimm0,memdev=d0,node=0",
                 "-qmp", "unix:%s,server=on,wait=off" % monitor]:
    command.append("--qemu=" + argument)
machine = subprocess.Popen(command + ["--", "sh session"], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, errors="replace")
link = None

def qmp(name, **arguments):
    global link
    if link is None:
        s = socket.socket(socket.AF_UNIX)
        s.connect(monitor)
        link = s.makefile("rw")
        link.readline()
        qmp("qmp_capabilities")
    link.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    link.flush()
    while True:
        answer = json.loads(link.readline())
        if "return" in answer or "error" in answer:
            return answer

lines = []
for line in machine.stdout:
    line = line.strip()
    lines.append(line)
    if line == "PLUG":
        qmp("object-add", **{"qom-type": "memory-backend-ram", "id": "d1", "size": 128 << 20})
        qmp("device_add", driver="pc-dimm", id="dimm1", memdev="d1", node=0)
    elif line == "UNPLUG":
        qmp("device_del", id="dimm1")
    elif line == "UNPLUG2":
        qmp("device_del", id="dimm0")
machine.wait()
text = "\n".join(lines)
failed = []

def check(what, condition):
    if not condition:
        failed.append(what)

def number(name):
    found = re.search(r"^%s (\d+)" % name, text, re.M)
    return int(found.group(1)) if found else -1

check("cold module added", number("cold") > 300000)
check("hot module added", number("plugged") > number("cold") + 120000)
check("module removed", 0 < number("unplugged") < number("plugged") - 120000)
check("pages moved", number("moved") > 1000)
check("contents", "contents kept" in text and "contents kept again" in text)
check("a module in use stays", number("still") == number("unplugged") and "it stays" in text)
check("sound structures", text.count("frames   sound") == 2 and "BROKEN" not in text)
check("no timeout", "timeout" not in text)
if failed or machine.returncode:
    print(text)
    print("hotplug: status %s; failed: %s" % (machine.returncode, ", ".join(failed)))
    sys.exit(1)
END
