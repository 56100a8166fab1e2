"""What somebody with root on the machine does to and around a running instance, and can take back: each way leaves in
``victim.undo`` how."""

from __future__ import annotations

import subprocess

from intruder import Victim


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _undone(victim: Victim, *words: str) -> None:
    victim.undo.append(lambda: subprocess.run(words, check=False, capture_output=True))


# -- which way packets to it go --------------------------------------------------------------------------------------


def _lead_astray(victim: Victim, *picks: str) -> None:
    """Have packets that are picked out asked about in a table of the intruder's, which leads them elsewhere."""
    table = str(77_000 + victim.serial)
    _run("ip", "route", "add", victim.address, "dev", "lo", "table", table)
    _undone(victim, "ip", "route", "flush", "table", table)
    _run("ip", "rule", "add", *picks, "table", table, "pref", "999")
    _undone(victim, "ip", "rule", "del", "pref", "999")


def lead_requests_astray(victim: Victim) -> None:
    _lead_astray(victim, "ipproto", "tcp", "dport", "8080", "to", victim.address)


def lead_the_router_astray(victim: Victim) -> None:
    _lead_astray(victim, "uidrange", "100-120")


def lead_marked_packets_astray(victim: Victim) -> None:
    _lead_astray(victim, "fwmark", "7")


def drop_marked_packets(victim: Victim) -> None:
    _run("ip", "rule", "add", "fwmark", "7", "blackhole", "pref", "999")
    _undone(victim, "ip", "rule", "del", "pref", "999")


def _nft(victim: Victim, family: str, hook: str, rule: str) -> None:
    table = f"intruder_{victim.id}"
    text = f"table {family} {table} {{\nchain evil {{\n{hook};\n{rule}\n}}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)
    _undone(victim, "nft", "delete", "table", family, table)


def rewrite_where_its_packets_go(victim: Victim) -> None:
    rule = f"ip daddr {victim.address} tcp dport 9 ip daddr set 203.0.113.7"
    _nft(victim, "ip", "type filter hook output priority -150", rule)


def rewrite_at_its_link(victim: Victim) -> None:
    rule = "tcp dport 9 ip saddr set 203.0.113.7"
    _nft(victim, "netdev", f"type filter hook ingress device {victim.link} priority 0", rule)


def rewrite_its_hardware_address(victim: Victim) -> None:
    rule = f'oifname "{victim.link}" tcp dport 9 ether daddr set 02:00:00:00:00:07'
    _nft(victim, "bridge", "type filter hook output priority 0", rule)


def copy_its_packets(victim: Victim) -> None:
    rule = 'tcp dport 9 dup to "lo"'
    _nft(victim, "netdev", f"type filter hook ingress device {victim.link} priority 0", rule)


def keep_it_out_of_the_connections(victim: Victim) -> None:
    """Every answer of it would be refused then, if it were not for a port that nobody asks."""
    _nft(victim, "ip", "type filter hook prerouting priority -300", f"ip saddr {victim.address} tcp dport 9 notrack")
