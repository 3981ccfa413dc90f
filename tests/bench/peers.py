"""The engines that `make bench-cpu` compares, each behind the same three methods, and one checkpoint in each one's format.

A peer that is not installed raises ImportError: the bench reports it. `python -m tests.bench.peers NAME FOLDER THREADS` is a
process of its own, so that memory and threads are told apart; it reads commands and answers in JSON lines.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from engine.matching import n_common

N_CONTEXT = 2048


class Peer(Protocol):
    """One loaded model."""

    def prefill(self, ids: list[int]) -> None:
        """Forgets all, then reads the prompt, up to the logits after its last token."""
        ...

    def decode(self, n: int) -> list[float]:
        """Milliseconds of each of n steps behind the prompt, greedily."""
        ...


class Midfill:
    """This engine's int8."""

    def __init__(self, folder: Path, n_threads: int) -> None:
        import torch

        from engine.quantized_model import QuantizedForCausalLM

        torch.set_num_threads(1)
        self.torch = torch
        self.model = QuantizedForCausalLM.from_pretrained(folder, n_threads=n_threads)

    def prefill(self, ids: list[int]) -> None:
        self.cache = self.model.new_cache()
        self.cache.reserve(len(ids) + 64)
        for start in range(0, len(ids), 256):
            self._forward(ids[start : start + 256])

    def decode(self, n: int) -> list[float]:
        return [timed_ms(lambda: self._forward([self.next])) for _ in range(n)]

    def keystroke(self, n_new: int) -> float:
        """Milliseconds to the next token where `n_new` were typed behind the prompt."""
        self.cache.truncate(self.cache.length - n_new)
        return timed_ms(lambda: self._forward([1] * n_new))

    def _forward(self, ids: list[int]) -> None:
        with self.torch.inference_mode():
            logits = self.model(self.torch.tensor([ids]), kv_cache=self.cache, logits_to_keep=1).logits
        self.next = int(logits[0, -1].argmax())


class MidfillTyping:
    """This engine as it serves: cached prompts, the word at the cursor written again.

    Tokens are drawn, not the likeliest, for of random weights those repeat, and drafts of repetition cost nothing.
    """

    def __init__(self, folder: Path, n_threads: int) -> None:
        from engine.cache_pool import CachePool
        from engine.decoder import Decoder
        from engine.tokenizer import Tokenizer

        model = Midfill(folder, n_threads).model
        self.decoder = Decoder(model, Tokenizer.from_pretrained(folder), CachePool(model.new_cache, 1 << 30))

    def line(self, n: int, prefix: str, suffix: str) -> None:
        """Writes n tokens between both."""
        from engine.api import Request, Stop
        from engine.jobs import Job

        request = Request(document="d", prefix=prefix, suffix=suffix, max_tokens=n, stop=Stop.NONE, temperature=1.0)
        for _ in self.decoder.complete(Job(request)):
            pass


class Transformers:
    """float32, SDPA."""

    def __init__(self, folder: Path, n_threads: int) -> None:
        import torch
        from transformers import GPTBigCodeForCausalLM

        torch.set_num_threads(n_threads)
        self.torch = torch
        self.model: Any = GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()

    def prefill(self, ids: list[int]) -> None:
        self.past = None
        self._forward(ids)

    def decode(self, n: int) -> list[float]:
        return [timed_ms(lambda: self._forward([self.next])) for _ in range(n)]

    def _forward(self, ids: list[int]) -> None:
        with self.torch.inference_mode():
            output = self.model(self.torch.tensor([ids]), past_key_values=self.past, use_cache=True, logits_to_keep=1)
        self.past, self.next = output.past_key_values, int(output.logits[0, -1].argmax())


class CTranslate2:
    """int8 weights and activations. A step is the difference between a long answer and one of a single token."""

    def __init__(self, folder: Path, n_threads: int) -> None:
        import ctranslate2

        self.generator = ctranslate2.Generator(
            str(folder / "ctranslate2"), device="cpu", compute_type="int8", inter_threads=1, intra_threads=n_threads
        )

    def prefill(self, ids: list[int]) -> None:
        self.ids = ids
        self._generate(1)

    def decode(self, n: int) -> list[float]:
        one_ms, all_ms = timed_ms(lambda: self._generate(1)), timed_ms(lambda: self._generate(n + 1))
        return [(all_ms - one_ms) / n]

    def line(self, n: int, ids: list[int]) -> None:
        """Writes n tokens behind the prompt, of which nothing is kept."""
        self.ids = ids
        self._generate(n)

    def _generate(self, n: int) -> None:
        prompt = [f"t{token_id}" for token_id in self.ids]
        self.generator.generate_batch(
            [prompt], max_length=n, min_length=n, include_prompt_in_result=False, end_token=[], sampling_topk=1
        )


class LlamaCpp:
    """8- or 4-bit weights in groups of 32."""

    kind = ""

    def __init__(self, folder: Path, n_threads: int) -> None:
        import llama_cpp

        self.model = llama_cpp.Llama(
            str(folder / f"{self.kind}.gguf"), n_ctx=N_CONTEXT, n_threads=n_threads, n_threads_batch=n_threads, verbose=False
        )
        self.ids: list[int] = []

    def prefill(self, ids: list[int]) -> None:
        self.model.reset()
        self.model.eval(ids)

    def decode(self, n: int) -> list[float]:
        return [timed_ms(lambda token=step + 1: self.model.eval([token])) for step in range(n)]

    def line(self, n: int, ids: list[int]) -> None:
        """Writes n tokens behind the prompt, whose beginning is reused as far as it is the last one's."""
        n_cached = min(n_common(ids, self.ids), len(ids) - 1)
        self.model.n_tokens, self.ids = n_cached, ids
        self.model.eval(ids[n_cached:])
        for step in range(1, n):
            self.model.eval([step])


class LlamaCppQ8(LlamaCpp):
    """q8_0."""

    kind = "q8_0"


class LlamaCppQ4(LlamaCpp):
    """q4_0."""

    kind = "q4_0"


PEERS: dict[str, Any] = {
    "midfill": Midfill,
    "midfill typing": MidfillTyping,
    "transformers": Transformers,
    "ctranslate2 int8": CTranslate2,
    "llama.cpp q8_0": LlamaCppQ8,
    "llama.cpp q4_0": LlamaCppQ4,
}


def timed_ms(action: Any) -> float:
    started_s = time.perf_counter()
    action()
    return (time.perf_counter() - started_s) * 1000


def convert(name: str, folder: Path) -> None:
    """Puts the checkpoint into the peer's format, once."""
    if name == "ctranslate2 int8" and not (folder / "ctranslate2").exists():
        to_ctranslate2(folder)
    if name.startswith("llama.cpp"):
        kind = name.split()[1]
        if not (folder / f"{kind}.gguf").exists():
            to_gguf(folder, kind)


def to_ctranslate2(folder: Path) -> None:
    import torch
    from ctranslate2.converters.transformers import GPTBigCodeMHALoader
    from transformers import GPTBigCodeForCausalLM

    model: Any = GPTBigCodeForCausalLM.from_pretrained(folder, dtype=torch.float32)
    loader = GPTBigCodeMHALoader()
    with torch.inference_mode():
        spec = loader.get_model_spec(model)
    spec.register_vocabulary([f"t{token_id}" for token_id in range(model.config.vocab_size)])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "t0"
    spec.validate()
    spec.optimize(quantization="int8")
    (folder / "ctranslate2").mkdir()
    spec.save(str(folder / "ctranslate2"))


GGUF_NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def to_gguf(folder: Path, kind: str) -> None:
    """llama.cpp's architecture "starcoder"; only matrices are quantised, as its own converter does it."""
    import gguf
    from gguf.quants import quantize
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text("utf-8"))
    writer = gguf.GGUFWriter(folder / f"{kind}.gguf.partial", "starcoder")
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_head_count(config["n_head"])
    writer.add_head_count_kv(1)
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("starcoder")
    writer.add_token_list([f"t{token_id}" for token_id in range(config["vocab_size"])])
    writer.add_token_merges(["t 0"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    quantized = gguf.GGMLQuantizationType[kind.upper()]
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in {**tensors, "lm_head.weight": tensors["transformer.wte.weight"]}.items():
        values = tensor.astype("float32")
        if values.ndim == 2 and "wpe" not in name:
            writer.add_tensor(gguf_name(name), quantize(values, quantized), raw_dtype=quantized)
        else:
            writer.add_tensor(gguf_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / f"{kind}.gguf.partial").rename(folder / f"{kind}.gguf")


def gguf_name(name: str) -> str:
    whole = {
        "transformer.wte.weight": "token_embd.weight",
        "transformer.wpe.weight": "position_embd.weight",
        "lm_head.weight": "output.weight",
        "transformer.ln_f.weight": "output_norm.weight",
        "transformer.ln_f.bias": "output_norm.bias",
    }
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split(".", 3)
    module, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{GGUF_NAMES[module]}.{kind}"


def rss_mb() -> float:
    """Resident memory now, less what is only mapped from files; the peak would count what conversion needed."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text("ascii").splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def main() -> None:
    name, folder, n_threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    started_s = time.perf_counter()
    peer = PEERS[name](folder, n_threads)
    print(json.dumps({"load_s": time.perf_counter() - started_s}), flush=True)
    for line in sys.stdin:
        command, rest = line.split(maxsplit=1)
        n: Any = json.loads(rest)
        answer: Any
        match command:
            case "prefill":
                ids = [(token * 7919) % 40000 + 1 for token in range(n)]
                answer = timed_ms(lambda ids=ids: peer.prefill(ids))
            case "decode":
                answer = peer.decode(n)
            case "line":
                answer = timed_ms(lambda n=n: peer.line(**n))
            case "keystroke":
                answer = peer.keystroke(n)
            case "read_gb_s":
                answer = max(peer.model.kernels.read_speed() for _ in range(n)) / 1e9
            case _:
                answer = rss_mb()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
