"""A script that asks other environments by the names that instances find them by, and prints what they answer."""

from __future__ import annotations

_FIND = r"""
query() {
  printf "\\000\\$(printf %03o $((${#1} + 18)))"
  printf '\022\064\001\000\000\001\000\000\000\000\000\000'
  IFS=.; for part in $1; do printf "\\$(printf %03o ${#part})$part"; done; IFS=' '
  printf '\000\000\001\000\001'
}
dns=$(grep nameserver /etc/resolv.conf | head -n 1 | tr -d 'a-z ')
find_one() {
  grep " $1\$" /etc/hosts | busybox cut -d ' ' -f 1 | grep . && return
  { query "$1.cluster.local"; sleep 0.3; } | nc "$dns" 53 \
    | busybox tail -c 4 | busybox od -A n -t u1 | busybox tr -s ' ' . | busybox cut -c 2-
}
ask() {
  at=$(find_one "$1")
  { printf 'GET / HTTP/1.0\r\n\r\n'; sleep 0.3; } | nc "$at" "$2" || echo "nobody answers at $at"
}
"""  # a static BusyBox asks no name server


def asking(*variables: str) -> tuple[str, ...]:
    """Return a command that asks all the while, each of whom ``variables`` of the environment begin with ("SHOP")."""
    each = "; ".join(f'ask "${one}_HOST" "${one}_PORT"' for one in variables)
    return ("sh", "-c", f"{_FIND}\ntrap exit TERM; while :; do {each}; sleep 0.3; done")
