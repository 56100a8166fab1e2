"""What somebody with root on the machine does to and around a running instance, and can take back: each way leaves in
``victim.undo`` how."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from intruder import Victim
from intruder_around import haproxies, tell_haproxy


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
    picked = ("fwmark", "7", "to", victim.address)  # those of others that are tested beside it are theirs
    _run("ip", "rule", "add", *picked, "blackhole", "pref", "999")
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


# -- its port, its place in the tables, the bridge -------------------------------------------------------------------


def block_its_port(victim: Victim) -> None:
    _run("bridge", "link", "set", "dev", victim.link, "state", "0")
    _undone(victim, "bridge", "link", "set", "dev", victim.link, "state", "3")


def turn_its_packets_back(victim: Victim) -> None:
    _run("bridge", "link", "set", "dev", victim.link, "hairpin", "on")
    _undone(victim, "bridge", "link", "set", "dev", victim.link, "hairpin", "off")


def _add_element(victim: Victim, family: str, name: str, element: str) -> None:
    where = (family, f"instar_{victim.id}", name, f"{{ {element} }}")
    _run("nft", "add", "element", *where)
    _undone(victim, "nft", "delete", "element", *where)


def name_another_router(victim: Victim) -> None:
    """Inside, so that nobody is reached any more."""
    inside = ("nsenter", "-t", str(victim.pid), "-n", "ip", "neigh", "add", "203.0.113.7")
    _run(*inside, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
    _undone(victim, *inside[:-2], "del", "203.0.113.7", "dev", "eth0")


def open_a_door(victim: Victim) -> None:
    """Who may reach its environment's router may reach the machine's shell then."""
    _add_element(victim, "ip", "doors_hello/dev", "192.0.2.2 . 22")


def let_a_stranger_in(victim: Victim) -> None:
    _add_element(victim, "ip", "guests", "203.0.113.7")


def let_a_stranger_send(victim: Victim) -> None:
    _add_element(victim, "ip", "senders", "203.0.113.7 : accept")


def let_a_stranger_pass(victim: Victim) -> None:
    _add_element(victim, "bridge", "links", "evil0")


def pass_nothing_on(victim: Victim) -> None:
    """Of what comes over the bridge."""
    path = Path(f"/proc/sys/net/ipv4/conf/in{victim.id}/forwarding")
    path.write_text("0")
    victim.undo.append(lambda: path.write_text("1"))


def shorten_the_bridge_s_packets(victim: Victim) -> None:
    mtu = Path(f"/sys/class/net/in{victim.id}/mtu")
    before = mtu.read_text()
    mtu.write_text("600")
    victim.undo.append(lambda: mtu.write_text(before))


def be_the_metadata_service(victim: Victim) -> None:
    address = ("169.254.169.254/32", "dev", f"in{victim.id}")
    _run("ip", "address", "add", *address)
    _undone(victim, "ip", "address", "del", *address)


def join_the_bridge(victim: Victim) -> None:
    _run("ip", "link", "add", "evil0", "type", "veth", "peer", "name", "evil1")
    _undone(victim, "ip", "link", "del", "evil0")
    _run("ip", "link", "set", "evil0", "master", f"in{victim.id}")


def answer_for_everybody(victim: Victim) -> None:
    path = Path(f"/proc/sys/net/ipv4/conf/in{victim.id}/proxy_arp")
    path.write_text("1")
    victim.undo.append(lambda: path.write_text("0"))


# -- its control group, its init -------------------------------------------------------------------------------------


def _set(victim: Victim, path: Path, value: str, before: str | None = None) -> None:
    kept = path.read_text().strip() if before is None else before
    path.write_text(value)
    victim.undo.append(lambda: path.write_text(kept))


def have_it_wait_when_memory_is_short(victim: Victim) -> None:
    """Instead of being ended (v1), or have all of it ended (v2)."""
    _set(victim, victim.cgroup_file("memory.oom_control", "memory.oom.group"), "1", "0")


def let_it_save_up_time(victim: Victim) -> None:
    _set(victim, victim.cgroup_file("cpu.cfs_burst_us", "cpu.max.burst"), "1000")


def take_its_buffers(victim: Victim) -> None:
    """v2 has no limit of its own for them."""
    _set(victim, victim.cgroup_file("memory.kmem.tcp.limit_in_bytes", "memory.high"), "65536")


def limit_it_once_more(victim: Victim) -> None:
    below = victim.cgroup_file("freezer.state", "cgroup.freeze").parent / "below"
    below.mkdir()
    victim.undo.append(below.rmdir)


def stop_its_init(victim: Victim) -> None:
    os.kill(victim.pid, signal.SIGSTOP)
    victim.undo.append(lambda: os.kill(victim.pid, signal.SIGCONT))


# -- its router ------------------------------------------------------------------------------------------------------


def lower_a_server_s_maxconn(victim: Victim) -> None:
    tell_haproxy(victim, "set maxconn server instances/s1 7")
    victim.undo.append(lambda: tell_haproxy(victim, "set maxconn server instances/s1 0"))


def trace_every_request(victim: Victim) -> None:
    tell_haproxy(
        victim, "trace h1 sink buf0; trace h1 level developer; trace h1 verbosity complete; trace h1 start now"
    )
    victim.undo.append(lambda: tell_haproxy(victim, "trace h1 stop now"))


def have_haproxy_ended_first(victim: Victim) -> None:
    _set(victim, Path(f"/proc/{haproxies(victim.project)[0]}/oom_score_adj"), "1000")


def have_haproxy_wait(victim: Victim) -> None:
    pid = haproxies(victim.project)[0]
    before = os.getpriority(os.PRIO_PROCESS, pid)
    os.setpriority(os.PRIO_PROCESS, pid, 19)
    victim.undo.append(lambda: os.setpriority(os.PRIO_PROCESS, pid, before))


def limit_haproxy(victim: Victim) -> None:
    pid = haproxies(victim.project)[0]
    group = victim.cgroup_file("pids.max").parents[1] / "evil"
    before = next(
        line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if _has_pids(line)
    )
    group.mkdir()
    victim.undo.append(lambda: Path(group.parents[1], before.lstrip("/"), "cgroup.procs").write_text(str(pid)))
    victim.undo.append(group.rmdir)
    (group / "cgroup.procs").write_text(str(pid))


def _has_pids(line: str) -> bool:
    return line.split(":", 2)[1] in ("pids", "")
