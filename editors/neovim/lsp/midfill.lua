--- For those who use |vim.lsp.enable()| without |midfill.setup()|.
return require('midfill.config').client()
