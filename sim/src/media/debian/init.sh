#!/bin/busybox sh
# /init of the Debian guest: finds the root file system by its label and hands over to systemd.
# udev and initramfs-tools would take three times as long to do the same.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done

[ -d /sys/firmware/ibft/ethernet0 ] && . /etc/ibft.sh
# The network it came by must stay: systemd-networkd keeps the address, and asks for it by DHCP like any other's.
if [ -n "$boot_mac" ]; then
    mkdir -p /run/systemd/network
    printf '[Match]\nMACAddress=%s\n[Network]\nDHCP=ipv4\nKeepConfiguration=yes\n' "$boot_mac" > /run/systemd/network/05-ibft.network
fi

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
# systemd finds what is below /run: the network's description above.
mount -t tmpfs -o mode=755 tmpfs /mnt/run
[ -d /run/systemd ] && cp -r /run/systemd /mnt/run/
mount --move /dev /mnt/dev
mount --move /sys /mnt/sys
mount --move /proc /mnt/proc
exec switch_root /mnt /sbin/init
