# SPDX-License-Identifier: MIT
#
# Runs on the kernel: names and contents on /dev/vda, an ext2 with the docs in it, by a shell, seen
# again after the next mount (tests/boot/disk.sh, tests/boot/architectures.sh).
set -e
mkdir -p /mnt
mount -t ext2 /dev/vda /mnt
cd /mnt
cp -r . /tmp/copy
for i in $(seq 100); do echo $i >f_$i; done
for i in $(seq 1 2 100); do rm f_$i; done
mv decisions moved
rm -r formats
ln disk.md moved/hard
ln -s disk.md soft
dd if=/dev/urandom of=big bs=1M count=1 2>/dev/null
md5sum big >big.sum
cd /
umount /mnt
mount -t ext2 /dev/vda /mnt
cd /mnt
md5sum -c big.sum
[ $(ls f_* | wc -l) = 50 ]
cmp soft moved/hard
cmp disk.md /tmp/copy/disk.md
[ ! -e formats ]
rm -r /tmp/copy
cd /
umount /mnt
