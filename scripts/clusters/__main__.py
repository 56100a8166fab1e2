"""A real Kubernetes cluster on this machine, for the tests: nodes are namespaces, parts are ordinary processes.

    scripts/cluster build [--tidy]              build its programs, once; --tidy removes Go's caches afterwards
    scripts/cluster up [--nodes N]              start it, or what is missing of it, and wait until it works
    scripts/cluster down                        end it and remove all of it but the programs
    scripts/cluster status                      what runs; exit status 1 when something does not
    scripts/cluster kubectl …                   kubectl, as its administrator
    scripts/cluster push ARCHIVE NAME           an OCI archive into its registry; prints what pods are to name
    scripts/cluster node stop|start N           pull a node's plug, and put it back
    scripts/cluster part kill|stop|start N NAME…   one of a node's programs, such as kubelet or envoy
    scripts/cluster enter N CMD…                run something inside a node

INSTAR_CLUSTER_HOME says where all of it is kept (/var/cache/instar-cluster), INSTAR_CLUSTER_NAME which cluster is meant
(instar-k8s), INSTAR_CLUSTER_NETWORK the first half of its addresses (10.167).
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from clusters import parts
from clusters.api import environment, kubectl
from clusters.cluster import Cluster, say
from clusters.configuration import GATEWAY
from clusters.layout import MOST_NODES, Missing, Unusable, layout
from clusters.programs import build
from clusters.registry import push

_FAILED, _WRONG_USAGE, _MISSING = 1, 64, 69


def main(words: list[str]) -> int:
    """Do what is asked for, and return the exit status."""
    if words[:1] == ["kubectl"]:  # its own options are not ours to read
        where = layout()
        argv = kubectl(where, words[1:])
        if not where.kubeconfig.exists():
            raise Unusable(f"there is no cluster {where.name}: scripts/cluster up")
        os.execve(argv[0], argv, {**os.environ, **environment(where), "PATH": os.environ.get("PATH", "")})
    options = _parser().parse_args(words)
    cluster = Cluster(layout())
    match options.verb:
        case "build":
            build(cluster.layout, tidy=options.tidy)
        case "up":
            _up(cluster, options.nodes)
        case "down":
            cluster.down()
            say(f"{cluster.layout.name} is gone; its programs stay in {cluster.layout.programs}")
        case "status":
            return _status(cluster)
        case "push":
            print(push(cluster.layout, options.archive, options.name))
        case "node":
            (cluster.stop_node if options.what == "stop" else cluster.start_node)(options.number)
        case "part":
            cluster.change_part(options.what, options.number, options.names)
        case "enter":
            argv = cluster.box(options.number).entering(*options.command)
            os.execvp(argv[0], argv)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("build").add_argument("--tidy", action="store_true")
    verbs.add_parser("up").add_argument("--nodes", type=int, choices=range(1, MOST_NODES + 1))
    verbs.add_parser("down")
    verbs.add_parser("status")
    verbs.add_parser("kubectl")
    pushed = verbs.add_parser("push")
    pushed.add_argument("archive")
    pushed.add_argument("name")
    node = verbs.add_parser("node")
    node.add_argument("what", choices=("stop", "start"))
    node.add_argument("number", type=int)
    part = verbs.add_parser("part")
    part.add_argument("what", choices=("kill", "stop", "start"))
    part.add_argument("number", type=int)
    part.add_argument("names", nargs="+", metavar="NAME")
    inside = verbs.add_parser("enter")
    inside.add_argument("number", type=int)
    inside.add_argument("command", nargs=argparse.REMAINDER)
    return parser


def _up(cluster: Cluster, nodes: int | None) -> None:
    started = time.monotonic()
    build(cluster.layout)
    cluster.up(nodes)
    say(f"{cluster.layout.name} works: {cluster.size()} nodes, {time.monotonic() - started:.1f} s")
    _print_facts(cluster)


def _print_facts(cluster: Cluster) -> None:
    where = cluster.layout
    gateway = f"{GATEWAY['namespace']}/{GATEWAY['name']}"
    address = where.control.address
    print(f"KUBECONFIG={where.kubeconfig}")
    print(f"registry   {where.registry}, without TLS")
    print(f"gateway    {gateway}: http://{address}:{parts.GATEWAY_HTTP}, https://{address}:{parts.GATEWAY_HTTPS}")
    print(f"authority  {where.keys / 'ca.crt'}")
    print(f"logs       {where.logs}")


def _status(cluster: Cluster) -> int:
    problems = list(cluster.problems())
    if cluster.size():
        _print_facts(cluster)
        for box in cluster.boxes():
            running = [part for part in parts.parts_of(box.node) if box.find(part)]
            print(f"node {box.node.number}     {box.node.address}  {' '.join(running) or 'stopped'}")
    for problem in problems:
        say(problem)
    return _FAILED if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Unusable as error:
        print(f" failed   {error}", file=sys.stderr)
        sys.exit(_MISSING if isinstance(error, Missing) else _FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
