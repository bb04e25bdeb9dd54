"""Asks for an address over InfiniBand (RFC 4390), in packets that scapy writes and reads.

Linux makes no InfiniBand port out of nothing, so no DHCP client can be had to believe in one. Each argument is a client identifier
in hex. For each: DHCPDISCOVER, DHCPOFFER, DHCPREQUEST, DHCPACK; of each answer a line.
"""

import sys

from scapy.all import BOOTP, DHCP, IP, UDP, Ether, conf, get_if_hwaddr, srp1

conf.checkIPaddr = False  # An answer is from the server, and the question was to everybody.
conf.verb = 0


def say(xid, client_id, options):
    # RFC 4390 section 2.1: no hardware address, and the broadcast flag.
    bootp = BOOTP(op=1, htype=32, hlen=0, xid=xid, flags=0x8000, chaddr=bytes(16))
    dhcp = DHCP(options=[*options, ("client_id", client_id), "end"])
    frame = Ether(src=get_if_hwaddr("c0"), dst="ff:ff:ff:ff:ff:ff")
    packet = frame / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / bootp / dhcp
    answer = srp1(packet, iface="c0", timeout=10)
    if answer is None:
        sys.exit(f"no answer to {options} of {client_id.hex()}")
    told, of = answer[BOOTP], {option[0]: option[1] for option in answer[DHCP].options if len(option) > 1}
    print(
        f"type={of['message-type']} frame={answer[Ether].dst} to={answer[IP].dst} htype={told.htype} hlen={told.hlen}",
        f"chaddr={told.chaddr.hex()} ip={told.yiaddr} client_id={of['client_id'].hex()}",
    )
    return told.yiaddr, of["server_id"]


for xid, argument in enumerate(sys.argv[1:], 0x4390):
    client_id = bytes.fromhex(argument)
    address, server = say(xid, client_id, [("message-type", "discover")])
    wanted = [("message-type", "request"), ("requested_addr", address), ("server_id", server)]
    say(xid, client_id, wanted)
