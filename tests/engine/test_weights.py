"""Checkpoints load and save whole, and a wrong one is one clear error; the layouts are in `test_stored`."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

import engine
from engine import GPTBigCodeForCausalLM, GPTBigCodeForSequenceClassification, GPTBigCodeForTokenClassification, GPTBigCodeModel
from engine.api import CheckpointError, EngineError
from engine.config import GPTBigCodeConfig
from engine.model_files import folder_digest, model_folder
from tests.engine.conftest import load, write_checkpoint
from tests.engine.layouts import change_config, change_weights, logits_of


@pytest.fixture
def folder(checkpoint, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_dtype_is_the_checkpoints_unless_one_is_asked_for(folder, dtype) -> None:
    change_weights(folder, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})
    change_config(folder, torch_dtype="float64")  # says something else: the file is the truth
    assert GPTBigCodeForCausalLM.from_pretrained(folder).dtype == dtype
    assert GPTBigCodeForCausalLM.from_pretrained(folder, dtype="auto").dtype == dtype
    assert GPTBigCodeForCausalLM.from_pretrained(folder, torch_dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(ValueError, match="dtype 'int' is none of auto, float32, float16, bfloat16"):
        GPTBigCodeForCausalLM.from_pretrained(folder, dtype="int")


def test_mixed_dtypes_become_the_widest(folder) -> None:
    change_weights(folder, lambda tensors: {n: t if ".ln_" in n else t.half() for n, t in tensors.items()})
    model = GPTBigCodeForCausalLM.from_pretrained(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("vocab_size", [49152, 49153, 49164, 49280])
def test_odd_vocabularies(tmp_path, vocab_size) -> None:
    folder = write_checkpoint(tmp_path, vocab_size=vocab_size, n_embd=16, n_layer=1)
    model = load(folder)
    assert model(torch.tensor([[vocab_size - 1]])).logits.shape == (1, 1, vocab_size)
    assert model.n_used_ids == 8192  # of the tokenizer beside it: no other is ever generated
    (folder / "tokenizer.json").unlink()
    assert load(folder).n_used_ids == vocab_size


KINDS = [GPTBigCodeForCausalLM, GPTBigCodeForSequenceClassification, GPTBigCodeForTokenClassification, GPTBigCodeModel]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("multi_query", [True, False])
@torch.inference_mode()
def test_transformers_reads_what_is_saved(tmp_path, kind, multi_query) -> None:
    values = {
        "vocab_size": 99,
        "n_positions": 64,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "eos_token_id": 1,
        "bos_token_id": 1,
    }
    config = GPTBigCodeConfig.from_dict({**values, "multi_query": multi_query, "num_labels": 5, "pad_token_id": 0})
    ours = kind(config).eval()
    ours.save_pretrained(tmp_path)
    ours.save_pretrained(tmp_path)  # onto itself
    theirs = getattr(transformers, kind.__name__).from_pretrained(tmp_path).eval()
    ids = torch.arange(1, 21)[None]
    again = kind.from_pretrained(tmp_path)
    for other in (theirs, again):
        torch.testing.assert_close(other(ids)[0] if other is theirs else first(other(ids)), first(ours(ids)))
    assert again.config == config
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def first(output: object) -> Tensor:
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


def test_a_model_survives_being_saved_over_the_file_it_is_mapped_from(folder) -> None:
    model = load(folder)
    wanted = logits_of(folder)
    load_other = GPTBigCodeForCausalLM(GPTBigCodeConfig(vocab_size=9, n_positions=9, n_embd=8, n_layer=1, n_head=1))
    load_other.save_pretrained(folder)
    with torch.inference_mode():
        assert torch.equal(model(torch.arange(20)[None]).logits, wanted)


@pytest.mark.parametrize("tied", [True, False])
def test_head_and_embedding_are_one_where_the_config_says_so(tmp_path, tied) -> None:
    folder = write_checkpoint(tmp_path, tie_word_embeddings=tied)
    theirs = transformers.GPTBigCodeForCausalLM.from_pretrained(folder).eval()
    ours = load(folder)
    assert (ours.lm_head.weight is ours.transformer.wte.weight) == tied
    with torch.inference_mode():
        torch.testing.assert_close(ours(torch.arange(9)[None]).logits, theirs(torch.arange(9)[None]).logits)
    if not tied:
        change_weights(folder, lambda tensors: {n: t for n, t in tensors.items() if n != "lm_head.weight"})
        with pytest.raises(CheckpointError, match=r"lacks lm_head\.weight of shape \[8192, 64\]"):
            load(folder)


@pytest.mark.parametrize(("kind", "key"), [(KINDS[1], "score.weight"), (KINDS[2], "classifier.bias, classifier.weight")])
def test_a_head_that_the_file_lacks_is_drawn_anew_with_a_warning(folder, caplog, kind, key) -> None:
    model = kind.from_pretrained(folder, dtype=torch.bfloat16)
    assert f"holds no {key}; drawn anew" in caplog.text
    head = model.get_submodule(model.head)
    assert head.weight.dtype == torch.bfloat16
    assert 0.1 < head.weight.float().std() < 0.3  # the config's initializer_range is 0.2


def test_the_attention_chosen_is_logged_and_one_that_cannot_be_had_refused(folder, caplog) -> None:
    with caplog.at_level(logging.INFO):
        assert GPTBigCodeForCausalLM.from_pretrained(folder).transformer.attention.name == "sdpa"
    assert "sdpa attention: torch's fused kernels" in caplog.text
    with pytest.raises(EngineError, match="needs a CUDA device"):
        GPTBigCodeForCausalLM.from_pretrained(folder, attn_implementation="flash_attention_2")


# what is spoilt, and what the error must name
SPOILT = [
    (
        lambda tensors: tensors | {"transformer.wpe.weight": torch.ones(3, 64)},
        r"model\.safetensors: transformer\.wpe\.weight has shape \[3, 64\], config\.json asks for \[512, 64\]",
    ),
    (
        lambda tensors: {name: t for name, t in tensors.items() if name != "transformer.ln_f.bias"},
        r"model\.safetensors: lacks transformer\.ln_f\.bias of shape \[64\] \(1 tensors in all\)",
    ),
    (
        lambda tensors: tensors | {"model.layers.0.q_proj.weight": torch.ones(2)},
        r"model\.safetensors: holds model\.layers\.0\.q_proj\.weight of shape \[2\], which GPTBigCode does not have",
    ),
]


@pytest.mark.parametrize(("change", "message"), SPOILT)
def test_a_wrong_file_is_named_with_its_key(folder, change, message) -> None:
    change_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "llama"}, r"config\.json: model_type is 'llama', only 'gpt_bigcode' is understood"),
        ({"n_head": 5}, "n_embd 64 is not a multiple of n_head 5"),
        ({"n_layer": 0}, "n_layer is 0, must be at least 1"),
        ({"activation_function": "swish"}, "activation_function 'swish' is none of gelu_pytorch_tanh"),
        ({"n_embd": "wide"}, "n_embd is 'wide', an integer was expected"),
        ({"n_inner": 0}, "n_inner is 0, must be at least 1"),
        ({"add_cross_attention": True}, "add_cross_attention is true, only decoders"),
        ({"attention_head_type": "grouped"}, r"config\.json: attention_head_type 'grouped' is none of multiquery, multihead"),
        ({"attention_head_type": "multihead", "scale_attn_by_inverse_layer_idx": True}, "which GPTBigCode does not have"),
    ],
)
def test_a_wrong_config_is_one_clear_error(folder, values, message) -> None:
    change_config(folder, **values)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_fields_of_other_runtimes_are_passed_over_and_aliases_understood(folder) -> None:
    change_config(folder, inference_runner=0, pad_key_length=True, summary_type="cls_index", torch_dtype="float16")
    assert GPTBigCodeConfig.from_pretrained(folder).n_embd == 64
    assert GPTBigCodeConfig.from_dict({"hidden_size": 32, "num_attention_heads": 2}).head_dim == 16
    assert GPTBigCodeConfig(n_embd=32, n_head=2, n_layer=3).num_hidden_layers == 3


def test_a_folder_without_a_model_says_what_one_holds(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        load(tmp_path)


def test_an_unknown_name_is_never_downloaded(monkeypatch) -> None:
    with pytest.raises(CheckpointError, match="`midfill models pull bigcode/nothing` downloads it"):
        model_folder("bigcode/nothing")


def test_the_digest_changes_with_the_weights(folder) -> None:
    before = folder_digest(folder)
    assert folder_digest(folder) == before
    write_checkpoint(folder, seed=1)
    assert folder_digest(folder) != before


def test_hub_names_are_loaded_only_where_they_were_downloaded() -> None:
    for kind in (*KINDS, GPTBigCodeConfig):
        with pytest.raises(CheckpointError, match="`midfill models pull bigcode/nothing` downloads it"):
            kind.from_pretrained("bigcode/nothing")


def test_the_package_names_the_model_classes_and_nothing_else() -> None:
    for name in engine.__all__:
        assert getattr(engine, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'engine' has no attribute 'GPTBigCode'"):
        engine.GPTBigCode  # noqa: B018
