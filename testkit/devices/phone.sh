#!/bin/bash
# The inside of the tests' phone: a root folder with adbd, /data/local/tmp and little else.
# In user, mount, pid and network namespaces of its own: adbd listens everywhere and asks nobody.
#   phone.sh FOLDER PORT
set -e
root=$1
mount -t tmpfs -o size=64m tmpfs "$root"
mkdir -p "$root"/{dev,proc,tmp,etc,usr,bin,lib,lib64,data/local/tmp,system/bin}
for folder in dev etc usr bin lib lib64; do
    [ ! -e /$folder ] || mount --rbind /$folder "$root/$folder"
done
mount -t proc proc "$root/proc"
ip link set lo up
ln -s /bin/sh "$root/system/bin/sh"
cat > "$root/system/bin/getprop" <<'PROPS'
#!/bin/sh
case $1 in
ro.product.model) echo "Test Phone" ;;
ro.soc.model) echo "Loopback SoC" ;;
ro.build.version.release) echo 14 ;;
esac
PROPS
cp "$(dirname "$0")/pi/uname" "$root/system/bin/uname"
chmod +x "$root"/system/bin/{getprop,uname}
"$(dirname "$0")/as-arm.sh" true
mount --bind "$(dirname "$0")/pi/cpuinfo" "$root/proc/cpuinfo"
exec chroot "$root" env -i PATH=/system/bin:/usr/bin:/bin HOME=/data/local/tmp ADBD_PORT="$2" \
    QEMU_CPU=cortex-a76 QEMU_LD_PREFIX=/usr/aarch64-linux-gnu \
    /usr/sbin/adbd
