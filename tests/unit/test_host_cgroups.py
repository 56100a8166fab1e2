"""Names of groups: none leads out of the hierarchy, or to all of it."""

from __future__ import annotations

import pytest

from instar.errors import HostError
from instar.host.kernel import cgroups


@pytest.mark.parametrize("name", ["instar-abc/..", "instar-abc/../other", "", ".", "/", "a//b"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    for act in (cgroups.members, cgroups.kill, cgroups.remove):
        with pytest.raises(HostError, match="not a name"):
            act(name)
