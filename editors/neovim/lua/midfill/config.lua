--- What the user may configure, checked; and the client that Neovim starts from it.

local settings = require('midfill.settings')

local M = {}

---@class midfill.Keymaps Keys of insert mode; `false` maps none. Each falls through where nothing is shown.
---@field accept? string|false
---@field accept_word? string|false
---@field accept_line? string|false
---@field next? string|false
---@field previous? string|false
---@field dismiss? string|false
---@field trigger? string|false

---@class midfill.Config
---@field cmd? string[] The server without its options; the first word is looked up on PATH.
---@field server? midfill.UserSettings Handed to the server on its command line, which no workspace can reach.
---@field settings? midfill.Settings Sent over LSP.
---@field keymaps? midfill.Keymaps
---@field filetypes? string[] Where to suggest; nil: in every file.

---@type midfill.Config
M.defaults = {
  cmd = { 'midfill', 'serve' },
  server = {},
  settings = {},
  keymaps = {
    accept = '<Tab>',
    accept_word = '<M-Right>',
    accept_line = '<M-C-Right>',
    next = '<M-]>',
    previous = '<M-[>',
    dismiss = '<C-]>',
    trigger = '<M-Bslash>',
  },
  filetypes = nil,
}

---@type midfill.Config
M.current = vim.deepcopy(M.defaults)

local KINDS = {
  cmd = 'table',
  server = 'table',
  settings = 'table',
  keymaps = 'table',
  filetypes = 'table',
}

--- Lays the user's choices over the defaults; gives a line for each that was not taken.
---@param values? midfill.Config
---@return string[] problems
function M.apply(values)
  local problems = {} ---@type string[]
  local taken = {} ---@type table<string, any>
  for name, value in vim.spairs(values or {}) do
    if not KINDS[name] then
      table.insert(problems, ('%s: unknown; there are %s'):format(name, table.concat(vim.tbl_keys(KINDS), ', ')))
    elseif type(value) ~= KINDS[name] then
      table.insert(problems, ('%s: must be a %s, got %s'):format(name, KINDS[name], type(value)))
    else
      taken[name] = vim.deepcopy(value)
    end
  end
  taken.settings = M._known(taken.settings, 'settings', false, problems)
  taken.server = M._known(taken.server, 'server', true, problems)
  for name in vim.spairs(taken.keymaps or {}) do
    if M.defaults.keymaps[name] == nil then
      table.insert(problems, ('keymaps.%s: unknown'):format(name))
      taken.keymaps[name] = nil
    end
  end
  M.current = vim.tbl_deep_extend('force', vim.deepcopy(M.defaults), taken)
  M.current.cmd = taken.cmd or M.current.cmd -- lists are replaced, not merged
  M.current.filetypes = taken.filetypes
  return problems
end

--- Keeps the settings that the server has, each in its place. Their values are the server's to judge.
---@param values? table<string, any>
---@param where string
---@param user_only boolean
---@param problems string[]
---@return table<string, any>
function M._known(values, where, user_only, problems)
  local known = {}
  for name, value in vim.spairs(values or {}) do
    local setting = settings.all[name]
    if not setting then
      table.insert(problems, ('%s.%s: unknown'):format(where, name))
    elseif setting.user_only ~= user_only then
      table.insert(problems, ('%s.%s: belongs to `%s`'):format(where, name, user_only and 'settings' or 'server'))
    else
      known[name] = value
    end
  end
  return known
end

---@return string[]
function M.command()
  local command = vim.deepcopy(M.current.cmd)
  for name, value in vim.spairs(M.current.server) do
    vim.list_extend(command, { settings.all[name].option, tostring(value) })
  end
  return command
end

--- The configuration for |vim.lsp.config()|.
---@return vim.lsp.Config
function M.client()
  -- A plain empty table would be sent as a list.
  local sent = next(M.current.settings) and M.current.settings or vim.empty_dict()
  return {
    cmd = M.command(),
    filetypes = M.current.filetypes,
    init_options = sent,
    settings = { midfill = sent },
    -- One server for all projects: it has no notion of a project, and a second one would only cost memory.
    root_dir = function(bufnr, on_dir)
      if vim.bo[bufnr].buftype ~= '' then
        return
      end
      on_dir(vim.fs.root(bufnr, '.git') or vim.fs.dirname(vim.api.nvim_buf_get_name(bufnr)))
    end,
    reuse_client = function(client, config)
      return client.name == config.name and not client:is_stopped()
    end,
    handlers = { ['midfill/didChangeStatus'] = require('midfill.status').on_change },
    on_exit = require('midfill.server').on_exit,
  }
end

return M
