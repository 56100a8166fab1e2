-- Count the bodies of requests, and the time that they take. Written by Instar, not meant to be edited.
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
    refuse(txn, "large", 413)
  end
  if now_ms() - self.began > self.within and not txn:get_var("txn.stream") then
    refuse(txn, "late", 408)
  end
end

core.register_filter("body", Body, function(body, words)
  body.largest, body.within = tonumber(words[1]), tonumber(words[2])
  return body
end)
