"""How large the body of a request may be, and how long it may take to come: pure.

A request may say beforehand how long its body is (HAProxy's ``req.hdr_val`` cuts that to 32 bits, so that one byte more
than 4 GiB would be one byte; what is added to is read with 64). Others, chunked or of HTTP/2, do not, and HAProxy 2.6
passes them on as they come. And it waits for a body only until its buffer is full. So a few lines of Lua count what
comes, and look at the clock. A filter cannot answer: one that fails has HAProxy answer 400 and end the request, and the
rule after it says what it was. ``body.lua`` beside haproxy.cfg is always the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from instar.model.requests import Requests
from instar.router import connections

LARGEST_BYTES: Final = 1 << 50
_WITHOUT_END_MS: Final = 2**31 - 1
SCRIPT: Final = "body.lua"
WITH_A_LUA_EACH: Final = 5  # the form of a router's file from which on each thread has its own
TEXT: Final = """\
-- Count the bodies of requests, and the time that they take. Written by Instar, not meant to be edited.
local LINGER_MS = 10000
local Body = {id = "body", flags = filter.FLT_CFG_FL_HTX}
Body.__index = Body

local function now_ms()
  local now = core.now()
  return now.sec * 1000 + now.usec // 1000
end

local function refuse(txn, why, status)
  txn:set_var("txn.refused", why)
  error("a body is too " .. why .. ", and answered with " .. status, 0)
end

function Body:new()
  return setmetatable({largest = self.largest, within = self.within, began = now_ms(), seen = 0}, Body)
end

function Body:http_headers(txn, message)
  if not message.channel:is_resp() then
    filter.register_data_filter(self, message.channel)
  end
end

function Body:http_payload(txn, message)
  local before = self.seen
  self.seen = before + message:input() -- with what ends a body, so the last part is measured when it matters
  if self.seen > self.largest and before + #(message:body() or "") > self.largest then
    if not txn:get_var("txn.said") then
      refuse(txn, "large", 413)
    end
    self.largest, self.within = math.huge, math.min(self.within, LINGER_MS)
  end
  if now_ms() - self.began > self.within and not txn:get_var("txn.stream") then
    refuse(txn, "late", 408)
  end
end

-- One that says beforehand that it is too long is answered at once, and then read for a while: who sends would not see
-- the answer if the connection ended under what is sent.
core.register_service("too-long", "http", function(applet)
  local why = "the body is too long\\n"
  applet:set_status(413, "Payload Too Large")
  applet:add_header("content-type", "text/plain")
  applet:add_header("content-length", tostring(#why))
  applet:start_response()
  applet:send(why)
  while #applet:receive(16384) > 0 do end
end)

core.register_filter("body", Body, function(body, words)
  body.largest, body.within = tonumber(words[1]), tonumber(words[2])
  return body
end)
"""

_SAID: Final = "{ var(txn.said) -m bool }"
_STATUS: Final = "  http-after-response set-status {} if {{ var(txn.refused) -m str {} }}"


def counted(requests: Requests) -> bool:
    return requests.largest_body_bytes is not None or requests.body_within_ms is not None


def threads(form: int, requests: Requests) -> int:
    """Return how many threads HAProxy has. Two that filter in one Lua crash it."""
    return 1 if form < WITH_A_LUA_EACH and counted(requests) else 2


def rules(form: int, requests: Requests, *, grpc: bool) -> Sequence[str]:
    """Return the rules of a frontend. ``grpc``: there are calls, whose bodies last as long as they do themselves."""
    if not counted(requests):
        return ()
    largest, within_ms = requests.largest_body_bytes, requests.body_within_ms
    lines = [
        f"  filter lua.body {largest or LARGEST_BYTES} {within_ms or _WITHOUT_END_MS}",
        '  http-error status 400 content-type text/plain string "the request, or its body, is not as it should be\\n"',
    ]
    if largest:
        too_long = f"{{ req.fhdr(Content-Length),add(0) gt {largest} }}"
        said = 'content-type text/plain string "the body is too long\\n"'
        if form < WITH_A_LUA_EACH:
            lines.append(f"  http-request return status 413 {said} if {too_long}")
        else:
            lines += [
                f"  http-request set-var(txn.said) bool(true) if {too_long}",
                f"  http-request return status 413 {said} if {_SAID} {{ req.fhdr(Expect) -m found }}",
                f"  http-request use-service lua.too-long if {_SAID}",
            ]
        lines.append(_STATUS.format('413 reason "Payload Too Large"', "large"))
    if within_ms:
        if grpc:
            lines.append(f"  http-request set-var(txn.stream) bool(true) if {connections.GRPC}")
        unless = " unless { var(txn.stream) -m bool }" if grpc else ""
        lines.append(f"  http-request wait-for-body time {within_ms}ms{unless}")
        lines.append(_STATUS.format('408 reason "Request Time-out"', "late"))
    return lines
