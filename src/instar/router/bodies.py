"""How large the body of a request may be: pure.

A request may say beforehand how long its body is (HAProxy's ``req.hdr_val`` cuts that to 32 bits, so that one byte more
than 4 GiB would be one byte; what is added to is read with 64). Others, chunked or of HTTP/2, do not, and HAProxy 2.6
passes them on as they come. So a few lines of Lua count what comes. A filter cannot answer: one that fails has HAProxy
answer 400 and end the request, and the rule after it says what it was. ``body.lua`` beside haproxy.cfg is always the
same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from instar.model.requests import Requests

LARGEST_BYTES: Final = 1 << 50
SCRIPT: Final = "body.lua"
TEXT: Final = """\
-- Count the bodies of requests. Written by Instar, not meant to be edited.
local Body = {id = "body", flags = filter.FLT_CFG_FL_HTX}
Body.__index = Body

function Body:new()
  return setmetatable({largest = self.largest, seen = 0}, Body)
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
    txn:set_var("txn.refused", "large")
    error("a body is longer than allowed, and answered with 413", 0)
  end
end

core.register_filter("body", Body, function(body, words)
  body.largest = tonumber(words[1])
  return body
end)
"""


def counted(requests: Requests) -> bool:
    return requests.largest_body_bytes is not None


def load(requests: Requests) -> Sequence[str]:
    return (f"  lua-load {SCRIPT}",) if counted(requests) else ()


def rules(requests: Requests) -> Sequence[str]:
    """Return the rules of a frontend."""
    largest = requests.largest_body_bytes
    if largest is None:
        return ()
    return (
        f"  filter lua.body {largest}",
        '  http-error status 400 content-type text/plain string "the request, or its body, is not as it should be\\n"',
        '  http-request return status 413 content-type text/plain string "the body is too long\\n"'
        f" if {{ req.fhdr(Content-Length),add(0) gt {largest} }}",
        '  http-after-response set-status 413 reason "Payload Too Large" if { var(txn.refused) -m str large }',
    )
