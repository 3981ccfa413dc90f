--- The one client that Neovim runs for us: started, watched, restarted.

local api = vim.api
local ghost = require('midfill.ghost')
local status = require('midfill.status')

local M = {}

local METHOD = 'textDocument/inlineCompletion'
-- A server that dies at once, again and again, needs a person.
local MAX_RESTARTS, RESTARTS_WITHIN_S = 5, 180

local restarts = {} ---@type integer[] when, in seconds
local to_select = nil ---@type integer? how far to cycle when the alternatives have come

---@return vim.lsp.Client?
function M.client()
  return vim.lsp.get_clients({ name = 'midfill' })[1]
end

--- Asks our server something.
---@param method string
---@param params table
---@param on_result fun(result: any)
function M.request(method, params, on_result)
  local client = M.client()
  if not client then
    vim.notify('midfill: no server runs; see :checkhealth midfill', vim.log.levels.WARN)
    return
  end
  client:request(method, params, function(err, result)
    if err then
      vim.notify(('midfill: %s: %s'):format(method, err.message), vim.log.levels.ERROR)
    else
      on_result(result)
    end
  end)
end

---@param bufnr integer
local function attach(bufnr)
  if vim.b[bufnr].midfill_enabled ~= false then
    vim.lsp.inline_completion.enable(true, { bufnr = bufnr })
  end
  local group = api.nvim_create_augroup('midfill.' .. bufnr, {})
  api.nvim_create_autocmd({ 'CursorMovedI', 'TextChangedI' }, {
    group = group,
    buffer = bufnr,
    callback = function()
      -- Behind Neovim's own handler, whichever of the two was registered first.
      vim.schedule(function()
        if api.nvim_buf_is_valid(bufnr) and api.nvim_get_current_buf() == bufnr then
          ghost.hide_if_stale(bufnr)
        end
      end)
    end,
  })
  -- Neovim begins with inline completion one turn of its loop after this one.
  vim.schedule(function()
    vim.schedule(function()
      ghost.refresh(bufnr)
    end)
  end)
  M.request('midfill/status', vim.empty_dict(), status.set)
end

---@param bufnr integer
local function after_reply(bufnr)
  if not api.nvim_buf_is_valid(bufnr) or api.nvim_get_current_buf() ~= bufnr then
    return
  end
  ghost.hide_if_stale(bufnr)
  if to_select and ghost.count(bufnr) > 1 then
    vim.lsp.inline_completion.select({ bufnr = bufnr, count = to_select })
  end
  to_select = nil
  ghost.see(bufnr)
end

function M.enable()
  local config = require('midfill.config')
  local group = api.nvim_create_augroup('midfill', {})
  api.nvim_create_autocmd('LspAttach', {
    group = group,
    callback = function(event)
      local client = vim.lsp.get_client_by_id(event.data.client_id)
      if client and client.name == 'midfill' then
        attach(event.buf)
      end
    end,
  })
  api.nvim_create_autocmd('LspRequest', {
    group = group,
    callback = function(event)
      local request = event.data.request
      if request.method == METHOD and request.type == 'complete' then
        vim.schedule(function()
          after_reply(event.buf)
        end)
      end
    end,
  })
  api.nvim_create_autocmd('BufWipeout', {
    group = group,
    callback = function(event)
      ghost.forget(event.buf)
    end,
  })
  if vim.fn.executable(config.current.cmd[1]) == 0 then
    local message = "midfill: `%s` is not on PATH: install it, or name it in require('midfill').setup({ cmd = … })"
    vim.notify(message:format(config.current.cmd[1]), vim.log.levels.WARN)
    return
  end
  vim.lsp.config('midfill', config.client())
  vim.lsp.enable('midfill')
end

--- Client callback: starts a server that died again, up to a few times.
---@param code integer
---@param signal integer
function M.on_exit(code, signal)
  vim.schedule(function()
    status.set(nil)
    if (code == 0 and signal == 0) or not vim.lsp.is_enabled('midfill') or vim.v.exiting ~= vim.NIL then
      return
    end
    local now = os.time()
    restarts = vim.tbl_filter(function(at)
      return now - at < RESTARTS_WITHIN_S
    end, restarts)
    if #restarts >= MAX_RESTARTS then
      local message = 'midfill: the server ended %d times within %d s; see :checkhealth midfill'
      vim.notify(message:format(#restarts + 1, RESTARTS_WITHIN_S), vim.log.levels.ERROR)
      return
    end
    table.insert(restarts, now)
    vim.lsp.enable('midfill')
  end)
end

function M.restart()
  restarts = {}
  local client = M.client()
  vim.lsp.enable('midfill', false)
  local function start()
    if client and not client:is_stopped() then
      vim.defer_fn(start, 20) -- one at a time, or the new one's documents would be closed with the old one's
    else
      vim.lsp.enable('midfill')
    end
  end
  start()
end

--- Turns suggestions off or on everywhere: the server then has nothing to say, and its status says so.
function M.toggle()
  local settings = require('midfill.config').current.settings
  settings.enabled = settings.enabled == false
  vim.lsp.config('midfill', require('midfill.config').client()) -- for the next start
  local client = M.client()
  if client then
    client.settings = { midfill = settings }
    client:notify('workspace/didChangeConfiguration', { settings = client.settings })
    M.request('midfill/status', vim.empty_dict(), status.set)
  end
  if not settings.enabled then
    ghost.hide(api.nvim_get_current_buf())
  end
  vim.notify('midfill: suggestions are ' .. (settings.enabled and 'on' or 'off'))
end

--- Turns suggestions off or on in one buffer.
---@param bufnr integer
function M.toggle_buffer(bufnr)
  local is_on = vim.lsp.inline_completion.is_enabled({ bufnr = bufnr })
  vim.b[bufnr].midfill_enabled = not is_on
  vim.lsp.inline_completion.enable(not is_on, { bufnr = bufnr })
  ghost.refresh(bufnr)
  vim.notify('midfill: suggestions in this buffer are ' .. (is_on and 'off' or 'on'))
end

---@param count integer
---@return boolean was_shown
function M.cycle(count)
  local bufnr = api.nvim_get_current_buf()
  if not ghost.is_shown(bufnr) then
    return false
  end
  vim.schedule(function()
    if ghost.count(bufnr) > 1 then
      vim.lsp.inline_completion.select({ bufnr = bufnr, count = count })
      ghost.see(bufnr)
    else
      to_select = ghost.trigger() and count or nil
    end
  end)
  return true
end

return M
