"""Every rule of a definition, by a definition that breaks it alone."""

import pytest
from definition_problems import problems_of

TOP = "name: shop\n"
IMAGE = "image: {base: debian:bookworm}\n"
SERVICE = "service: {command: [./shop], port: 8080}\n"
ENVIRONMENTS = "environments: {dev: {listen: 127.0.0.1:80}}\n"


def image(rest: str) -> str:
    return f"{TOP}image: {{base: debian:bookworm, {rest}}}\n{SERVICE}{ENVIRONMENTS}"


def service(rest: str) -> str:
    return f"{TOP}{IMAGE}service: {{command: [./shop], {rest}}}\n"


def environments(rest: str, port: str = "port: 8080") -> str:
    return f"{TOP}{IMAGE}service: {{command: [./shop], {port}}}\nenvironments:\n{rest}"


def test_the_pieces_that_these_tests_break_are_sound() -> None:
    assert problems_of(TOP + IMAGE + SERVICE + ENVIRONMENTS) == []


@pytest.mark.parametrize("name", ["Shop", "9shop", "shop_1", "", "s" * 32, "-shop", "shop\n", "sho p"])
def test_names(name: str) -> None:
    [problem] = problems_of(f'name: "{name}"\n'.replace("\n", "\\n", name.count("\n")) + IMAGE + SERVICE)
    assert problem.startswith("1:7: name: expected a name of a-z, 0-9 and '-'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{TOP}{SERVICE}", "1:1: 'image' is missing"),
        (f"{TOP}{IMAGE}service: {{}}\n", "3:1: service: 'command' is missing; expected a list of words"),
        (
            f"{TOP}{IMAGE}service: {{command: [x], prot: 1}}\n",
            "3:25: service: unknown key 'prot'; did you mean 'port'?",
        ),
        (
            f"{TOP}{IMAGE}service: {{command: [x], env: {{}}}}\n",
            "there is no 'env' here; variables stand in an environment's 'config'",
        ),
        (
            f"{TOP}{IMAGE}{SERVICE}command: [x]\n",
            "unknown key 'command'; expected name, build, image, service, roles, registry, defaults or environments",
        ),
        (
            f"{TOP}image:\n{SERVICE}",
            "2:7: image: expected a section that says what the image is made of, found nothing",
        ),
        (f"{TOP}image: [x]\n{SERVICE}", "2:1: image: expected a section that says what the image is made of, found a"),
    ],
)
def test_keys(text: str, expected: str) -> None:
    [problem] = problems_of(text)
    assert expected in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (IMAGE, None),
        (f"{IMAGE}environments: {{}}\n", None),
        (
            f"{IMAGE}{ENVIRONMENTS}",
            "1:1: 'service' is missing; expected a section that says how the service runs, or no",
        ),
        (
            "image: {base: debian:bookworm, slim: true}\n",
            "2:38: image.slim: what a service needs is left, and there is",
        ),
        (
            "image: {base: debian:bookworm, strip: [docs, shell]}\n",
            "2:32: image.strip: 'shell' is for the image of a service",
        ),
        (f"{IMAGE}servce: {{command: [x]}}\n", "3:1: unknown key 'servce'; did you mean 'service'?"),
    ],
)
def test_a_definition_without_a_service(text: str, expected: str | None) -> None:
    assert [problem.startswith(expected or "?") for problem in problems_of(TOP + text)] == [True] * bool(expected)


@pytest.mark.parametrize(
    ("base", "advice"),
    [
        ("debian:12", "did you mean 'debian:bookworm'?"),
        ("bookworm", "did you mean 'debian:bookworm'?"),
        ("bokworm", "did you mean 'debian:bookworm'?"),
        ("ubuntu:22.04", "is written as {oci: 'docker.io/library/ubuntu:22.04'}"),
        ("nginx:latest", "is written as {oci: 'docker.io/library/nginx:latest'}"),
        ("nginx", "is written as {oci: 'docker.io/library/nginx:latest'}"),
        ("bitnami/redis:7", "is written as {oci: 'docker.io/bitnami/redis:7'}"),
        ("ghcr.io/team/base", "is written as {oci: 'ghcr.io/team/base:latest'}"),
        (f"nginx@sha256:{'1' * 64}", f"is written as {{oci: 'docker.io/library/nginx@sha256:{'1' * 64}'}}"),
        ("an image", "found 'an image'"),
        ("debian:", "found 'debian:'"),
        ("debian:../x", "found 'debian:../x'"),
    ],
)
def test_base(base: str, advice: str) -> None:
    [problem] = problems_of(f'{TOP}image: {{base: "{base}"}}\n{SERVICE}')
    assert problem.startswith("2:15: image.base: expected 'debian:' and a suite") and problem.endswith(advice)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ('packages: ["curl:amd64"]', "packages are of this machine's own architecture; write 'curl'"),
        ("packages: [curl/stable]", "the suite is that of 'base', or one of 'suites'; write 'curl'"),
        ("packages: [Curl]", "names of packages are lower-case; write 'curl'"),
        ("packages: [curl-]", "found 'curl-'"),
        ("packages: [-oDebug]", "found '-oDebug'"),
        ("packages: ['curl=']", "found 'curl='"),
        ("packages: [curl, vim, curl]", "2:54: image.packages: 'curl' stands here twice, first in line 2"),
        ("packages: curl", "found 'curl'; write it as a list: [curl]"),
        ("python: ../r.txt", "it leads out of the definition's folder"),
        ("python: /r.txt", "a definition names files of its own folder"),
        ('files: [{from: "a\\tb", to: /a}]', "there is a control character in it"),
        ("files: [{from: a, to: a}]", "did you mean '/a'?"),
        ("files: [{from: a, to: /a/../b}]", "write it without '..'"),
        ("files: [{from: a, to: //a/./b/}]", "write it as '/a/b'"),
        ('files: [{from: a, to: "/a\\nb"}]', "there is a control character in it"),
        ("files: [{from: a, to: /proc/a}]", "'/proc' is not a part of the image"),
        ("files: [{from: a, to: /run}]", "'/run' is not a part of the image"),
        ("files: [{from: a, to: /a, owner: www}]", "expected 'root' or the image's user 'app', found 'www'"),
        ("files: [{from: a, to: /a, owner: ap}]", "did you mean 'app'?"),
        (
            "files: [{from: a, to: /a, mode: 999}]",
            "expected permissions such as '0644' or '0755', found the number 999",
        ),
        ("files: [{from: a, to: /a, mode: 4755}]", "do nothing in an instance"),
        ("files: [{from: a, to: /a, mode: 420000}]", "found the number 420000"),
        ("fetch: [{url: ftp://a/b, sha256: SHA, to: /a}]", "found 'ftp://a/b'"),
        ("fetch: [{url: 'http://a/b c', sha256: SHA, to: /a}]", "found 'http://a/b c'"),
        ("fetch: [{url: http://a/b, sha256: abc, to: /a}]", "expected 64 hexadecimal digits, found 'abc'; it has 3"),
        ("fetch: [{url: http://a/b, sha256: SHA, to: /dev/a}]", "'/dev' is not a part of the image"),
        ("fetch: [{url: http://a/b, sha256: SHA, to: /}]", "expected the path of a file, found '/'"),
        (
            "fetch: [{url: http://a/b, sha256: SHA, to: /a, unpack: yes}]",
            "expected true or false, found 'yes'; write true",
        ),
        ("fetch: [{url: http://a/b, sha256: SHA, to: /a, unpack: true, mode: 644}]", "this one is unpacked; remove it"),
        ("run: make", "expected a list of lines for the shell, found 'make'; write it as a list: [make]"),
        ("run: [{echo a: b}]", "found a section; a text that contains ': ' stands in quotes"),
        ("run: [' ']", "expected one line for the shell, found ' '"),
        ("run_timeout: 600", "a unit is missing; did you mean '600s'?"),
        ("run_timeout: 0s", "it has to be longer than nothing"),
        ("run_timeout: 90d", "found '90d'"),
        ("run_timeout: 1s1m", "found '1s1m'"),
        ("run_timeout: 600h", "the longest is 576h"),
        ("env: {A-B: x}", "expected a name of letters, digits and '_' that does not begin with a digit, found 'A-B'"),
        ("env: {A: }", 'found nothing; the empty text is ""'),
        ("env: {A: [x]}", "found a list"),
        ("user: root", "found 'root'; instances never run as root"),
        ("user: {name: root, uid: 5}", "instances never run as root"),
        ("user: 10001", "found the number 10001"),
        ("user: {uid: 0}", "expected a whole number from 1 to 65533, found the number 0"),
        ("user: {uid: 65534}", "found the number 65534"),
        ("user: {uid: 0100}", "found the number 0100"),
    ],
)
def test_image(rest: str, expected: str) -> None:
    [problem] = problems_of(image(rest.replace("SHA", "ab" * 32)))
    assert expected in problem and problem.startswith("2:")


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("port: 0", "expected a whole number from 1 to 65535, found the number 0"),
        ("port: http", "found 'http'"),
        ('port: "80"', "found '80'; write it without quotes"),
        ("port: 80.5", "found the number 80.5"),
        ("workdir: srv", "did you mean '/srv'?"),
        ("protocol: https", "expected http, h2 or tcp, found 'https'; did you mean 'http'?"),
        ("protocol: udp", "'udp' is not in this version"),
        ("port: 80, health: {path: healthz}", "did you mean '/healthz'?"),
        ("port: 80, health: {path: '/a b'}", "write others as %XX"),
        ('port: 80, health: {path: "/a\'b"}', "write others as %XX"),
        ("port: 80, health: {path: '/a;b'}", "write others as %XX"),
        ('port: 80, health: {path: "/a\\nb"}', "write others as %XX"),
        ("port: 80, health: {path: /é}", "write others as %XX"),
        ("port: 80, health: {tcp: false}", "expected true, found false"),
        ("port: 80, health: {tcp: true, path: /}", "expected one of 'path', 'tcp' and 'command', found path and tcp"),
        ("port: 80, health: {command: []}", "expected a list of words, such as [python3, app.py], found an empty list"),
        ("port: 80, protocol: tcp, health: {path: /}", "the service speaks tcp"),
        ("health: {path: /}", "there is no port that could be checked"),
        ("health: {tcp: true}", "there is no port that could be checked"),
        ("health: {timeout: 5s, deadline: 1s}", "the deadline is 1s, which is shorter than one check may take (5s)"),
        ("health: {timeout: 1m}", "health.timeout: the deadline is 30s, which is shorter"),
        ("port: 80, health: {path: /, host: 'http://a.example'}", "write it without 'http://' and without a path"),
        ("port: 80, health: {path: /, host: 'a b'}", "expected a host such as"),
        ("port: 80, health: {path: /, host: 'a:99999'}", "expected a host such as"),
        ("port: 80, health: {path: /, host: 'a:0'}", "expected a host such as"),
        ('port: 80, health: {path: /, host: "a\\r\\nX: y"}', "expected a host such as"),
        ("port: 80, health: {tcp: true, host: a.example}", "only a request for 'path' has a host; add 'path', or"),
        ("port: 80, smoke: [{command: [a], host: b}]", "only a request for 'path' can be given a host; remove it"),
        ("port: 80, headers: {size: 512M}", "headers.size: expected 1K to 1M, found '512M'"),
        ("port: 80, headers: {count: 5}", "expected a whole number from 10 to 4000"),
        (
            "port: 80, protocol: h2, health: {path: /}",
            "asked for in HTTP/1.1, and the service speaks h2; write {tcp: true}",
        ),
        ("port: 80, protocol: h2, smoke: [{path: /}]", "the service speaks h2; check with {command: […]}"),
        ("port: 80, keep_alive: 500ms", "expected 1s to 1h"),
        ("port: 80, protocol: tcp, keep_alive: 5s", "the router does not read what a service of tcp is sent"),
        ("port: 80, protocol: tcp, headers: {count: 50}", "the router does not read what a service of tcp is sent"),
        ("port: 80, timeouts: {wait: 0s}", "it has to be longer than nothing"),
        ("timeouts: {tunel: 1h}", "did you mean 'tunnel'?"),
        ("stop: {signal: SIGTREM}", "did you mean 'SIGTERM'?"),
        ("stop: {signal: 15}", "expected the name of a signal, such as SIGTERM, found the number 15"),
        ("stop: {grace: -1s}", "found '-1s'"),
        ("limits: {memory: 256}", "a unit is missing; did you mean '256M'?"),
        ("limits: {memory: 64MB}", "found '64MB'; write '64M'"),
        ("limits: {memory: 1 GiB}", "found '1 GiB'; write '1G'"),
        ("limits: {memory: 64m}", "found '64m'; write '64M'"),
        ("limits: {memory: 4095K}", "expected at least 4M, found '4095K'"),
        ("volumes: [{name: a, path: /a, size: 15M}]", "expected at least 16M, found '15M'"),
        ("volumes: [{name: a, path: /a, size: 20}]", "a unit is missing"),
        ("shm: 1", "a unit is missing"),
        ("limits: {memory: 9999999T}", "the largest is 1024T"),
        ("limits: {cpus: 0}", "expected a number from 0.01 to 1024, found the number 0"),
        ("limits: {cpus: 0.1234}", "it has at most three decimals"),
        ("limits: {cpus: two}", "found 'two'"),
        ("limits: {cpus: 200m}", "found '200m'; write 0.2"),
        ("limits: {pids: 1}", "found the number 1"),
        ("volumes: [{name: a, path: /}]", "would hide the image"),
        ("volumes: [{name: a, path: /etc}]", "would hide the image"),
        ("volumes: [{name: a, path: /tmp/a}]", "'/tmp' is the instance's own"),
        ("volumes: [{name: a, path: /proc}]", "'/proc' is the instance's own"),
        ("volumes: [{name: a, path: /a}, {name: a, path: /b}]", "'a' is the name of two volumes"),
        ("volumes: [{name: a, path: /a}, {name: b, path: /a}]", "two volumes are at '/a'"),
        ("volumes: [{name: a, path: /a/b}, {name: b, path: /a}]", "'/a/b' is in '/a'"),
        ("volumes: [{name: a, path: /a, access: rw}]", "expected exclusive or shared, found 'rw'"),
        ("capabilities: [NET_RAWW]", "did you mean 'CAP_NET_RAW'?"),
        ("capabilities: [NET_RAW, CAP_NET_RAW]", "'CAP_NET_RAW' stands here twice"),
    ],
)
def test_service(rest: str, expected: str) -> None:
    [problem] = problems_of(service(rest))
    assert expected in problem and problem.startswith("3:")


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("python3 -m app --port 8080", 'write it as a list: [python3, -m, app, --port, "8080"]'),
        ("'serve, --all a,b'", 'write it as a list: [serve, --all, "a,b"]'),
        ("'serve,all'", "write it as a list: [serve, all]"),
        ("a && b", "found 'a && b'"),
        ("[]", "found an empty list"),
        ("[a, 8080]", 'found the number 8080; as a text it stands in quotes: "8080"'),
        ("[a, '']", "found an empty text"),
    ],
)
def test_command(command: str, advice: str) -> None:
    [problem] = problems_of(f"{TOP}{IMAGE}service: {{command: {command}}}\n")
    assert problem.startswith("3:") and problem.endswith(advice)


def test_low_ports_and_neighbouring_volumes_are_fine() -> None:
    assert problems_of(service("port: 80, volumes: [{name: a, path: /a}, {name: b, path: /ab}]")) == []


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("  dev: {}\n", "5:3: environments.dev: 'listen' is missing; the service has a port; say where"),
        ("  Dev: {listen: ':80'}\n", "5:3: environments: expected a name of a-z"),
        ("  dev: {listen: 8080}\n", "did you mean '127.0.0.1:8080'?"),
        ("  dev: {listen: localhost:80}\n", "write it as a number: 127.0.0.1"),
        ("  dev: {listen: 1.2.3.4}\n", "the port is missing"),
        ("  dev: {listen: 1.2.3.4:0}\n", "a port is a number from 1 to 65535"),
        ("  dev: {listen: 1.2.3.256:80}\n", "found '1.2.3.256:80'"),
        ("  dev: {listen: 1.2.3.04:80}\n", "found '1.2.3.04:80'"),
        ("  dev: {listen: '::1:80'}\n", "an IPv6 address stands in brackets"),
        ("  dev: {listen: '[::g]:80'}\n", "found '[::g]:80'"),
        ("  dev: {listen: []}\n", "found an empty list"),
        (
            "  dev: {listen: [{address: ':80', tls: {}}]}\n",
            "5:35: environments.dev.listen: there is no 'tls' here; where certificates come from is 'tls'",
        ),
        ("  dev: {listen: [':80', ':80']}\n", "0.0.0.0:80 is taken: 'listen' is 0.0.0.0:80, in line 5"),
        (
            "  a: {listen: '1.1.1.1:80'}\n  b: {listen: '1.1.1.1:80'}\n",
            "6:15: environments.b.listen: 1.1.1.1:80 is taken",
        ),
        ("  a: {listen: '1.1.1.1:80'}\n  b: {listen: ':80'}\n", "'listen' of environment 'a' is 1.1.1.1:80, in line 5"),
        ("  a: {listen: ':80', provider: vm}\n", "'vm' is not in this version; expected kubernetes or local"),
        ("  a: {listen: ':80', accept_proxy: 10.0.0.7/8}\n", "found '10.0.0.7/8'; did you mean '10.0.0.0/8'?"),
        ("  a: {listen: ':80', accept_proxy: [lb.example]}\n", "expected an address or a network, such as '10.0.0.7'"),
        ("  a: {listen: ':80', accept_proxy: ['fe80::1%eth0']}\n", "expected an address or a network"),
        ("  a: {listen: ':80', accept_proxy: ['10.0.0.7', '::/0', '10.0.0.0/8']}\n", ""),
        ("  a: {listen: ':80', instances: 0}\n", "expected a whole number from 1 to 100"),
        ("  a: {listen: ':80', instances: 101}\n", "expected a whole number from 1 to 100"),
        ("  a: {listen: ':80', keep: {hot: 6}}\n", "expected a whole number from 0 to 5"),
        ("  a: {listen: ':80', keep: {releases: 0}}\n", "expected a whole number from 1 to 100"),
        ("  a: {listen: ':80', promote_from: a}\n", "'a' is this very environment; there is none besides 'a'"),
        ("  a: {listen: ':80', promote_from: c}\n  bb: {listen: ':81'}\n", "there is no environment 'c'; expected bb"),
        ("  a: {listen: ':80', secrets: {T: x}}\n", "expected a section such as {file: secrets/token}, found 'x'"),
        (
            "  a: {listen: ':80', config: {T: x}, secrets: {T: {file: x, variable: true}}}\n",
            "'T' stands in 'config' too",
        ),
        ("  a: {listen: ':80', secrets: {PATH: {file: x, variable: true}}}\n", "every instance has 'PATH' already"),
        ("  a: {listen: ':80', secrets: {T: {file: x, variable: T}}}\n", "secrets.T.variable: expected true or false"),
        ("  a: {listen: ':80', secrets: {T: {}}}\n", "expected one of 'file', 'age' and 'source', found none"),
        (
            "  a: {listen: ':80', secrets: {T: {file: x, source: y}}}\n",
            "expected one of 'file', 'age' and 'source', found file",
        ),
        ("  a: {listen: ':80', secrets: {T: {source: /x}}}\n", "secrets.T.source: expected a name"),
        ("  a: {listen: ':80', secrets: {T: {file: ../x}}}\n", "it leads out of the definition's folder"),
        ("  a: {listen: ':80', config: {2X: x}}\n", "found '2X'"),
        ("  a: {listen: ':80', rollout: {strategy: bluegreen}}\n", "did you mean 'blue-green'?"),
        (f"  {'e' * 31}: {{listen: ':80'}}\n", ""),
    ],
)
def test_environments(rest: str, expected: str) -> None:
    problems = problems_of(environments(rest))
    assert len(problems) == (1 if expected else 0)
    assert all(expected in problem for problem in problems)


def test_a_service_without_a_port_listens_nowhere() -> None:
    [problem] = problems_of(environments("  a: {listen: ':80'}\n", port="workdir: /"))
    assert problem.startswith("5:15: environments.a.listen: the service has no port")
    assert problems_of(environments("  a: {}\n", port="workdir: /")) == []


def test_only_a_service_with_a_port_has_servers_in_front() -> None:
    service = "service: {command: [a]}\nenvironments:\n  dev: {accept_proxy: '::1'}\n"
    text = f"name: a\nimage: {{base: debian:bookworm}}\n{service}"
    [problem] = problems_of(text)
    assert "the service has no port, so nobody connects to it; remove this" in problem


def test_an_exclusive_volume_has_one_instance() -> None:
    volumes = "port: 80, volumes: [{name: data, path: /data}]"
    [problem] = problems_of(environments("  a: {listen: ':80', instances: 2}\n", port=volumes))
    assert "environments.a.instances: expected 1, found 2; volume 'data' is exclusive" in problem
    shared = volumes.replace("/data}", "/data, access: shared}")
    assert problems_of(environments("  a: {listen: ':80', instances: 2}\n", port=shared)) == []


def test_promotions_in_a_circle_are_told_once() -> None:
    circle = "  a: {listen: ':80', promote_from: c}\n  b: {listen: ':81', promote_from: a}\n"
    circle += "  c: {listen: ':82', promote_from: b}\n  d: {listen: ':83', promote_from: c}\n"
    [problem] = problems_of(environments(circle))
    assert problem.endswith("environments.a.promote_from: promotions go in a circle: a from c from b from a")


def test_names_of_instances_fit_a_host_name() -> None:
    text = environments(f"  {'e' * 20}: {{listen: ':80'}}\n").replace("name: shop", "name: " + "s" * 29)
    [problem] = problems_of(text)
    assert "the names of service and environment have 49 characters together; expected at most 48" in problem


def test_one_mistake_makes_one_problem() -> None:
    """What depends on a value that could not be read says nothing."""
    text = environments("  a: {listen: ':80', instances: 3}\n", port="port: none, health: {path: /}")
    assert len(problems_of(text)) == 1
    assert len(problems_of(text.replace("port: none", "prot: 80"))) == 1
    assert len(problems_of(text.replace("port: none", "port: 80, volumes: [{name: d, path: data}]"))) == 2


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("env: {A: b}", "there is no 'env' here; variables of an environment stand in its 'config'"),
        ("replicas: 3", "there is no 'replicas' here; how many run is 'instances'"),
        ("port: 80", "there is no 'port' here; where it is reached is 'listen: 127.0.0.1:8080'"),
        ("secrets: {A: {env: B}}", "there is no 'env' here; a secret is a file beside the definition"),
        ("secrets: {A: {file: /etc/shadow}}", "a definition reads no file of the machine's: copy it beside"),
    ],
)
def test_what_other_tools_have_elsewhere_leads_here(rest: str, expected: str) -> None:
    assert expected in problems_of(environments(f"  dev: {{listen: '127.0.0.1:1', {rest}}}\n"))[-1]


def test_a_bare_key_is_an_environment_with_nothing_in_it() -> None:
    assert problems_of(environments("  dev:\n", "workdir: /")) == []
    [problem] = problems_of(environments("  dev:\n"))
    assert problem.startswith("5:3: environments.dev: 'listen' is missing; the service has a port")


COMMIT = "9fceb02d0ae598e95dc970b74767f19372d61af8"
SHA256 = "ab" * 32


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("url: https://me:hunter2@x.test/f", "image.fetch.url: expected an address"),
        ("url: git+https://x.test/f", "image.fetch: 'revision' is missing; expected the commit: git ls-remote"),
        ("url: git@x.test:f", "of a git repository: git+https://…"),
        ("url: git+ssh://x.test/f", "of a git repository: git+https://…"),
        ("url: git+https://x.test/f, revision: v1.0", "git ls-remote URL NAME"),
        ("url: https://x.test/f, revision: " + COMMIT, "whose address begins with 'git+https://'"),
        (f"url: git+https://x.test/f, revision: {COMMIT}, unpack: true", "unpack: the tree of a revision is unpacked"),
        (f"url: git+https://x.test/f, revision: {COMMIT}, mode: 644", "mode: the tree of a revision is unpacked"),
    ],
)
def test_what_is_fetched(entry: str, expected: str) -> None:
    found = problems_of(image(f"fetch: [{{{entry}, sha256: {SHA256}, to: /opt/x}}]"))
    assert any(expected in problem for problem in found), found
    assert not any("hunter2" in problem for problem in found)


def test_a_revision_of_a_repository_is_fetched() -> None:
    entry = f"url: git+https://x.test/f, revision: {COMMIT}, sha256: {SHA256}, to: /opt/x"
    assert problems_of(image(f"fetch: [{{{entry}}}]")) == []
