--- `:checkhealth midfill`: what is there, what was chosen and why, and what to do about what is missing.

local M = {}

local health = vim.health

local ANSWER_WITHIN_MS = 2000

---@param client vim.lsp.Client
---@param method string
---@param params table
---@return any result, string? problem
local function ask(client, method, params)
  local answer, problem = client:request_sync(method, params, ANSWER_WITHIN_MS)
  if not answer then
    return nil, ('%s: no answer within %d ms (%s)'):format(method, ANSWER_WITHIN_MS, problem or 'timeout')
  elseif answer.err then
    return nil, ('%s: %s'):format(method, answer.err.message)
  end
  return answer.result
end

local function check_neovim()
  health.start('midfill: Neovim')
  if vim.fn.has('nvim-0.12') == 0 then
    health.error('Neovim 0.12 or newer is needed for inline completion', 'Update Neovim.')
    return false
  end
  health.ok('Neovim ' .. tostring(vim.version()))
  local completors = vim.tbl_get(vim.lsp, '_capability', 'all', 'inline_completion')
  if not completors then
    health.warn(
      "Neovim's inline completion is not as this plugin knows it",
      'Suggestions work, but what is shown is not reported, and what follows an accepted word comes back late.'
    )
  end
  return true
end

local function check_command()
  health.start('midfill: server')
  local cmd = require('midfill.config').command()
  local path = vim.fn.exepath(cmd[1])
  if path == '' then
    health.error(('`%s` is not on PATH'):format(cmd[1]), {
      'Install midfill with pip, or',
      "name the command: require('midfill').setup({ cmd = { '/path/to/midfill', 'serve' } }).",
    })
    return
  end
  local result = vim.system({ path, '--version' }, { text = true }):wait(10000)
  local version = vim.trim((result.stdout or '') .. (result.stderr or ''))
  health[result.code == 0 and 'ok' or 'error'](('%s: %s'):format(path, version))
  health.info('command: ' .. table.concat(cmd, ' '))
end

local function check_client()
  local client = require('midfill.server').client()
  if not client then
    health.warn(
      'no server runs',
      vim.lsp.is_enabled('midfill') and 'Open a file: it starts with the first one.'
        or "Call require('midfill').setup() in your init.lua."
    )
    return
  end
  local info = client.server_info or {}
  health.ok(('%s %s serves %d buffers'):format(info.name, info.version, vim.tbl_count(client.attached_buffers)))
  if not client:supports_method('textDocument/inlineCompletion') then
    health.error('the server offers no inline completion', 'It is older than this plugin: update it.')
  end
  local status, problem = ask(client, 'midfill/status', vim.empty_dict())
  if not status then
    health.error(problem --[[@as string]])
    return
  end
  local lines = require('midfill.status').describe(status)
  local first = table.remove(lines, 1)
  if status.state == 'engine_down' then
    health.error(first, 'See `midfill engine logs`; :Midfill restart-engine starts it again.')
  elseif status.state == 'disabled' then
    health.warn(first, ':Midfill toggle turns suggestions on.')
  else
    health.ok(first)
  end
  for _, line in ipairs(lines) do
    health.info(line)
  end
  for bufnr in pairs(client.attached_buffers) do
    local answer = ask(client, 'midfill/why', { textDocument = { uri = vim.uri_from_bufnr(bufnr) } })
    if answer then
      health.info(('%s: %s'):format(vim.fn.bufname(bufnr), answer.about))
    end
  end
end

local function check_keys()
  health.start('midfill: keys')
  for action, lhs in vim.spairs(require('midfill.config').current.keymaps) do
    if lhs then
      local map = vim.fn.maparg(lhs, 'i', false, true)
      if vim.startswith(map.desc or '', 'midfill: ') then
        health.ok(('%s %s'):format(lhs, action))
      else
        health.warn(
          ('%s does not %s: it is mapped to %s'):format(lhs, action, map.desc or map.rhs or 'nothing'),
          'Something was mapped after setup(), or setup() was not called.'
        )
      end
    end
  end
end

function M.check()
  if check_neovim() then
    check_command()
    check_client()
    check_keys()
  end
end

return M
