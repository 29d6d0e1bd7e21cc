#!/bin/sh
# In a user and mount namespace of its own: let programs for aarch64 run by themselves, through qemu,
# and let the machine call itself a Raspberry Pi 5. Then run the arguments. Nothing outside changes
# (kernel 6.7 or newer).
set -e
pi=$(dirname "$0")/pi
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":qemu-aarch64:M::$magic:$mask:$(command -v qemu-aarch64):F" > /proc/sys/fs/binfmt_misc/register
export QEMU_CPU=cortex-a76 QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
mount --bind "$pi/cpuinfo" /proc/cpuinfo
mount --bind "$pi/uname" "$(readlink -f "$(command -v uname)")"
[ ! -d "$HOME/bin" ] || PATH=$HOME/bin:$PATH # as Raspberry Pi OS has it
exec "$@"
