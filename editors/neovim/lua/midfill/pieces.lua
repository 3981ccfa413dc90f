--- Which beginning of a suggestion is its next word, and which its next line.

local M = {}

-- Letters are what the buffer's 'iskeyword' says; a run of anything else counts as one word, so `):` is one key.
local WORD = vim.regex([[^\_s*\%(\k\+\|\%(\k\@!\S\)\+\)]])

---@param rest string
---@return string
function M.word(rest)
  local _, n_bytes = WORD:match_str(rest)
  return n_bytes and rest:sub(1, n_bytes) or rest
end

---@param rest string
---@return string
function M.line(rest)
  local n_bytes = rest:find('\n', 2, true)
  return n_bytes and rest:sub(1, n_bytes - 1) or rest
end

return M
