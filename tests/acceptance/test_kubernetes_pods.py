"""What a pod can do, as it is seen from inside; and pods are ended one at a time, as for a node: no request is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_kubernetes_members import members

from instar.errors import ProviderUnavailable
from instar.providers.kubernetes.kinds import POD, Kind
from instar.waiting import Deadline, until
from kubernetes_author import Author, Requests, authoring

pytestmark = pytest.mark.cluster


LOOK = (
    "id -u; grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs):' /proc/self/status | tr -d '\\t'; "
    "touch /x 2>&1; touch /bin/x 2>&1; ls /var/run/secrets/kubernetes.io 2>&1; "
    "for one in /tmp /run /dev/shm; do touch $one/x && echo $one; done"
)
SEEN = """\
10001
CapEff:0000000000000000
CapBnd:0000000000000000
NoNewPrivs:1
Seccomp:2
touch: /x: Read-only file system
touch: /bin/x: Read-only file system
ls: /var/run/secrets/kubernetes.io: No such file or directory
/tmp
/run
/dev/shm
"""


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Author]:
    with authoring(tmp_path_factory.mktemp("pods")) as made:
        made.write(rollout="{strategy: blue-green}", more="volumes: [{name: data, path: /data, access: shared}]")
        made.deploy()
        yield made
        made.instar("destroy", "prod", "--volumes", "--yes")
        assert made.left() == []


def evict(author: Author, pod: str) -> None:
    """Ask for a pod's end as ``kubectl drain`` does."""
    kind = Kind(name="Eviction", plural=f"pods/{pod}/eviction")
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    author.namespace.api.create(kind, author.namespace.name, body)


def are_replaced(author: Author, pods: list[str]) -> bool:
    """Tell whether none of the pods is there any more, and as many others answer."""
    there = {one["metadata"]["name"] for one in author.namespace.api.list(POD, author.namespace.name, {})}
    return not there & set(pods) and len(members(author)) == 2


def test_a_pod_can_do_no_more_than_its_work(author: Author) -> None:
    for pod in members(author):
        status, printed = author.namespace.api.run(author.namespace.name, pod, ("sh", "-c", LOOK), 10)
        assert (status, printed) == (0, SEEN)


def test_two_pods_have_a_shared_volume_at_once(author: Author) -> None:
    run, where = author.namespace.api.run, author.namespace.name
    one, other = members(author)
    assert run(where, one, ("sh", "-c", "echo from one >/data/story"), 10) == (0, "")
    assert run(where, other, ("sh", "-c", "cat /data/story; echo from the other >>/data/story"), 10) == (
        0,
        "from one\n",
    )
    assert run(where, one, ("cat", "/data/story"), 10) == (0, "from one\nfrom the other\n")


def test_pods_are_evicted_one_after_the_other_and_no_request_is_lost(author: Author) -> None:
    first = members(author)
    assert len(first) == 2
    with Requests(author) as asked:
        for number in range(2):
            here = members(author)
            one, other = sorted(here, key=lambda name: name not in first)
            evict(author, one)
            with pytest.raises(ProviderUnavailable, match="the cluster says 429: Cannot evict pod"):
                evict(author, other)
            assert until(lambda one=one: are_replaced(author, [one]), Deadline.after(60), every_s=0.2), number
        before = asked.answers.total()
        assert until(lambda: asked.answers.total() > before + 50, Deadline.after(30), every_s=0.1)
    assert set(asked.answers) == {"1 hello s3cret"}, asked.answers
    assert asked.answers.total() > 200
    assert not {*members(author)} & {*first}
    assert author.json("drift", "prod")["clean"]
