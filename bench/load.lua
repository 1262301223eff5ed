-- wrk's script: sends the requests, checks every answer, and says what it saw in one line of JSON.
-- Arguments after "--": method, file of tokens (one a line), file of the body to send, file of the right answer,
-- and after how many answers to say each time how many there were.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(arguments)
  local body, tokens = read(arguments[3]), {}
  expected = read(arguments[4])
  step = tonumber(arguments[5])
  right, wrong, first_wrong = 0, 0, ""
  wrk.method = arguments[1]
  wrk.headers["Accept"] = "application/json, text/event-stream"
  wrk.headers["MCP-Protocol-Version"] = "2025-06-18"
  if #body > 0 then
    wrk.body = body
    wrk.headers["Content-Type"] = "application/json"
  end
  for token in read(arguments[2]):gmatch("[^\n]+") do
    table.insert(tokens, "Bearer " .. token)
  end
  wrk.headers["Authorization"] = tokens[1]
  if #tokens > 1 then send_each_once(tokens) end
end

-- Without this wrk repeats one request, which costs it least; with it the load ends after the last token.
function send_each_once(tokens)
  local sent = -1 -- wrk asks for one request that it only looks at
  local granted = 0
  total = #tokens
  request = function()
    sent = sent + 1
    wrk.headers["Authorization"] = tokens[math.max(1, math.min(sent, total))]
    return wrk.format()
  end
  -- wrk asks for a delay before each request, and asks the others before that request is made.
  delay = function()
    granted = granted + 1
    return granted > total and 3600000 or 0
  end
end

function response(status, headers, body)
  if status == 200 and body == expected then
    right = right + 1
  else
    wrong = wrong + 1
    if wrong == 1 then first_wrong = string.format("%d %s", status, body:sub(1, 200)) end
  end
  if right % step == 0 then
    io.stdout:write("answers ", right, "\n")
    io.stdout:flush()
  end
  if right + wrong == total then wrk.thread:stop() end
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\\128-\255]', "?") .. '"'
end

function done(summary, latency)
  local right, wrong, first_wrong = 0, 0, ""
  for _, thread in ipairs(threads) do
    right, wrong = right + thread:get("right"), wrong + thread:get("wrong")
    if first_wrong == "" then first_wrong = thread:get("first_wrong") end
  end
  local errors = summary.errors
  io.stdout:write(string.format(
    '\n{"right": %d, "wrong": %d, "first_wrong": %s, "failed": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d}\n',
    right, wrong, quoted(first_wrong), errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
