"""Runs transformers 4.53.3, the last release that obeys the softmax flags, on cases from a file; a process of its own.

It cannot share one with the newest release. Usage: oracle_4_53.py ORACLE_FOLDER CASES.pt ANSWERS.pt. A case is
{config, dtype, weights, ids, mask}; its answer the logits and hidden states.
"""

from __future__ import annotations

import sys
from typing import Any


def answer(case: dict[str, Any]) -> dict[str, Any]:
    import torch
    import transformers

    assert transformers.__version__ == "4.53.3"
    config = transformers.GPTBigCodeConfig(**case["config"])
    model = transformers.GPTBigCodeForCausalLM._from_config(config, attn_implementation="eager", torch_dtype=case["dtype"])
    model.load_state_dict(case["weights"])
    model.eval()
    with torch.inference_mode():
        output = model(case["ids"], attention_mask=case["mask"], output_hidden_states=True)
    return {"logits": output.logits.clone(), "hidden_states": [h.clone() for h in output.hidden_states]}


def main(oracle: str, cases: str, answers: str) -> None:
    sys.path.insert(0, oracle)
    import torch

    torch.set_num_threads(1)
    torch.save([answer(case) for case in torch.load(cases, weights_only=True)], answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
