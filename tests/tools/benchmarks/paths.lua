-- Requests each line of a file, a path, and reports as JSON. Arguments: the file.
local paths, sent = {}, 0

function init(arguments)
   for line in io.lines(arguments[1]) do paths[#paths + 1] = wrk.format("GET", line) end
end

function request()
   sent = sent + 1
   return paths[(sent - 1) % #paths + 1]
end

dofile(os.getenv("REPORT_LUA"))
