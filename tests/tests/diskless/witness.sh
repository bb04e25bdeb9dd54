#!/bin/sh
# Runs in a guest whose root file system is on an iSCSI disk of its rack, and says on the console how that goes: what
# has been written and synced, and what the kernel thinks of the session. Once a second; all it needs is in memory
# after the first round.
exec > /dev/ttyS0 2>&1 < /dev/null
written=0
write() {
    while :; do
        written=$((written + 1))
        echo "line $written" >> /var/witness || echo "FARRIER-WITNESS write failed"
        sync -d /var/witness || echo "FARRIER-WITNESS sync failed"
        while read -r device mountpoint type options rest; do
            [ "$mountpoint" = / ] && root="$type ${options%%,*}"
        done < /proc/mounts
        for disk in /sys/class/iscsi_session/session*/device/target*/*:*:*:0/block/*; do
            echo 1 > "$disk/device/rescan"
            read -r sectors < "$disk/size"
        done
        echo "FARRIER-WITNESS synced=$written root=$root. FARRIER-DISK bytes=$((sectors * 512))."
        sleep 1
    done
}
write &
away=0
while :; do
    for session in /sys/class/iscsi_session/session*; do read -r state < "$session/state"; done
    if [ "$state" = LOGGED_IN ]; then away=0; else away=$((away + 1)); fi
    echo "FARRIER-SESSION state=$state away=$away."
    sleep 1
done
