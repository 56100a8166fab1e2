"""What somebody with root on the machine does to what ties an instance's network, and to the rules for all of them."""

from __future__ import annotations

import json
import re
import subprocess

from intruder import Victim


def _mark(victim: Victim) -> str:
    return (victim.project.home / "id").read_text().strip()


def _link_of(victim: Victim) -> str:
    return f"iv{_mark(victim)}{victim.serial:x}"


def _address_of(victim: Victim) -> str:
    address: str = json.loads((victim.folder / "instance.json").read_text())["guest"]["address"]
    return address


def _outside(*words: str) -> None:
    subprocess.run(words, check=True)


def take_its_link_off_the_bridge(victim: Victim) -> None:
    _outside("ip", "link", "set", _link_of(victim), "nomaster")


def let_its_port_talk_to_others(victim: Victim) -> None:
    _outside("bridge", "link", "set", "dev", _link_of(victim), "isolated", "off")


def let_its_port_learn(victim: Victim) -> None:
    _outside("bridge", "link", "set", "dev", _link_of(victim), "learning", "on")


def shorten_its_packets(victim: Victim) -> None:
    _outside("ip", "link", "set", _link_of(victim), "mtu", "1000")


def name_another_neighbour(victim: Victim) -> None:
    bridge = f"in{_mark(victim)}"
    words = (_address_of(victim), "lladdr", "02:00:00:00:00:07", "dev", bridge, "nud", "permanent")
    _outside("ip", "neigh", "replace", *words)


def forget_its_neighbour(victim: Victim) -> None:
    _outside("ip", "neigh", "del", _address_of(victim), "dev", f"in{_mark(victim)}")


def lead_its_address_elsewhere(victim: Victim) -> None:
    guest = json.loads((victim.folder / "instance.json").read_text())["guest"]
    _outside("bridge", "fdb", "del", bytes.fromhex(guest["mac"]).hex(":"), "dev", _link_of(victim), "master")


def free_it_of_its_address(victim: Victim) -> None:
    table = f"instar_{_mark(victim)}"
    _outside("nft", "flush", "set", "bridge", table, "links")


def give_it_another_s_rights(victim: Victim) -> None:
    table, address = f"instar_{_mark(victim)}", _address_of(victim)
    _outside("nft", "add", "set", "ip", table, "members_evil/dev", "{ type ipv4_addr; }")
    _outside("nft", "add", "element", "ip", table, "members_evil/dev", f"{{ {address} }}")


def take_it_out_of_the_rules(victim: Victim) -> None:
    _outside("nft", "delete", "element", "ip", f"instar_{_mark(victim)}", "senders", f"{{ {_address_of(victim)} }}")


# what all instances share


def delete_the_tables(victim: Victim) -> None:
    for family in ("ip", "bridge"):
        _outside("nft", "delete", "table", family, f"instar_{_mark(victim)}")


def flush_the_rules(victim: Victim) -> None:
    _outside("nft", "flush", "table", "bridge", f"instar_{_mark(victim)}")


def let_it_reach_the_machine(victim: Victim) -> None:
    _outside("nft", "insert", "rule", "ip", f"instar_{_mark(victim)}", "others", "accept")


def hook_in_a_chain(victim: Victim) -> None:
    hook = "{ type filter hook prerouting priority -200; }"
    _outside("nft", "add", "chain", "ip", f"instar_{_mark(victim)}", "evil", hook)


def forget_a_rule(victim: Victim) -> None:
    table = f"instar_{_mark(victim)}"
    listing = ["nft", "-a", "list", "chain", "bridge", table, "guarded"]
    text = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    handle = re.findall(r"drop # handle (\d+)", text)[0]
    _outside("nft", "delete", "rule", "bridge", table, "guarded", "handle", handle)
