#!/bin/busybox sh
# /init of the stock chain's ramdisk: what a careful person would write, nothing that costs time.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo STOCK-INIT > /dev/console
for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done

# argument NAME: its value on the kernel's command line.
argument() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" /proc/cmdline; }

# iPXE has the address already: no second DHCP.
ip link set eth0 up
ip address add "$(argument address)/24" dev eth0
until [ "$(cat /sys/class/net/eth0/carrier)" = 1 ] && [ -b /dev/vda ]; do usleep 10000; done
echo STOCK-READY > /dev/console
if wget -q -O - "$(argument image)" | dd of=/dev/vda bs=1M conv=fsync 2>/dev/null; then
    echo STOCK-WRITTEN > /dev/console
else
    echo STOCK-FAILED > /dev/console
fi
poweroff -f
