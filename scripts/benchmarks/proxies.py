"""What people put in front of a service, each before one server that answers by itself: nginx, nginx behind nginx, and
Caddy with TLS; kamal-proxy without. nginx is unpacked from Debian's package, Caddy from its wheel, of the version and
the hashes in ``requirements.txt``; kamal-proxy is built by Go from its released module, where that can be had."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from peer import unpack
from subject import ROOT, free_port

PACKAGES = ("wrk", "libluajit-5.1-2", "libluajit-5.1-common", "nginx")
KAMAL_PROXY = "github.com/basecamp/kamal-proxy/cmd/kamal-proxy@v0.9.0"
_STARTED_S = 20.0

_NGINX = """\
daemon off; worker_processes 2; error_log /dev/null; pid {folder}/{name}.pid; events {{worker_connections 4096;}}
http {{
access_log off; keepalive_requests 1000000;
client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
scgi_temp_path {folder}/s;
"""
_ANSWER = 'server {{listen 127.0.0.1:{port} backlog=4096; location / {{return 200 "hello world hello world\\n";}}}}}}'
_PROXY = """\
upstream u {{server 127.0.0.1:{to}; keepalive 64;}}
server {{listen 127.0.0.1:{port} {tls} backlog=4096; {more}
location / {{proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection "";
proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;}}}}}}
"""
_CADDY = """\
{{
  admin off
  auto_https off
  persist_config off
  log {{
    output discard
  }}
}}
https://{name}:{port} {{
  bind 127.0.0.1
  tls {folder}/chain {folder}/key
  reverse_proxy 127.0.0.1:{to}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Way:
    """An address, and the processes that answer there."""

    url: str
    pids: Sequence[int]


class Proxies:
    """They run until ``stack`` ends. ``tools``: where programs are kept from run to run; ``folder`` has ``chain`` and
    ``key``, the certificate of ``name``."""

    def __init__(self, tools: Path, folder: Path, name: str, stack: ExitStack) -> None:
        unpack(tools, PACKAGES, "usr/bin/wrk")
        self._tools, self._folder, self._name, self._stack = tools, folder, name, stack
        self.answering = free_port()
        self._nginx("last", self.answering, _ANSWER.format(port=self.answering))

    def ways(self) -> Mapping[str, Way]:
        behind = self._nginx_before("behind", self.answering, tls=False)
        front = self._nginx_before("front", int(behind.url.rpartition(":")[2].rstrip("/")), tls=True)
        found = {
            "nginx": self._nginx_before("one", self.answering, tls=True),
            "nginx behind nginx": Way(url=front.url, pids=[*front.pids, *behind.pids]),
            "Caddy": self._caddy(),
        }
        kamal_proxy = self._kamal_proxy()
        return {**found, "kamal-proxy": kamal_proxy} if kamal_proxy else found

    def _nginx_before(self, name: str, to: int, *, tls: bool) -> Way:
        port = free_port()
        more = f"ssl_certificate {self._folder}/chain; ssl_certificate_key {self._folder}/key;" if tls else ""
        pids = self._nginx(name, port, _PROXY.format(port=port, to=to, tls="ssl" if tls else "", more=more))
        return Way(url=f"https://{self._name}:{port}/" if tls else f"http://127.0.0.1:{port}/", pids=pids)

    def _nginx(self, name: str, port: int, rest: str) -> Sequence[int]:
        file = self._folder / f"{name}.conf"
        file.write_text(_NGINX.format(folder=self._folder, name=name) + rest)
        pid = self._start(port, [self._tools / "root/usr/sbin/nginx", "-p", self._folder, "-c", file])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def _caddy(self) -> Way:
        program = self._tools / "caddy/bin/caddy"
        if not program.exists():
            uv, into = ROOT / ".venv/bin/uv", self._tools / "caddy"
            subprocess.run([uv, "venv", "--quiet", "--python", "/usr/bin/python3", into], check=True)
            pip = [uv, "pip", "install", "--quiet", "--python", into / "bin/python"]
            pinned = Path(__file__).with_name("requirements.txt")
            subprocess.run(list(map(str, [*pip, "--require-hashes", "-r", pinned])), check=True)
        port, file = free_port(), self._folder / "Caddyfile"
        file.write_text(_CADDY.format(name=self._name, port=port, to=self.answering, folder=self._folder))
        pid = self._start(port, [program, "run", "--adapter", "caddyfile", "--config", file])
        return Way(url=f"https://{self._name}:{port}/", pids=[pid])

    def _kamal_proxy(self) -> Way | None:
        """Return None, and say so, where it is not there and cannot be built."""
        program, go = self._tools / "kamal-proxy", shutil.which("go")
        if not program.exists() and go:
            environ = {**os.environ, "GOBIN": str(self._tools)}
            subprocess.run([go, "install", KAMAL_PROXY], env=environ, check=False, capture_output=True)
        if not program.exists():
            print(f"          without kamal-proxy: go install {KAMAL_PROXY} does not build it here")
            return None
        port = free_port()
        pid = self._start(port, [program, "run", "--http-port", str(port), "--https-port", str(free_port())])
        target = ["--target", f"127.0.0.1:{self.answering}", "--health-check-path", "/"]
        subprocess.run([program, "deploy", "bench", *target], env=self._environ, check=True, capture_output=True)
        return Way(url=f"http://127.0.0.1:{port}/", pids=[pid])

    @property
    def _environ(self) -> Mapping[str, str]:
        own = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"), str(self._folder))
        return {"PATH": os.environ["PATH"], **own}

    def _start(self, port: int, argv: Sequence[str | Path]) -> int:
        """Start a program, and return its pid when it accepts connections at ``port``."""
        quiet = subprocess.DEVNULL
        started = subprocess.Popen(list(map(str, argv)), env=self._environ, stdout=quiet, stderr=quiet)
        self._stack.callback(started.wait)
        self._stack.callback(started.terminate)
        deadline = time.monotonic() + _STARTED_S
        while True:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    return started.pid
            if started.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{argv[0]} does not accept connections")
            time.sleep(0.05)
