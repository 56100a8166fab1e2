"""The filter, as a translation of the distribution's profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from instar.errors import ComponentMissing
from instar.host.isolation import seccomp


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rules = [
        {"names": ["read", "mount", "clone", "clone3"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "all",
         "includes": {}, "excludes": {}},
        {"names": ["nice"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "errno": "EACCES"},
        {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["s390_only"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "arm64"]}},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
    ]  # fmt: skip
    path = tmp_path / "seccomp.json"
    source = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS", "syscalls": rules}
    path.write_text(json.dumps(source))
    monkeypatch.setattr(seccomp, "PROFILE", path)
    monkeypatch.setattr("os.uname", lambda: type("uname", (), {"machine": "x86_64"}))
    seccomp._source.cache_clear()
    yield path
    seccomp._source.cache_clear()


def _rules(made: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [rule for rule in made["syscalls"] if name in rule["names"]]


def test_it_is_for_one_architecture_and_its_own_rules(profile: Path) -> None:
    made = seccomp.profile()
    assert made["architectures"] == ["SCMP_ARCH_X86_64"]
    assert made["defaultErrnoRet"] == 38
    assert _rules(made, "arch_prctl")
    assert not _rules(made, "s390_only")
    assert _rules(made, "personality")[0]["args"] == [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]
    assert {key for rule in made["syscalls"] for key in rule} == {"names", "action", "args", "errnoRet"}


def test_capabilities_decide_what_they_decide_in_the_profile(profile: Path) -> None:
    assert [rule["action"] for rule in _rules(seccomp.profile(), "chroot")] == ["SCMP_ACT_ERRNO"]
    assert [rule["action"] for rule in _rules(seccomp.profile(["CAP_SYS_CHROOT"]), "chroot")] == ["SCMP_ACT_ALLOW"]


@pytest.mark.parametrize("capabilities", [(), ("CAP_SYS_ADMIN", "CAP_SYS_PTRACE")])
def test_what_is_taken_out_stays_out_whoever_asks(profile: Path, capabilities: tuple[str, ...]) -> None:
    made = seccomp.profile(capabilities)
    for name in ("mount", "unshare", "setns", "keyctl", "ptrace", "bpf", "io_uring_setup", "move_mount", "umount2"):
        (rule,) = _rules(made, name)
        assert (rule["action"], rule["errnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    (clone3,) = _rules(made, "clone3")
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    (clone,) = _rules(made, "clone")
    assert clone["args"][0]["value"] == 0x7E020000


def test_without_the_profile_it_says_how_to_get_it(profile: Path) -> None:
    profile.unlink()
    with pytest.raises(ComponentMissing) as failure:
        seccomp.profile()
    assert failure.value.hint == "apt-get install golang-github-containers-common"
