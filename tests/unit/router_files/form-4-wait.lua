-- Hold a request until a server can take it. Written by Instar, not meant to be edited.
local looked_ms, stopping = 0, false

local function now_ms()
  local now = core.now()
  return now.sec * 1000 + now.usec // 1000
end

local function retired(now)
  if now - looked_ms >= 50 then
    looked_ms = now
    stopping = tostring(core.get_info()["Stopping"]) == "1"
  end
  return stopping
end

core.register_action("wait", {"tcp-req", "http-req"}, function(txn, longest_ms)
  local began = now_ms()
  local deadline = began + tonumber(longest_ms)
  while true do
    local now = now_ms()
    if now >= deadline or tonumber(txn.f:nbsrv("instances")) > 0 then return end
    if retired(now) then
      txn:set_var("txn.again", true)
      return
    end
    core.msleep(math.min(100, 10 + (now - began) // 20, deadline - now))
  end
end, 1)
