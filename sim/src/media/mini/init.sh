#!/bin/busybox sh
# /init of the mini guest: takes NoCloud data from a CIDATA volume, configures the network, phones
# home, and stays up until the power button is pressed.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done

# The power button arrives as an input event; busybox's acpid runs /etc/acpi/PWRF/00000080.
mkdir -p /var/run /var/log
acpid -f -l /dev/null &
button=$!

say() { echo "FARRIER-MINI-$*" > /dev/console; }

# With digests: nobody else's initiator that we know of speaks the data digest.
iscsi_options="-P node.conn[0].iscsi.HeaderDigest=CRC32C -P node.conn[0].iscsi.DataDigest=CRC32C"
[ -d /sys/firmware/ibft/ethernet0 ] && . /etc/ibft.sh

# value KEY FILE: the value of a top-level or nested "KEY: value" line of YAML, or of JSON with a key a line,
# without quotes.
value() { sed -n "s/^[ {-]*\"\{0,1\}$1\"\{0,1\}:[ ]*//p" "$2" 2>/dev/null | head -n 1 | sed 's/,$//' | tr -d "\"'"; }

# The volume may be a partition or a whole disk, on any bus, and may take a moment to appear.
seed=
tries=0
while [ -z "$seed" ] && [ $tries -lt 20 ]; do
    seed=$(findfs LABEL=CIDATA 2>/dev/null) || seed=
    [ -z "$seed" ] && { tries=$((tries + 1)); usleep 50000; }
done
if [ -n "$seed" ] && mount -t vfat -o ro "$seed" /mnt; then
    mkdir /run/seed
    cp /mnt/* /run/seed/
    umount /mnt
else
    say NO-SEED
fi
# On an iSCSI disk: proof that it is written to and that it keeps what was written, boot after boot.
if [ -n "$boot_mac" ]; then
    disk=$(findfs LABEL=ESP)
    if mount -t vfat -o sync "$disk" /mnt; then
        count=$(($(cat /mnt/boots 2>/dev/null || echo 0) + 1))
        echo $count > /mnt/boots
        sync
        umount /mnt
        connection=/sys/class/iscsi_connection/connection1:0
        say "ISCSI-DIGESTS header=$(cat $connection/header_digest) data=$(cat $connection/data_digest)."
        say "ISCSI-BOOT count=$count"
    else
        say ISCSI-NO-DISK
    fi
fi
meta=/run/seed/meta-data
user=/run/seed/user-data
net=/run/seed/network-config

name=$(value local-hostname $meta)
[ -n "$name" ] || name=$(value hostname $user)
hostname "${name:-mini}"
instance=$(value instance-id $meta)

# The first interface, or the one network-config names by its MAC.
nic=$(ls /sys/class/net | grep -v '^lo$' | head -n 1)
wanted=$(value macaddress $net | tr A-F a-f)
for candidate in /sys/class/net/*; do
    [ -n "$wanted" ] && [ "$(cat "$candidate/address")" = "$wanted" ] && nic=${candidate##*/}
done
ip link set lo up
ip link set "$nic" up
# The first item of "addresses:", which follows on its own line or in brackets on the same one.
address=$(sed -n '/^ *"\{0,1\}addresses"\{0,1\}:/{s/.*\[\([^],]\{1,\}\).*/\1/;/addresses/{n;s/^[ -]*//};p;q}' $net \
    2>/dev/null | tr -d "\"', ")
if [ -n "$address" ] && [ "$(value dhcp4 $net)" != true ]; then
    ip address add "$address" dev "$nic"
    gateway=$(value gateway4 $net)
    [ -n "$gateway" ] || gateway=$(value via $net)
    [ -n "$gateway" ] && ip route add default via "$gateway"
else
    udhcpc -q -n -t 20 -T 1 -i "$nic" -s /etc/udhcpc.script -x hostname:"$(hostname)" > /dev/null 2>&1 ||
        say NO-LEASE
fi
say "UP hostname=$(hostname) address=$(ip -4 -o address show "$nic" | sed 's/.*inet \([^ ]*\).*/\1/') uptime=$(cut -d' ' -f1 /proc/uptime)"

# cloud-init's phone_home: an indented url, in which it replaces $INSTANCE_ID.
# User data wins over vendor data.
url=$(sed -n '/^phone_home:/,/^[^ ]/s/^ *url: *//p' $user /run/seed/vendor-data 2>/dev/null | head -n 1 | tr -d "\"'" |
    sed "s/\$INSTANCE_ID/$instance/")
if [ -n "$url" ]; then
    tries=0
    # Not wget's own -T: it crashes in the static build.
    until timeout 10 wget -q -O /dev/null --post-data "instance_id=$instance&hostname=$(hostname)&fqdn=$(hostname)" "$url"; do
        tries=$((tries + 1))
        [ $tries -ge 10 ] && break
        sleep 1
    done
    if [ $tries -lt 10 ]; then say PHONED-HOME; else say PHONE-HOME-FAILED; fi
fi
# Ready means that the power button works: acpid holds the event device open.
tries=0
until ls -l "/proc/$button/fd" 2>/dev/null | grep -q /dev/input/ || [ $tries -ge 50 ]; do
    tries=$((tries + 1))
    usleep 20000
done
say READY


# A shell for whoever connects to the console.
while :; do setsid cttyhack sh -i; sleep 1; done
