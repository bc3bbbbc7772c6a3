-- Sends each line of a file once, "signature body", and reports as JSON.
-- Arguments: the file, and the number of wrk's threads, which share its lines.
local threads = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

function init(arguments)
   requests, sent = {}, 0
   local line_number = 0
   for line in io.lines(arguments[1]) do
      if line_number % tonumber(arguments[2]) == number then
         local headers = {["X-Signature"] = line:sub(1, 64), ["Content-Type"] = "application/json"}
         requests[#requests + 1] = wrk.format("POST", "/webhook", headers, line:sub(66))
      end
      line_number = line_number + 1
   end
end

function request()
   sent = sent + 1
   return requests[(sent - 1) % #requests + 1]
end

dofile(debug.getinfo(1, "S").source:match("@(.*)post%.lua") .. "report.lua")
