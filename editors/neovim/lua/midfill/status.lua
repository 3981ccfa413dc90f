--- What the server says about itself, for people.

local M = {}

---@class midfill.Status What `midfill/status` and `midfill/didChangeStatus` carry.
---@field state 'loading'|'warming'|'ready'|'busy'|'disabled'|'engine_down'
---@field model? string
---@field device? string
---@field progress? number from 0 to 1
---@field detail? string
---@field last? table<string, any> counters of the last request

---@type midfill.Status?
M.current = nil

local WORDS = { engine_down = 'engine down', disabled = 'off' }

---@param status? midfill.Status nil when the server has gone
function M.set(status)
  local waited = M.current and M.current.state ~= 'ready' and M.current.state ~= 'busy'
  M.current = status
  vim.api.nvim_exec_autocmds('User', { pattern = 'MidfillStatus', modeline = false, data = status })
  vim.cmd.redrawstatus({ bang = true })
  if waited and status and status.state == 'ready' then
    require('midfill.ghost').refresh(vim.api.nvim_get_current_buf()) -- what was typed meanwhile had no answer
  end
end

--- `lsp.Handler` for `midfill/didChangeStatus`.
function M.on_change(_, status)
  M.set(status)
end

--- What the server is, and what its last answer cost: a line each.
---@param status midfill.Status
---@return string[]
function M.describe(status)
  local said = vim.tbl_filter(function(value)
    return type(value) == 'string' and value ~= ''
  end, { status.model, status.device, status.dtype, status.attention })
  local lines = { 'engine: ' .. M._state(status) }
  if type(status.detail) == 'string' and status.detail ~= '' then
    table.insert(lines, status.detail)
  end
  if #said > 0 then
    table.insert(lines, 'model: ' .. table.concat(said, ', '))
  end
  local last = status.last
  if type(last) == 'table' then
    local function ms(value)
      return type(value) == 'number' and ('%.0f ms'):format(value) or '–' -- vim.NIL where no text came
    end
    local text = 'last request: %s, first token %s; %d of %d tokens reused, %d prefilled, %d decoded, until %s'
    local counts = { last.reused, last.prompt, last.prefilled, last.decoded, last.finish }
    table.insert(lines, text:format(ms(last.total_ms), ms(last.first_ms), unpack(counts)))
  end
  return lines
end

--- "midfill: loading 40 %"; empty where no server runs.
---@return string
function M.text()
  local status = M.current
  if not status then
    return ''
  end
  return 'midfill: ' .. M._state(status)
end

---@param status midfill.Status
---@return string
function M._state(status)
  local word = WORDS[status.state] or status.state
  local share = type(status.progress) == 'number' and status.progress < 1 and (' %d %%'):format(status.progress * 100) or ''
  return word .. share
end

return M
