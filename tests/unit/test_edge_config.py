"""The edge's file as text: what may not stand in it is refused, and what nobody asked for is not there."""

from __future__ import annotations

import pytest

from instar.errors import RouterError
from instar.router.edge.config import EdgePlan, read_plan, render

PLAN = EdgePlan(http=("127.0.0.1:80",), https=("127.0.0.1:443",))
BELIEVES = EdgePlan(http=PLAN.http, https=PLAN.https, accept_proxy=("10.0.0.7", "10.1.0.0/24", "2001:db8::/32"))


def test_servers_in_front_are_asked_who_asks_before_anything_else() -> None:
    text = render(BELIEVES, confined=True)
    assert read_plan(text) == BELIEVES
    for frontend in ("frontend http\n", "frontend https\n"):
        rules = [line for line in text.partition(frontend)[2].splitlines() if "bind " not in line]
        assert rules[:4] == [
            "  acl in-front src 10.0.0.7",
            "  acl in-front src 10.1.0.0/24",
            "  acl in-front src 2001:db8::/32",
            "  tcp-request connection expect-proxy layer4 if in-front",
        ]
    assert "in-front" not in render(PLAN, confined=True) and "accept_proxy" not in render(PLAN, confined=True)


@pytest.mark.parametrize("text", ["", "example.org", "10.0.0.1/8", "10.0.0.0/8\n", "::1 10.0.0.1", "+f x"])
def test_a_network_that_may_not_stand_in_the_file_is_refused(text: str) -> None:
    with pytest.raises(RouterError, match=r"cannot configure the edge: .* is no address of a server in front"):
        render(EdgePlan(http=PLAN.http, https=PLAN.https, accept_proxy=(text,)), confined=True)
