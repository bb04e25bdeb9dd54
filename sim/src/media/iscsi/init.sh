# Sourced by /init: the machine booted from an iSCSI disk, and the iBFT (ACPI table, shown below /sys/firmware/ibft)
# says from which, as whom, and by which interface. busybox has no lib of its own to set addresses from it.
ibft=/sys/firmware/ibft/ethernet0
boot_mac=$(cat $ibft/mac)
for candidate in /sys/class/net/*; do
    [ "$(cat "$candidate/address")" = "$boot_mac" ] && boot_nic=${candidate##*/}
done
ip link set lo up
ip link set "$boot_nic" up
ip address add "$(cat $ibft/ip-addr)/$(cat $ibft/prefix-len 2>/dev/null || echo 24)" dev "$boot_nic"
gateway=$(cat $ibft/gateway 2>/dev/null)
[ -n "$gateway" ] && [ "$gateway" != 0.0.0.0 ] && ip route add default via "$gateway" dev "$boot_nic"
mkdir -p /run/lock/iscsi
# iscsi_options: what the guest wants beside what the iBFT says.
tries=0
until /sbin/iscsistart -b $iscsi_options > /run/iscsistart.log 2>&1 || [ $tries -ge 30 ]; do
    tries=$((tries + 1))
    sleep 1
done
[ $tries -ge 30 ] && cat /run/iscsistart.log > /dev/console
