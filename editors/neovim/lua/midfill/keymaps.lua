--- Keys of insert mode that do what they did before wherever no suggestion is shown.

local M = {}

--- What the key did before us: a mapping of the user's or of Neovim's own, or nothing but the key.
---@param lhs string
---@param before table what |maparg()| said
---@return string keys to be typed instead
local function fall_through(lhs, before)
  if before.callback then
    local keys = before.callback()
    keys = before.expr == 1 and type(keys) == 'string' and keys or ''
    return before.replace_keycodes == 1 and vim.keycode(keys) or keys
  elseif before.rhs and before.expr == 1 then
    local keys = vim.fn.eval(before.rhs)
    return type(keys) == 'string' and (before.replace_keycodes == 1 and vim.keycode(keys) or keys) or ''
  elseif before.rhs then
    return vim.keycode(before.rhs)
  end
  return vim.keycode(lhs)
end

---@param keymaps midfill.Keymaps
function M.map(keymaps)
  for action, lhs in pairs(keymaps) do
    if lhs then
      M._map(action, lhs)
    end
  end
end

---@param action string
---@param lhs string
function M._map(action, lhs)
  local before = vim.fn.maparg(lhs, 'i', false, true)
  if before.desc and vim.startswith(before.desc, 'midfill: ') then
    return -- set up twice
  end
  -- While the expression is evaluated no text may change; a command that it gives may, and comes before what is typed next.
  local command = vim.keycode(("<Cmd>lua require('midfill').%s()<CR>"):format(action))
  vim.keymap.set('i', lhs, function()
    if action == 'trigger' or require('midfill.ghost').is_shown(vim.api.nvim_get_current_buf()) then
      return command
    end
    return fall_through(lhs, before)
  end, {
    expr = true,
    replace_keycodes = false,
    -- What the key did before may itself have been meant to be mapped further.
    remap = before.rhs ~= nil and before.noremap == 0,
    desc = 'midfill: ' .. action:gsub('_', ' '),
  })
end

return M
