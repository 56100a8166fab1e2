"""What somebody with root on the machine does around a running instance: to its network, and to its router."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess

from intruder import Victim, debug
from project import Project


def _undone(victim: Victim, *words: str) -> None:
    victim.undo.append(lambda: subprocess.run(words, check=False, capture_output=True))


def take_its_link_off_the_bridge(victim: Victim) -> None:
    subprocess.run(["ip", "link", "set", victim.link, "nomaster"], check=True)


def take_its_link_down(victim: Victim) -> None:
    subprocess.run(["ip", "link", "set", victim.link, "down"], check=True)


def route_its_packets_elsewhere(victim: Victim) -> None:
    route = [f"{victim.address}/32", "dev", "lo"]
    subprocess.run(["ip", "route", "add", *route], check=True)
    _undone(victim, "ip", "route", "del", *route)


def route_its_packets_by_a_rule(victim: Victim) -> None:
    """Into a table of its own, which leads nowhere."""
    table = str(77_000 + victim.serial)
    subprocess.run(["ip", "rule", "add", "to", victim.address, "table", table], check=True)
    subprocess.run(["ip", "route", "add", "blackhole", "default", "table", table], check=True)
    _undone(victim, "ip", "rule", "del", "to", victim.address, "table", table)
    _undone(victim, "ip", "route", "flush", "table", table)


def _nft(victim: Victim, rules: str) -> None:
    table = f"intruder_{victim.id}"
    subprocess.run(["nft", "-f", "-"], input=f"table ip {table} {{\n{rules}\n}}\n".encode(), check=True)
    _undone(victim, "nft", "delete", "table", "ip", table)


_NAT = "chain evil {{\ntype nat hook {hook} priority -110;\n{rule}\n}}"


def send_its_packets_elsewhere(victim: Victim) -> None:
    """Of others than the router, so that it goes on serving."""
    rule = f"ip daddr {victim.address} tcp dport 9 dnat to 203.0.113.7"
    _nft(victim, _NAT.format(hook="prerouting", rule=rule))


def send_others_to_it(victim: Victim) -> None:
    _nft(victim, _NAT.format(hook="prerouting", rule=f"tcp dport 9 dnat to {victim.address}"))


def send_the_router_s_packets_elsewhere(victim: Victim) -> None:
    port = victim.project.ports["dev"]
    _nft(victim, _NAT.format(hook="prerouting", rule=f"tcp dport {port} redirect to :9"))


def delete_the_table(victim: Victim) -> None:
    found = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    families = re.findall(rf"^table (\w+) instar_{victim.id} ", found, re.M)
    for family in families:
        name = (family, f"instar_{victim.id}")
        subprocess.run(["nft", "delete", "table", *name], check=True)  # the agent puts it right


# -- who sends it traffic --------------------------------------------------------------------------------------------


def haproxies(project: Project) -> list[int]:
    """Return the processes of the project's routers."""
    found = subprocess.run(
        ["pgrep", "-f", f"haproxy .*{project.home}/routers/"], capture_output=True, text=True, check=True
    )
    return [int(pid) for pid in found.stdout.split()]


def tell_haproxy(victim: Victim, command: str) -> None:
    (path,) = (victim.project.home / "run/routers").glob("*.sock")
    folder = os.open(path.parent, os.O_PATH)  # a socket's path has its limits
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"/proc/self/fd/{folder}/{path.name}")
        client.sendall(f"{command}\n".encode())
        client.recv(1000)
    os.close(folder)


def change_a_weight(victim: Victim) -> None:
    tell_haproxy(victim, "set server instances/s1 weight 7")


def add_a_server(victim: Victim) -> None:
    tell_haproxy(victim, "add server instances/evil 127.0.0.1:9")
    tell_haproxy(victim, "enable server instances/evil")


def move_a_check(victim: Victim) -> None:
    tell_haproxy(victim, "set server instances/s1 check-port 9")


def end_a_check(victim: Victim) -> None:
    tell_haproxy(victim, "disable health instances/s1")


def lower_maxconn(victim: Victim) -> None:
    tell_haproxy(victim, "set maxconn global 99")


def lower_a_frontend_s_maxconn(victim: Victim) -> None:
    tell_haproxy(victim, "set maxconn frontend public 99")


def limit_the_rate(victim: Victim) -> None:
    tell_haproxy(victim, "set rate-limit sessions global 5000")


def pause_the_frontend(victim: Victim) -> None:
    tell_haproxy(victim, "disable frontend public")


def believe_everybody(victim: Victim) -> None:
    """What any client says of where its request came from."""
    tell_haproxy(victim, "add acl #0 0.0.0.0/0")


def debug_haproxy(victim: Victim) -> None:
    debug(victim, haproxies(victim.project)[0])


def remove_the_router_s_file(victim: Victim) -> None:
    (victim.project.home / "routers/hello/dev/haproxy.cfg").unlink()


def remove_the_holder_s_record(victim: Victim) -> None:
    (victim.project.home / "routers/hello/dev/holder.json").unlink()


def stop_the_holder(victim: Victim) -> None:
    record = json.loads((victim.project.home / "routers/hello/dev/holder.json").read_text())
    os.kill(record["process"]["pid"], signal.SIGSTOP)


def edit_the_router_s_file(victim: Victim) -> None:
    path = victim.project.home / "routers/hello/dev/haproxy.cfg"
    text = path.read_text()
    path.write_text(re.sub(r"timeout connect 2s", "timeout connect 9s", text))


def break_the_router_s_file(victim: Victim) -> None:
    path = victim.project.home / "routers/hello/dev/haproxy.cfg"
    path.write_text("\n".join(path.read_text().splitlines()[1:]))
