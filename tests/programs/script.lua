-- SPDX-License-Identifier: MIT
-- Allocation patterns of a garbage-collected language: tables, strings, closures,
-- coroutines, files; every result is checked.

local function check(name, got, wanted)
    if got ~= wanted then
        error(name .. ": got " .. tostring(got) .. ", wanted " .. tostring(wanted))
    end
end

-- a sieve
local sieve, count = {}, 0
for i = 2, 20000 do
    if not sieve[i] then
        count = count + 1
        for j = i * i, 20000, i do
            sieve[j] = true
        end
    end
end
check("primes below 20000", count, 2262)

-- strings that live and die
local parts = {}
for i = 1, 20000 do
    parts[#parts + 1] = string.format("%d:%s", i, string.rep("x", i % 17))
end
local text = table.concat(parts, ",")
check("length", #text, 288865)
local lines = 0
for _ in text:gmatch("[^,]+") do
    lines = lines + 1
end
check("pieces", lines, 20000)

-- a tree, dropped and collected
local function tree(depth)
    if depth == 0 then
        return {}
    end
    return { tree(depth - 1), tree(depth - 1) }
end
local function size(node)
    return node[1] and 1 + size(node[1]) + size(node[2]) or 1
end
for _ = 1, 5 do
    check("tree", size(tree(13)), 2 ^ 14 - 1)
end
collectgarbage()
local before = collectgarbage("count")
local garbage = tree(12)
garbage = nil
collectgarbage()
assert(collectgarbage("count") < before + 64, "garbage stays")

-- coroutines
local function counter(n)
    return coroutine.wrap(function()
        for i = 1, n do
            coroutine.yield(i)
        end
    end)
end
local sum = 0
for _ = 1, 200 do
    for i in counter(100) do
        sum = sum + i
    end
end
check("coroutines", sum, 200 * 5050)

-- files
local name = os.tmpname()
local file = assert(io.open(name, "w"))
for i = 1, 5000 do
    file:write(i, "\n")
end
file:close()
sum = 0
for line in io.lines(name) do
    sum = sum + tonumber(line)
end
check("file", sum, 5000 * 5001 / 2)
os.remove(name)

print("lua: all checks passed")
