#!/bin/sh
# A machine's whole boot by other people's programs, step by step as firmware and iPXE do it: an address and the name of a
# boot program, that by TFTP, an address again as iPXE, the script, kernel and initrd. Usage: full_boot.sh INTERFACE DIRECTORY
# What was fetched lies in DIRECTORY then; each step is told on standard output with its seconds.
set -eu
interface=$1
cd "$2"

begun=$(date +%s%N)
said() {
    now=$(date +%s%N)
    echo "$1 $(((now - begun) / 1000000)) ms"
}

cat > told.sh <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
echo "ip=$ip; mask=$mask; server=${siaddr:-}; file=${boot_file:-}" > told
END
chmod 755 told.sh
# Firmware asks again after 4 seconds.
ask() {
    udhcpc -f -q -n -t 8 -T 4 -i "$interface" -s ./told.sh -O bootfile -x 0x5d:0007 "$@" > log 2>&1 || { cat log; exit 1; }
    . ./told
    ip addr replace "$ip/$mask" dev "$interface"
}

ask -V PXEClient:Arch:00007:UNDI:003016
said address
curl -sS --tftp-blksize 1428 -o program "tftp://$server/$file"
said "program $file"
ask -V PXEClient:Arch:00007:UNDI:003016 -x 0x4d:69505845
said "address of iPXE"
curl -sS --fail -o script "$file"
said script
for word in kernel initrd; do
    url=$(sed -n "s/^$word .*\\(http:[^ ]*\\).*/\\1/p" script | head -n 1)
    curl -sS --fail --retry 2 -o "$word" "$url"
    said "$word"
done
