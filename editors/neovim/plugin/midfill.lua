if vim.g.loaded_midfill then
  return
end
vim.g.loaded_midfill = true

local ACTIONS = {
  status = function()
    require('midfill.server').request('midfill/status', vim.empty_dict(), function(status)
      vim.notify(table.concat(require('midfill.status').describe(status), '\n'))
    end)
  end,
  why = function()
    local params = { textDocument = vim.lsp.util.make_text_document_params() }
    require('midfill.server').request('midfill/why', params, function(answer)
      vim.notify('midfill: ' .. answer.about)
    end)
  end,
  toggle = function()
    require('midfill').toggle()
  end,
  ['toggle-buffer'] = function()
    require('midfill').toggle_buffer()
  end,
  restart = function()
    require('midfill').restart()
  end,
  ['restart-engine'] = function()
    require('midfill').restart_engine()
  end,
  log = function()
    vim.cmd.tabnew(vim.fn.fnameescape(vim.lsp.log.get_filename()))
  end,
}

vim.api.nvim_create_user_command('Midfill', function(command)
  local name = command.args
  if ACTIONS[name] then
    ACTIONS[name]()
  else
    local known = table.concat(vim.tbl_keys(ACTIONS), ', ')
    vim.notify(('midfill: no such command: %s; there are %s'):format(name, known), vim.log.levels.ERROR)
  end
end, {
  nargs = 1,
  desc = 'Look after midfill',
  complete = function(lead)
    return vim.tbl_filter(function(name)
      return vim.startswith(name, lead)
    end, vim.tbl_keys(ACTIONS))
  end,
})
