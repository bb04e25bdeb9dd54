#!/bin/sh
# Called by udhcpc with what it learned in the environment.
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip address flush dev "$interface"
ip address add "$ip/${mask:-24}" dev "$interface"
for gateway in $router; do
    ip route add default via "$gateway" dev "$interface" && break
done
: > /etc/resolv.conf
for server in $dns; do echo "nameserver $server" >> /etc/resolv.conf; done
