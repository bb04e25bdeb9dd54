#!/bin/busybox sh
# /init of the Debian guest: finds the root file system by its label and hands over to systemd.
# udev and initramfs-tools would take three times as long to do the same.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done

root=
tries=0
while [ -z "$root" ] && [ $tries -lt 200 ]; do
    root=$(findfs LABEL=root 2>/dev/null) || root=
    [ -z "$root" ] && { tries=$((tries + 1)); usleep 50000; }
done
if ! mount -t ext4 -o rw,noatime "$root" /mnt; then
    echo "FARRIER-DEBIAN-NO-ROOT" > /dev/console
    exec sh
fi
mount --move /dev /mnt/dev
mount --move /sys /mnt/sys
mount --move /proc /mnt/proc
exec switch_root /mnt /sbin/init
