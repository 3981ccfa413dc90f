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
  M.current = status
  vim.api.nvim_exec_autocmds('User', { pattern = 'MidfillStatus', modeline = false, data = status })
  vim.cmd.redrawstatus({ bang = true })
end

--- `lsp.Handler` for `midfill/didChangeStatus`.
function M.on_change(_, status)
  M.set(status)
end

--- "midfill: loading 40 %"; empty where no server runs.
---@return string
function M.text()
  local status = M.current
  if not status then
    return ''
  end
  local word = WORDS[status.state] or status.state
  local share = type(status.progress) == 'number' and status.progress < 1 and (' %d %%'):format(status.progress * 100) or ''
  return 'midfill: ' .. word .. share
end

return M
