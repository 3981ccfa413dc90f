--- The suggestion on the screen: what it is, whether it still fits, and what is done with it.
---
--- Neovim draws it, and `vim.lsp.inline_completion.get()` gives it to us, but only once, later, and off the screen. To
--- look at it, and to leave the rest of it where it is, we reach into `vim.lsp._capability`, which is private:
--- everything that does is in this file, and without it (`completor` gives nil) the public way still works, with the
--- rest coming back after Neovim's 200 ms.

local api = vim.api

local M = {}

---@class midfill.Item: vim.lsp.inline_completion.Item
---@field _taken? integer Bytes of the server's text that were accepted before this item was made of the rest.
---@field _whole? string The server's text.

local namespace = api.nvim_create_namespace('midfill')

---@type table<integer, { id?: string, end_mark?: integer, item?: midfill.Item }> by buffer, of what was seen last
local seen = {}

---@param bufnr integer
---@return table? completor Neovim's state for the buffer, nil where there is none or it is no longer what we know.
local function completor(bufnr)
  local ok, all = pcall(function()
    return vim.lsp._capability.all.inline_completion.active
  end)
  local found = ok and all[bufnr]
  return found and type(found.show) == 'function' and type(found.hide) == 'function' and found or nil
end

---@param item midfill.Item
---@return string? id
function M.id(item)
  return vim.tbl_get(item, 'command', 'arguments', 1, 'id')
end

---@param item midfill.Item
---@return vim.lsp.Client? client Our client, nil where the suggestion is another one's.
local function our_client(item)
  local client = vim.lsp.get_client_by_id(item.client_id)
  return client and client.name == 'midfill' and client or nil
end

---@param method string
---@param item midfill.Item
---@param more? table
local function notify(method, item, more)
  local client, id = our_client(item), M.id(item)
  if client and id then
    client:notify(method, vim.tbl_extend('error', { id = id }, more or {}))
  end
end

--- How much of the item was typed since; nil where what was typed, or where the cursor went, disagrees with it.
---@param bufnr integer
---@param item midfill.Item
---@return integer? n_typed in bytes
function M.typed(bufnr, item)
  if type(item.insert_text) ~= 'string' then
    return nil
  end
  if not item.range then
    return 0
  end
  local row, col = item.range:to_extmark()
  local cursor = api.nvim_win_get_cursor(0)
  local ok, lines = pcall(api.nvim_buf_get_text, bufnr, row, col, cursor[1] - 1, cursor[2], {})
  if not ok or row > cursor[1] - 1 then -- the cursor is before the range, or the text is gone
    return nil
  end
  local typed = table.concat(lines, '\n')
  return vim.startswith(item.insert_text, typed) and #typed or nil
end

--- The item on the screen, if it fits and has something left to say.
---@param bufnr integer
---@return midfill.Item?
function M.shown(bufnr)
  local found = completor(bufnr)
  local item = found and found.current
  if not item then
    return nil
  end
  local n_typed = M.typed(bufnr, item)
  return n_typed and n_typed < #item.insert_text and item or nil
end

--- Whether a key that works on a suggestion has one to work on.
---@param bufnr integer
---@return boolean
function M.is_shown(bufnr)
  if vim.lsp._capability then
    return M.shown(bufnr) ~= nil
  end
  -- Without a look at the item, what is drawn has to do.
  local drawn = api.nvim_create_namespace('nvim.lsp.inline_completion')
  return #api.nvim_buf_get_extmarks(bufnr, drawn, 0, -1, { limit = 1 }) > 0
end

---@param bufnr integer
function M.hide(bufnr)
  local found = completor(bufnr)
  if found then
    found:hide()
    found.current = nil
  end
end

--- Takes a suggestion off the screen at once when the text or the cursor leaves it; Neovim would let it stand, cut at
--- the wrong place, until the next reply.
---@param bufnr integer
function M.hide_if_stale(bufnr)
  local found = completor(bufnr)
  local item = found and found.current
  if item and our_client(item) and not M.typed(bufnr, item) then
    M.hide(bufnr)
  end
end

--- Tells the server what the user sees, once for each suggestion, and marks where the range of it ends.
---@param bufnr integer
function M.see(bufnr)
  local item = M.shown(bufnr)
  if not item or not our_client(item) then
    return
  end
  local last = seen[bufnr] or {}
  seen[bufnr] = last
  if last.item ~= item and item.range then
    -- A mark, because typing before the end of the range moves that end.
    local _, _, row, col = item.range:to_extmark()
    local ok, mark = pcall(api.nvim_buf_set_extmark, bufnr, namespace, row, col, { id = last.end_mark })
    last.end_mark, last.item = ok and mark or last.end_mark, ok and item or nil
  end
  local id = M.id(item)
  if id and id ~= last.id then
    last.id = id
    notify('midfill/didShow', item)
  end
end

---@param bufnr integer
function M.forget(bufnr)
  seen[bufnr] = nil
end

--- Where the text that the item replaces ends: at the cursor, or behind it where the server's range says so.
---@param bufnr integer
---@param item midfill.Item
---@return integer row, integer col
local function end_of(bufnr, item)
  local cursor = api.nvim_win_get_cursor(0)
  local row, col = cursor[1] - 1, cursor[2]
  local last = seen[bufnr]
  if last and last.item == item and last.end_mark then
    local mark = api.nvim_buf_get_extmark_by_id(bufnr, namespace, last.end_mark, {})
    if mark[1] and (mark[1] > row or (mark[1] == row and mark[2] > col)) then
      return mark[1], mark[2]
    end
  end
  return row, col
end

--- Leaves what was not accepted on the screen.
---@param bufnr integer
---@param rest midfill.Item
---@param row integer
---@param col integer
---@param end_row integer
---@param end_col integer
local function put_back(bufnr, rest, row, col, end_row, end_col)
  local found = completor(bufnr)
  local ok, range = pcall(vim.range.extmark, bufnr, row, col, end_row, end_col)
  if found and ok then
    rest.range = range
    found.current = rest
    found:show()
    M.see(bufnr)
  end
end

--- Inserts a beginning of the item's rest at the cursor.
---
--- Neovim's own accept replaces the range of the reply, and so doubles what was typed since (neovim#36529).
---@param bufnr integer
---@param item midfill.Item
---@param choose fun(rest: string): string which beginning
local function insert(bufnr, item, choose)
  local n_typed = M.typed(bufnr, item)
  if not n_typed then
    return
  end
  local rest = item.insert_text:sub(n_typed + 1) --[[@as string]]
  local piece = choose(rest)
  local is_all = piece == rest
  local end_row, end_col = end_of(bufnr, item)
  local cursor = api.nvim_win_get_cursor(0)
  local row, col = cursor[1] - 1, cursor[2]
  local lines = vim.split(piece, '\n', { plain = true })
  M.break_undo()
  if is_all then
    api.nvim_buf_set_text(bufnr, row, col, end_row, end_col, lines)
  else
    api.nvim_buf_set_text(bufnr, row, col, row, col, lines)
  end
  local new_row, new_col = row + #lines - 1, (#lines == 1 and col or 0) + #lines[#lines]
  api.nvim_win_set_cursor(0, { new_row + 1, new_col })
  M.break_undo()

  if is_all then
    local client = our_client(item)
    if client and item.command then
      client:exec_cmd(item.command, { bufnr = bufnr })
    end
    return
  end
  local taken = (item._taken or 0) + n_typed + #piece
  local whole = item._whole or item.insert_text --[[@as string]]
  notify('midfill/didPartiallyAccept', item, { acceptedLength = vim.str_utfindex(whole, 'utf-16', taken) })
  local remainder = vim.tbl_extend('force', item, { insert_text = rest:sub(#piece + 1), _taken = taken, _whole = whole })
  if end_row == row then -- what is replaced behind the cursor has moved with it
    end_row, end_col = new_row, end_col + new_col - col
  else
    end_row = end_row + #lines - 1
  end
  put_back(bufnr, remainder, new_row, new_col, end_row, end_col)
end

--- What was typed before stays when an accept is undone, and the other way round.
function M.break_undo()
  vim.bo.undolevels = vim.bo.undolevels -- documented to begin a new undo block
end

--- Takes the suggestion off the screen and hands it over: at once where we may, for what is typed meanwhile must not
--- overtake it; `get()` would hand it over only when Neovim is idle next.
---@param use fun(bufnr: integer, item: midfill.Item)
---@return boolean was_shown
local function take(use)
  local bufnr = api.nvim_get_current_buf()
  if not M.is_shown(bufnr) then
    return false
  end
  local found = completor(bufnr)
  local item = found and found.current
  if not item or type(found.abort) ~= 'function' then
    return vim.lsp.inline_completion.get({
      on_accept = function(given)
        use(bufnr, given --[[@as midfill.Item]])
      end,
    })
  end
  found:abort()
  use(bufnr, item)
  return true
end

--- Accepts a beginning of what is shown.
---@param choose fun(rest: string): string
---@return boolean was_shown
function M.accept(choose)
  return take(function(bufnr, item)
    insert(bufnr, item, choose)
  end)
end

--- Takes what is shown off the screen and tells the server that it was not wanted.
---@return boolean was_shown
function M.dismiss()
  return take(function(_, item)
    notify('midfill/didDismiss', item)
  end)
end

--- Asks for suggestions as a person does, on demand.
---@return boolean was_asked
function M.trigger()
  local found = completor(api.nvim_get_current_buf())
  if not found or type(found.request) ~= 'function' then
    return false
  end
  found:request(vim.lsp.protocol.InlineCompletionTriggerKind.Invoked)
  return true
end

--- Asks as if something had been typed, where typing has begun before there was anybody to ask.
---@param bufnr integer
function M.refresh(bufnr)
  local found = completor(bufnr)
  local is_typing = api.nvim_get_current_buf() == bufnr and vim.startswith(api.nvim_get_mode().mode, 'i')
  if is_typing and found and type(found.automatic_request) == 'function' then
    found:automatic_request()
  end
end

--- How many suggestions there are to choose from.
---@param bufnr integer
---@return integer
function M.count(bufnr)
  local found = completor(bufnr)
  return found and type(found.count_items) == 'function' and found:count_items() or 0
end

return M
