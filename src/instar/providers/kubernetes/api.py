"""The only door to a cluster's API: objects as they are in JSON, read by label, made once, applied, deleted.

Each call has a time limit. Objects are applied by a field manager of our own.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from instar.errors import InstarError, ProviderError
from instar.providers.kubernetes import answers, reading
from instar.providers.kubernetes.connection import TIMEOUT_S, Connection
from instar.providers.kubernetes.kinds import POD, Kind
from instar.waiting import Deadline

if TYPE_CHECKING:
    import httpx2

    from instar.providers.kubernetes.kubeconfig import Access

Object = Mapping[str, Any]
MANAGER: Final = "instar"
_PAGE: Final = 500
METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json"
_NOT_BEGUN: Final = 126
_LATE_S: Final = 1.0  # so much after its end a watch is taken for one that is gone
_MOST_PAGES: Final = 200
_MOST_ANSWERED: Final = 1 << 20  # of an instance's answer to a check
_MOST_PRINTED: Final = 16 << 20  # by a command in a pod: whoever is in there may have put another in its place
_WHOLE: Final = reading.Limits(most_bytes=64 << 20, within_s=120.0)


class Api:
    """The API of the cluster that ``access`` leads to. May be used by several threads."""

    def __init__(self, access: Access, environ: Mapping[str, str], manager: str = MANAGER) -> None:
        self.manager = manager
        self.server = access.config.cluster.server
        self.calls = 0
        self._unwatched: set[Kind] = set()
        self._connection = Connection(access, environ)

    def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """Return an object; None where there is none."""
        what = f"read the {kind.name} '{name}'"
        answer = self._ask("GET", kind.path(namespace, name), what, absent=True)
        return None if answer is None else reading.whole(_object(answer), what)

    def list(
        self,
        kind: Kind,
        namespace: str | None,
        labels: Mapping[str, str],
        fields: Mapping[str, str] | None = None,
        *,
        lacking: str | None = None,
    ) -> tuple[Object, ...]:
        """Return the objects that have all of ``labels``, have not ``lacking``, and are so in these ``fields``: of a
        namespace, or (None) of all."""
        return self.listed(kind, namespace, labels, fields, lacking=lacking)[0]

    def listed(
        self,
        kind: Kind,
        namespace: str | None,
        labels: Mapping[str, str],
        fields: Mapping[str, str] | None = None,
        *,
        lacking: str | None = None,
        accept: str | None = None,
    ) -> tuple[tuple[Object, ...], str]:
        """Return the same, and of which version that is: what a watch goes on from."""
        found: list[Object] = []
        params = {"limit": str(_PAGE), **_selected(labels, fields, lacking)}
        what = f"list {kind.plural} in {'all namespaces' if namespace is None else repr(namespace)}"
        for _ in range(_MOST_PAGES):
            page = _object(self._ask("GET", kind.path(namespace), what, params=params, accept=accept) or b"{}")
            found += reading.items(page, what)
            if not (after := reading.continued(page)):
                kinds = {"kind": kind.name, "apiVersion": kind.api_version}
                return tuple({**kinds, **one} for one in found), reading.version_of(page)
            params = {**params, "continue": after}
        raise ProviderError(f"cannot {what}: there are more than {_MOST_PAGES * _PAGE}, or their list has no end")

    def find_list(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> tuple[Object, ...] | None:
        """Return the objects that have all of ``labels``, in one part; None where the cluster has not that kind."""
        where = "" if namespace is None else f" in '{namespace}'"
        what = f"list {kind.plural}.{kind.group}{where}"
        answer = self._ask("GET", kind.path(namespace), what, params=_selected(labels, None), absent=True)
        return None if answer is None else tuple(reading.items(_object(answer), what))

    def names(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of the objects that have all of ``labels``; of them only their metadata is sent."""
        return tuple(str(one["metadata"]["name"]) for one in self.listed(kind, namespace, labels, accept=METADATA)[0])

    def watch(
        self,
        kind: Kind,
        namespace: str,
        version: str,
        within_s: float,
        *,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> Iterator[tuple[str, Object]]:
        """Yield what happens to objects after ``version`` ("ADDED", "MODIFIED", "DELETED", and the object), until
        ``within_s`` is over, or nobody says any more: a connection that is cut, or gone silently, a version that is too
        old, a right that is missing. That raises nothing: whoever watched looks anew."""
        import httpx2

        if kind in self._unwatched or not version:
            return
        params = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(max(1, math.ceil(within_s)))}
        params |= _selected(labels or {}, None if name is None else {"metadata.name": name})
        longest_s = max(1, math.ceil(within_s)) + _LATE_S  # the server ends it first, and the connection is kept
        timeout = httpx2.Timeout(TIMEOUT_S, read=longest_s)
        try:
            self.calls += 1
            with self._connection.client().stream(
                "GET", kind.path(namespace), params=params, timeout=timeout
            ) as response:
                if response.status_code == 403:
                    self._unwatched.add(kind)
                elif response.is_success:
                    yield from reading.events(response.iter_bytes(), Deadline.after(longest_s))
        except (httpx2.HTTPError, InstarError):
            return

    def create(self, kind: Kind, namespace: str | None, wanted: Object, *, dry: bool = False) -> Object:
        """Make an object. Raises AlreadyExists where one of its name is there."""
        name = (wanted.get("metadata") or {}).get("name", "")
        params = {"fieldManager": self.manager, "fieldValidation": "Strict", **({"dryRun": "All"} if dry else {})}
        what = f"create the {kind.name} '{name}'" if name else f"ask by a {kind.name}"
        answer = self._ask("POST", kind.path(namespace), what, params=params, body=wanted)
        return _object(answer or b"{}")

    def apply(self, kind: Kind, namespace: str, wanted: Object, *, force: bool = False) -> Object:
        """Have an object be as ``wanted``, in the fields that it says (server-side apply). With a resourceVersion in
        it, only where the object is still that one; ``force``: whoever else has written to these fields."""
        name = wanted["metadata"]["name"]
        params = {"fieldManager": self.manager, "fieldValidation": "Strict", **({"force": "true"} if force else {})}
        kinds = {"apiVersion": kind.api_version, "kind": kind.name}
        what = f"apply the {kind.name} '{name}'"
        body = {**kinds, **wanted}
        return _object(
            self._ask("PATCH", kind.path(namespace, name), what, params=params, body=body, type_="apply-patch+yaml")
            or b"{}"
        )

    def merge(self, kind: Kind, namespace: str, name: str, changes: Object) -> Object | None:
        """Change an object in the fields that ``changes`` names, None: take one away; return it as it is then, None
        where it is gone. With a uid among them only that very one is changed, with a resourceVersion only as it was."""
        path, what = kind.path(namespace, name), f"change the {kind.name} '{name}'"
        params = {"fieldManager": self.manager}
        answer = self._ask("PATCH", path, what, params=params, body=changes, type_="merge-patch+json", absent=True)
        return None if answer is None else _object(answer or b"{}")

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        foreground: bool = False,
        only: Object | None = None,
        same: Object | None = None,
    ) -> bool:
        """Begin to delete an object, ``foreground``: whatever it owns before it; return whether it was there.

        ``only`` as it was read: raises Changed where it was changed, or made anew, since; ``same``: where it was made
        anew."""
        body: dict[str, Any] = {"propagationPolicy": "Foreground" if foreground else "Background"}
        if only is not None:
            metadata = only["metadata"]
            body["preconditions"] = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        elif same is not None:
            body["preconditions"] = {"uid": same["metadata"]["uid"]}
        what = f"delete the {kind.name} '{name}'"
        return self._ask("DELETE", kind.path(namespace, name), what, body=body, absent=True) is not None

    def text(
        self, path: str, what: str, params: Mapping[str, str] | None = None, *, absent: bool = False
    ) -> bytes | None:
        """Return what is at a path, as it is; None where there is nothing and that may be (``absent``)."""
        return self._ask("GET", path, what, params=params, absent=absent)

    def answer(self, path: str, timeout_s: float, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return the status and the beginning (1 MiB) of what is answered through the API's proxy, whatever it is.
        Raises what the transport does, TimeoutError where that does not come whole within ``timeout_s``."""
        limits = reading.Limits(most_bytes=_MOST_ANSWERED, within_s=timeout_s)
        with self._connection.client().stream("GET", path, headers=dict(headers), timeout=timeout_s) as response:
            return response.status_code, limits.beginning(response.iter_bytes())

    def run(
        self, namespace: str, pod: str, command: tuple[str, ...], timeout_s: float, *, container: str | None = None
    ) -> tuple[int, str]:
        """Run a command in a pod's first container, or in ``container``; return its exit status and what it printed,
        of one that could not begin 126 and why."""
        from httpx2.websockets import WebSocketUpgradeError
        from lightkube import ApiError
        from lightkube.core.generic_client import BasicRequest
        from lightkube.core.websocket import WebsocketDriver

        params: Any = {"command": list(command), "stdout": True, "stderr": True}
        params |= {} if container is None else {"container": container}
        request = BasicRequest(method="GET", url=f"/api/v1/namespaces/{namespace}/pods/{pod}/exec", params=params)
        what = f"run a command in '{pod}'"
        try:
            driver = WebsocketDriver(self._connection.client(), request, timeout=timeout_s)
            out, err = (reading.Printed(_MOST_PRINTED, what) for _ in range(2))
            done: Any = driver.write_and_read(stdout=out, stderr=err)
        except InstarError:
            raise
        except WebSocketUpgradeError as error:
            raise answers.refusal(what, error.response.status_code, _body(error.response)) from error
        except ApiError as error:
            return _NOT_BEGUN, str(error.status.message or error)
        except Exception as error:  # the library's, httpx's and the socket's own errors alike: there was no answer
            raise answers.failure(what, self._connection.shown, error) from error
        return done.exit_code, (out.getvalue() + err.getvalue()).decode("utf-8", "replace")

    @contextlib.contextmanager
    def websocket(self, path: str, params: Mapping[str, Any], protocols: Sequence[str], what: str) -> Iterator[Any]:
        """Yield a websocket to a path, closed afterwards. Raises what a refusal, or no answer, means before anything is
        yielded."""
        import httpx2
        from httpx2.websockets import HTTPXWSException, WebSocketUpgradeError

        with contextlib.ExitStack() as opened:
            try:
                self.calls += 1
                made = self._connection.client().websocket(path, subprotocols=[*protocols], params=dict(params))
                found = opened.enter_context(made)
            except WebSocketUpgradeError as error:
                raise answers.refusal(what, error.response.status_code, _body(error.response)) from error
            except (HTTPXWSException, httpx2.HTTPError, OSError) as error:
                raise answers.failure(what, self._connection.shown, error) from error
            yield found

    def add_ephemeral(self, namespace: str, pod: str, container: Object) -> None:
        """Add an ephemeral container to a pod: it stays as long as the pod does."""
        path, body = POD.path(namespace, pod, "ephemeralcontainers"), {"spec": {"ephemeralContainers": [container]}}
        params = {"fieldManager": self.manager}
        what = f"add a container to '{pod}'"
        self._ask("PATCH", path, what, params=params, body=body, type_="strategic-merge-patch+json")

    def _ask(
        self,
        method: str,
        path: str,
        what: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        type_: str = "json",
        absent: bool = False,
        accept: str | None = None,
    ) -> bytes | None:
        """Return the answer to a call; None where nothing is at the path and that may be (``absent``)."""
        import httpx2

        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": f"application/{type_}"}
        headers |= {} if accept is None else {"Accept": accept}
        for again in (True, False):
            try:
                self.calls += 1
                asked = self._connection.client().stream(method, path, params=params, content=content, headers=headers)
                with asked as response:
                    said = _WHOLE.all_of(response.iter_bytes(), what)
            except (httpx2.LocalProtocolError, UnicodeEncodeError):
                raise answers.unsendable(what) from None  # which has what was to be sent in it: a token
            except httpx2.HTTPError as error:
                raise answers.failure(what, self._connection.shown, error) from error
            if response.status_code == 401 and again and self._connection.forget_credential():
                continue
            break
        if response.is_success:
            return said
        if response.status_code in (401, 403) and not self._is_ready():
            raise answers.starting(what, self.server)
        if response.status_code == 404 and absent:
            return None
        if response.status_code == 401 and (by := self._connection.said_by) is not None:
            raise answers.unaccepted(what, *by)
        raise answers.refusal(what, response.status_code, said, response.headers.get("Retry-After"))

    def _is_ready(self) -> bool:
        """Tell whether the API server has all that it decides by: one that has just begun knows no rights yet."""
        import httpx2

        try:
            with self._connection.client().stream("GET", "/readyz") as response:
                return response.status_code in (200, 401)
        except httpx2.HTTPError:
            return False


def _selected(
    labels: Mapping[str, str], fields: Mapping[str, str] | None, lacking: str | None = None
) -> dict[str, str]:
    """Return by what a list, or a watch, is asked for these alone."""
    words = [*(f"{name}={value}" for name, value in labels.items()), *([] if lacking is None else [f"!{lacking}"])]
    made = {"labelSelector": ",".join(words)} if words else {}
    if fields is not None:
        made["fieldSelector"] = ",".join(f"{name}={value}" for name, value in fields.items())
    return made


def _body(response: httpx2.Response) -> bytes:
    """Return what an answer that was no success says; nothing where its connection is gone already."""
    try:
        return bytes(response.read())
    except Exception:  # whatever kind of a closed stream that is
        return b""


def _object(data: bytes) -> dict[str, Any]:
    import msgspec  # of a thousand pods it is read in a third of the time that the standard library takes

    try:
        found: Any = msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise ProviderError("cannot read what the cluster answers: it is not JSON") from error
    if not isinstance(found, dict):
        raise ProviderError("cannot read what the cluster answers: it is no object")
    return found
