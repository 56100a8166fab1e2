"""What is told to apt's solver of an image, and read of what it says."""

from instar.fetch.apt_status import BrokenPackage, broken, status_text
from instar.model.control import fields

CONTROL = {"Package": "liba", "Version": "1:1.0-1", "Architecture": "amd64"}


def test_a_status_has_what_a_solver_needs_and_a_line_each() -> None:
    told = status_text([{**CONTROL, "Depends": "b,\n c (>= 1)\n\nPackage: evil", "Filename": "/etc/shadow"}])
    assert told.endswith("\n\n") and told.count("\n\n") == 1 and "shadow" not in told
    found = fields(told.encode())
    assert (found["Package"], found["Status"]) == ("liba", "install ok installed")
    assert found["Depends"] == "b,  c (>= 1) Package: evil"
    assert status_text([]) == ""


def test_what_apt_would_change() -> None:
    told = (
        "Reading package lists...\n"
        "Inst liba [1.0] (1.1 Debian:12/stable [amd64])\n"
        "Inst libc6:i386 [2.36-9] (2.36-10 Debian:12/stable [i386]) []\n"
        "Inst new (1.0 Debian:12/stable [amd64])\n"
        "Inst same [1.0] (1.0 Debian:12/stable [amd64])\n"
        "Remv old [3.0]\nConf liba (1.1)\n"
    )
    assert list(broken(told)) == [
        BrokenPackage("liba", "1.0", "1.1"),
        BrokenPackage("libc6", "2.36-9", "2.36-10"),
        BrokenPackage("old", "3.0", None),
    ]
    assert str(BrokenPackage("liba", "1.0", "1.1")) == "the base has 'liba' 1.0, and 1.1 is needed"
    assert not list(broken(""))
