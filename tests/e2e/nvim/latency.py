"""How long ghost text takes in a real Neovim, from the key to the drawn text, apart from the 200 ms that Neovim waits.

`make bench-e2e-nvim` writes build/bench/e2e-nvim.json. The engine is scripted, so what is measured is Neovim, the
server and the way between them, beside the pure round trip of the same request on the same connection.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from tests.e2e.home import ROOT, Home
from tests.e2e.nvim.neovim import Neovim

N_KEYS = 60
DEBOUNCE_MS = 200
RESULT = ROOT / "build" / "bench" / "e2e-nvim.json"

# Measured inside Neovim, on its clock: from the key's event to the extmark that the reply has drawn.
MEASURE = """
local ours, theirs = {}, vim.api.nvim_create_namespace('nvim.lsp.inline_completion')
_G.key_at, _G.times = nil, {}
vim.api.nvim_create_autocmd('InsertCharPre', { callback = function() _G.key_at = vim.uv.hrtime() end })
vim.api.nvim_create_autocmd('LspRequest', { callback = function(event)
  local request = event.data.request
  if request.method ~= 'textDocument/inlineCompletion' then return end
  if request.type == 'pending' then ours.sent_at = vim.uv.hrtime() end
  if request.type == 'complete' and _G.key_at then
    local replied_at = vim.uv.hrtime()
    vim.schedule(function()
      local drawn = #vim.api.nvim_buf_get_extmarks(0, theirs, 0, -1, {}) > 0
      table.insert(_G.times, {
        key_to_drawn = (vim.uv.hrtime() - _G.key_at) / 1e6,
        sent_to_reply = (replied_at - ours.sent_at) / 1e6,
        drawn = drawn,
      })
      _G.key_at = nil
    end)
  end
end })
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder), {"prefix_ends": "", "text": "done()\n"})
        nvim = Neovim(home)
        nvim.edit(home.write("code.txt", "start\n"), "start")
        nvim.lua(MEASURE)
        for n in range(N_KEYS):
            nvim.type_and_hear("\n" if n % 20 == 19 else "x")
        times = nvim.lua("return _G.times")
        nvim.close()
    result = summarise(times)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


def summarise(times: list[dict[str, float]]) -> dict[str, object]:
    """Gives quantiles of the ones that were drawn, and what is left without Neovim's own waiting."""
    drawn = [each for each in times if each["drawn"]]
    overhead = [each["key_to_drawn"] - DEBOUNCE_MS for each in drawn]
    round_trip = [each["sent_to_reply"] for each in drawn]
    return {
        "editor": "Neovim",
        "n_keys": len(times),
        "n_drawn": len(drawn),
        "debounce_ms": DEBOUNCE_MS,
        "overhead_ms": quantiles(overhead),
        "round_trip_ms": quantiles(round_trip),
        "overhead_per_debounce": round(statistics.median(overhead) / DEBOUNCE_MS, 4),
    }


def quantiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2), "min": round(min(values), 2)}


if __name__ == "__main__":
    main()
