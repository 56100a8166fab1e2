from __future__ import annotations

import time

from instar.model.control import fields, names, needs
from instar.model.lock import ASKED, ESSENTIAL
from instar.model.reasons import explain, groundless, package_roots

CONTROLS = {
    "bash": {"Essential": "yes", "Pre-Depends": "libc6 (>= 2.36), libtinfo6"},
    "libc6": {"Depends": "libgcc-s1"},
    "libgcc-s1": {"Depends": "libc6"},
    "libtinfo6": {},
    "usr-is-merged": {},
    "curl": {"Depends": "libcurl4 (= 7.88) | libcurl4-gnutls:any, libc6"},
    "libcurl4-gnutls": {"Depends": "mail-agent"},
    "mailer": {"Provides": "mail-agent (= 2), other"},
    "evil": {"Depends": "curl"},
}


def test_what_a_package_may_need_is_what_it_names_or_what_provides_that() -> None:
    found = needs(CONTROLS)
    assert found["curl"] == {"libcurl4-gnutls", "libc6"}
    assert found["libcurl4-gnutls"] == {"mailer"}
    assert found["bash"] == {"libc6", "libtinfo6"}
    assert found["usr-is-merged"] == frozenset()


def test_every_entry_is_explained_by_the_shortest_way_and_one_that_nothing_asks_for_is_not() -> None:
    roots = package_roots(CONTROLS, {"curl", "nowhere"})
    assert explain(roots, needs(CONTROLS)) == {
        "bash": ESSENTIAL,
        "usr-is-merged": ESSENTIAL,
        "curl": ASKED,
        "libc6": "needed by bash",
        "libtinfo6": "needed by bash",
        "libgcc-s1": "needed by libc6",
        "libcurl4-gnutls": "needed by curl",
        "mailer": "needed by libcurl4-gnutls",
    }


def test_reasons_that_lead_nowhere_are_none() -> None:
    reasons = {
        "curl": ASKED,
        "libcurl4": "needed by curl",
        "nghttp": "needed by libcurl4",
        "evil": ASKED,
        "worse": "needed by evil",
        "one": "needed by other",
        "other": "needed by one",
        "self": "needed by self",
        "lost": "needed by nobody",
        "bash": ESSENTIAL,
        "unknown": None,
        "below": "needed by unknown",
    }
    roots = {ASKED: {"curl"}, ESSENTIAL: {"bash"}}
    assert groundless(reasons, roots) == ("evil", "lost", "one", "other", "self", "worse")


def test_a_long_chain_takes_as_long_as_it_is() -> None:
    """A second or less of processor time; to go along the chain once for each of its entries would take an hour."""
    count = 200_000
    reasons = {f"p{number}": f"needed by p{number - 1}" for number in range(count, 0, -1)} | {"p0": ASKED}
    begun = time.process_time()
    assert groundless(reasons, {ASKED: {"p0"}}) == ()
    assert time.process_time() - begun < 60


def test_a_paragraph_is_read_as_dpkg_reads_it() -> None:
    """Only a newline ends a line, whatever else Python takes for the end of one."""
    text = "Package: evil\nDescription: x\u2028Package: curl\x0cVersion: 1\n more\x1cPackage: y\n .\n\tlast\n"
    assert fields(text.encode()) == {
        "Package": "evil",
        "Description": "x\u2028Package: curl\x0cVersion: 1\n more\x1cPackage: y\n .\n\tlast",
    }


def test_names_are_read_out_of_every_form_of_a_relation() -> None:
    relation = "a, b (>= 1) | c:any (<< 2), d [amd64],e(=1)|f , "
    assert list(names(relation)) == ["a", "b", "c", "d", "e", "f"]
