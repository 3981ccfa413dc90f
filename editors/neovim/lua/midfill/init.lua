--- Inline code completion from the midfill language server: what a user calls. See |midfill|.

local M = {}

--- Neovim learnt inline completion in 0.12.
---@return boolean
local function is_supported()
  if vim.fn.has('nvim-0.12') == 1 then
    return true
  end
  local version = vim.version and tostring(vim.version()) or 'an older one'
  vim.notify_once(
    ('midfill: needs Neovim 0.12 or newer for inline completion, this is %s'):format(version),
    vim.log.levels.ERROR
  )
  return false
end

--- Starts midfill in every file that is opened.
---@param values? midfill.Config
function M.setup(values)
  if not is_supported() then
    return
  end
  local config = require('midfill.config')
  local problems = config.apply(values)
  if #problems > 0 then
    vim.notify('midfill: ' .. table.concat(problems, '; '), vim.log.levels.WARN)
  end
  require('midfill.server').enable()
  require('midfill.keymaps').map(config.current.keymaps)
end

--- Accepts all of the suggestion.
---@return boolean was_shown false where there was nothing to accept
function M.accept()
  return require('midfill.ghost').accept(function(rest)
    return rest
  end)
end

--- Accepts the next word, or the next run of punctuation, with the white space before it.
---@return boolean was_shown
function M.accept_word()
  return require('midfill.ghost').accept(require('midfill.pieces').word)
end

--- Accepts up to the end of the line, or the next line where this one is complete.
---@return boolean was_shown
function M.accept_line()
  return require('midfill.ghost').accept(require('midfill.pieces').line)
end

--- Takes the suggestion off the screen; it is not offered there again.
---@return boolean was_shown
function M.dismiss()
  return require('midfill.ghost').dismiss()
end

--- Asks for a suggestion now.
---@return boolean was_asked
function M.trigger()
  return require('midfill.ghost').trigger()
end

--- Shows the next suggestion; asks for alternatives where there is only one.
---@return boolean was_shown
function M.next()
  return require('midfill.server').cycle(1)
end

--- Shows the previous suggestion.
---@return boolean was_shown
function M.previous()
  return require('midfill.server').cycle(-1)
end

--- Turns suggestions off or on everywhere.
function M.toggle()
  require('midfill.server').toggle()
end

--- Turns suggestions off or on in one buffer.
---@param bufnr? integer nil or 0 for the current one
function M.toggle_buffer(bufnr)
  require('midfill.server').toggle_buffer((bufnr or 0) == 0 and vim.api.nvim_get_current_buf() or bufnr)
end

--- Stops the language server and starts it again. The engine, which holds the model, stays as it is.
function M.restart()
  require('midfill.server').restart()
end

--- Ends the engine and starts it again.
function M.restart_engine()
  require('midfill.server').request('midfill/restartEngine', {}, function()
    vim.notify('midfill: the engine starts anew')
  end)
end

--- For a statusline: `%{v:lua.require'midfill'.statusline()}`.
---@return string
function M.statusline()
  return require('midfill.status').text()
end

return M
