"""The rules that are the same whatever environments there are, as ``nft`` is told them. Words in capitals stand for
what is of a state directory: ``firewall.py`` puts it in.

The ports of names are written over before any other table does that to packets that come in (``dstnat``, -100): another
program that takes a port of every address of this machine for its own does not get what is meant for a name.
"""

from __future__ import annotations

from typing import Final

BRIDGE_HOOKS: Final = """\
table bridge T {
  set links { type ifname; }
  set crafters { type ifname; }
  set own { type ifname . ether_addr . ipv4_addr; }
  set macs { type ether_addr; }
  set addresses { type ipv4_addr; }
  chain guarded { }
  chain arriving { type filter hook prerouting priority -300; policy accept; }
  chain between { type filter hook forward priority -300; policy accept; }
}
"""
BRIDGE_RULES: Final = """
add rule bridge T arriving iifname != "LINKS*" accept
add rule bridge T arriving ether saddr MAC drop
add rule bridge T arriving ip saddr GATEWAY drop
add rule bridge T arriving arp saddr ip GATEWAY drop
add rule bridge T arriving iifname @links goto guarded
add rule bridge T arriving ether saddr @macs drop
add rule bridge T arriving ip saddr @addresses drop
add rule bridge T arriving arp saddr ip @addresses drop
add rule bridge T guarded iifname @crafters ip frag-off & 0x3fff != 0 drop
add rule bridge T guarded iifname . ether saddr . ip saddr @own accept
add rule bridge T guarded iifname . ether saddr . arp saddr ip @own iifname . arp saddr ether . arp saddr ip @own accept
add rule bridge T guarded drop
add rule bridge T between iifname @links drop
add rule bridge T between oifname @links drop
"""
IP_HOOKS: Final = """\
table ip T {
  set guests { type ipv4_addr; }
  set name_servers { type ipv4_addr . ipv4_addr; }
  map senders { type ipv4_addr : verdict; }
  chain others { }
  chain refused { }
  chain postrouting { type nat hook postrouting priority 100; policy accept; }
  chain forward { type filter hook forward priority 0; policy accept; }
  chain arriving { type filter hook prerouting priority -110; policy accept; }
  chain named { type nat hook prerouting priority -105; policy accept; }
}
"""
IP_RULES: Final = """
add rule ip T postrouting ip saddr NETWORK ip daddr != NETWORK masquerade
add rule ip T forward oifname "BRIDGE" iifname != "BRIDGE" ct state established,related accept
add rule ip T forward oifname "BRIDGE" iifname != "BRIDGE" drop
add rule ip T forward oifname "BRIDGE" ip daddr @guests ip saddr != @guests ct direction original drop
add rule ip T arriving ip daddr NETWORK ip daddr != GATEWAY iifname != { "BRIDGE", "lo" } fib daddr type local drop
add rule ip T arriving iifname "BRIDGE" ip saddr vmap @senders
add rule ip T others ip saddr . ip daddr @name_servers udp dport 53 accept
add rule ip T others ip saddr . ip daddr @name_servers tcp dport 53 accept
add rule ip T others fib daddr type { broadcast, anycast, multicast } drop
add rule ip T others fib daddr type local goto refused
add rule ip T others ip daddr NETWORK goto refused
add rule ip T others ip daddr METADATA goto refused
add rule ip T refused meta l4proto tcp reject with tcp reset
add rule ip T refused reject with icmp type admin-prohibited
"""


def members(environment: str) -> str:
    return f"members_{environment}"


def chain_of(environment: str) -> str:
    return f"from_{environment}"
