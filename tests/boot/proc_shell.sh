#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 300
#
# A shell session of Debian's busybox: pipes, background jobs, traps, job control
# signals, a few hundred forks and execs, the heap's callers by name; what it prints is known.  ARCH and CPUS in
# the environment say where.
set -u
cd "$(dirname "$0")/../.." || exit 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/session" <<'END'
seq 1 1000 | sort -rn | tail -1
echo one two three | tr ' ' '\n' | wc -l | tr -d ' '
(sleep 0.05; echo background) & wait $!
i=0; while [ $i -lt 300 ]; do /bin/true || echo broken; i=$((i + 1)); done; echo forks $i
for i in 1 2 3 4 5 6 7 8; do (seq 1 3000 | md5sum | cut -c1-8) & done; wait
sh -c 'kill -TERM $$'; echo status $?
sh -c 'exit 44'; echo status $?
trap 'echo trapped' USR1; kill -USR1 $$
sleep 100 & job=$!; kill -STOP $job; kill -CONT $job; kill $job; wait $job; echo status $?
yes | head -2
timeout 0.2 sleep 10; echo status $?
echo 'echo from a script $1' >/tmp/script; chmod +x /tmp/script; sed -i '1i #!/bin/sh' /tmp/script; /tmp/script ok
echo 16 >/sys/kernel/debug/heap; sleep 9 & grep -o '^    .* clone_run+' /sys/kernel/debug/heap | cut -d" " -f6 | sort -u | wc -l | tr -d ' '; kill $!; echo 0 >/sys/kernel/debug/heap
echo a >/tmp/f; (echo b; cat /tmp/f) 2>&1 | while read -r line; do echo "<$line>"; done
END
cat >"$work/expected" <<'END'
1
3
background
forks 300
07ad0ec2
07ad0ec2
07ad0ec2
07ad0ec2
07ad0ec2
07ad0ec2
07ad0ec2
07ad0ec2
status 143
status 44
trapped
status 143
y
y
status 143
from a script ok
1
<b>
<a>
END
sed -i "s/^07ad0ec2$/$(seq 1 3000 | md5sum | cut -c1-8)/" "$work/expected"

failures=0
for cpus in ${CPUS:-1 4}; do
    tools/quire-run --arch "${ARCH:-x86_64}" --smp $cpus --timeout 100 --add "$work/session:/root/session" \
        -- 'sh /root/session 2>/dev/null' >"$work/out" 2>"$work/log"
    status=$?
    if [ $status -eq 0 ] && diff "$work/expected" "$work/out" && grep -q '^leak check: every' "$work/log"
    then
        echo "ok   shell session, $cpus CPUs"
    else
        echo "FAIL shell session, $cpus CPUs: status $status"
        tail -5 "$work/log"
        failures=$((failures + 1))
    fi
done
[ $failures -eq 0 ]
