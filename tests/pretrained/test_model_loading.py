"""Hugging Face's folders, read and written, compared with the models of transformers: logits, every gradient, greedy text."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinylm import nn
from tinylm.decode import Sampling, generate
from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError, ConfigError
from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig, RotaryScaling
from tinylm.pretrained.model_loading import load_pretrained
from tinylm.verify import compare
from tinylm.verify.reports import relative_error
from tinylm.verify.torch.hugging_face_twins import their_twin

GPTS: dict[str, dict[str, Any]] = {
    "as GPT-2": {},
    "exact gelu, wide steps": {"activation_function": "gelu", "layer_norm_epsilon": 1e-3, "n_head": 2, "n_layer": 3},
    "no dropout": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "activation_function": "gelu_pytorch_tanh"},
    "a head of its own": {"tie_word_embeddings": False, "n_layer": 1},
}
LLAMAS: dict[str, dict[str, Any]] = {
    "grouped, tied": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "biases, wide heads": {"attention_bias": True, "mlp_bias": True, "head_dim": 10, "num_key_value_heads": 1},
    "another base": {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}, "rms_norm_eps": 1e-3},
    "scaled positions": {
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 30.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0,
            "original_max_position_embeddings": 24,
        }
    },
}  # fmt: skip


def theirs_of(hugging_face: Any, kind: str, name: str) -> Any:
    """Returns a small model of transformers, its weights far from zero and drawn with a fixed seed."""
    torch.manual_seed(0)
    none = {"bos_token_id": None, "eos_token_id": None, "attn_implementation": "eager"}
    if kind == "gpt2":
        shape = {"vocab_size": 23, "n_positions": 32, "n_embd": 24, "n_layer": 2, "n_head": 4}
        theirs = hugging_face.GPT2LMHeadModel(hugging_face.GPT2Config(**{**shape, **GPTS[name], **none}))
    else:
        shape = {
            "vocab_size": 23, "max_position_embeddings": 32, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 4,
        }  # fmt: skip
        theirs = hugging_face.LlamaForCausalLM(hugging_face.LlamaConfig(**{**shape, **LLAMAS[name], **none}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in theirs.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator)
    return theirs.eval()


CASES = [("gpt2", name) for name in GPTS] + [("llama", name) for name in LLAMAS]
cases = pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{k}: {n}" for k, n in CASES])
IDS = np.random.default_rng(0).integers(0, 23, (3, 9))


def ours_of(kind: str, folder: Path) -> GPT | Llama:
    return GPT.from_pretrained(folder) if kind == "gpt2" else Llama.from_pretrained(folder)


@cases
def test_a_folder_of_theirs(hugging_face: Any, kind: str, name: str, tmp_path: Path) -> None:
    """A folder as transformers writes it, in one file and in several: logits, cached greedy text, and (with the weights
    loaded into the twin) every layer's output and every named gradient in float64 and float32."""
    theirs = theirs_of(hugging_face, kind, name)
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="8KB")
    assert (tmp_path / "many" / "model.safetensors.index.json").exists()
    ours = ours_of(kind, tmp_path / "one")
    assert not ours.training
    sharded = ours_of(kind, tmp_path / "many").state_dict()
    assert all(np.array_equal(a, sharded[key]) for key, a in ours.state_dict().items())
    with torch.no_grad():
        expected = theirs(torch.from_numpy(IDS)).logits.numpy()
    assert relative_error(ours(Tensor(IDS)).numpy(), expected, 0.0) <= 1e-5
    first = torch.from_numpy(IDS[:1])
    text = theirs.generate(first, attention_mask=torch.ones_like(first), max_new_tokens=20, do_sample=False, pad_token_id=0)[0, 9:].tolist()
    assert list(generate(ours, IDS[0].tolist(), 20, Sampling(greedy=True))) == text
    twin = their_twin(ours)
    for dtype in ("float64", "float32"):
        report = compare(ours, twin, [IDS], dtype=dtype)
        assert report.ok, str(report)
        named = {row.name for row in report.rows}
        assert {f"gradient of {key}" for key, _ in ours.named_parameters()} <= named


@cases
def test_a_folder_of_ours(hugging_face: Any, kind: str, name: str, tmp_path: Path) -> None:
    """transformers reads it without a missing or unexpected key, and it gives the same logits; read again here it is the same model."""
    theirs_of(hugging_face, kind, name).save_pretrained(tmp_path / "theirs")
    ours = ours_of(kind, tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    logits = ours(Tensor(IDS)).numpy()
    assert relative_error(reread(hugging_face, tmp_path / "ours"), logits, 0.0) <= 1e-5
    again = ours_of(kind, tmp_path / "ours")
    assert again.config == dataclasses.replace(ours.config)
    assert np.array_equal(again(Tensor(IDS)).numpy(), logits)


def reread(hugging_face: Any, folder: Path) -> np.ndarray:
    """Returns the logits of the model that transformers reads from a folder."""
    found, notes = hugging_face.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(notes[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        return found.eval()(torch.from_numpy(IDS)).logits.numpy()


@pytest.mark.parametrize(
    "config",
    [
        GPTConfig(vocab_size=23, block_size=16, n_layer=2, n_head=2, n_embd=12),
        LlamaConfig(vocab_size=23, block_size=16, n_layer=2, n_head=4, n_kv_head=2, n_embd=24, n_hidden=20, rope_pairing="interleaved",
                    attention_bias=True),
        LlamaConfig(vocab_size=23, block_size=16, n_layer=1, n_embd=24, n_hidden=20, rope_scaling=RotaryScaling(4.0, 1.0, 3.0, 8)),
    ],
    ids=["GPT without biases", "interleaved pairs", "scaled positions"],
)  # fmt: skip
def test_what_is_stored_differently_there(hugging_face: Any, config: Any, tmp_path: Path) -> None:
    model: GPT | Llama = GPT(config) if isinstance(config, GPTConfig) else Llama(config)
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data[...] += 0.3 * rng.standard_normal(p.shape)
    model.eval()
    model.save_pretrained(tmp_path)
    assert relative_error(reread(hugging_face, tmp_path), model(Tensor(IDS)).numpy(), 0.0) <= 1e-5


def test_older_files(hugging_face: Any, tmp_path: Path) -> None:
    """Without the prefix of the trunk, with the causal masks and the tied head among the tensors, in half precision."""
    from safetensors.torch import save_file

    theirs = theirs_of(hugging_face, "gpt2", "as GPT-2")
    theirs.save_pretrained(tmp_path)
    state = {key.removeprefix("transformer."): p.to(torch.bfloat16).contiguous() for key, p in theirs.state_dict().items()}
    state["lm_head.weight"] = state["wte.weight"].clone()
    state |= {"h.0.attn.bias": torch.ones(1, 1, 32, 32), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(state, tmp_path / "model.safetensors")
    ours = GPT.from_pretrained(tmp_path)
    for key, a in ours.state_dict().items():
        b = state[key.removeprefix("transformer.")].float().numpy()
        assert np.array_equal(a, b.T if "c_" in key and "weight" in key else b), key
    state["lm_head.weight"] += 1
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="differs from the embedding"):
        GPT.from_pretrained(tmp_path)


def test_a_pickle_alone_is_not_read(hugging_face: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to convert it, and that works."""
    theirs = theirs_of(hugging_face, "gpt2", "as GPT-2")
    theirs.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"has only pytorch_model\.bin, whose format may execute anything") as caught:
        GPT.from_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(str(caught.value).split('"')[1], {})
    with torch.no_grad():
        expected = theirs(torch.from_numpy(IDS)).logits.numpy()
    assert relative_error(GPT.from_pretrained(tmp_path)(Tensor(IDS)).numpy(), expected, 0.0) <= 1e-5


def test_every_mismatch_is_named_at_once(hugging_face: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    theirs_of(hugging_face, "gpt2", "as GPT-2").save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["transformer.h.0.ln_1.weight"]
    state["transformer.h.1.attn.c_attn.weight"] = torch.zeros(24, 71)
    state["transformer.h.9.ln_1.weight"] = torch.zeros(24)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        GPT.from_pretrained(tmp_path)
    for part in ("missing 'transformer.h.0.ln_1.weight' (24,)", "unexpected 'transformer.h.9.ln_1.weight'", "(71, 24), expected (72, 24)"):
        assert part in str(caught.value)
    with pytest.raises(CheckpointError, match="no pretrained model"):
        GPT.from_pretrained(tmp_path / "none")


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "add_cross_attention": True}, "layer_idx True .*add_cross_attention True"),
        ("gpt2", {"activation_function": "relu"}, "activation_function 'relu'"),
        ("gpt2", {"n_inner": 7}, "n_inner 7"),
        ("gpt2", {"resid_pdrop": 0.3}, "expected one value"),
        ("gpt2", {"n_head": 5}, "not divisible by n_head 5"),
        ("gpt2", {"n_layer": 10**6}, "1000000 layers, but only"),
        ("gpt2", {"n_embd": "wide"}, "n_embd is 'wide'"),
        ("gpt2", {"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
        ("gpt2", {"model_type": "bert"}, "model_type is 'bert'"),
        ("gpt2", {"quantization_config": {}}, "quantised"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "rotary positions: factor is None"),
        ("llama", {"hidden_size": 10**30}, "hidden_size is 10000"),
        ("llama", {"intermediate_size": 1 << 24}, "misshapen"),
    ],
)  # fmt: skip
def test_settings_that_are_not_supported(hugging_face: Any, kind: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    theirs_of(hugging_face, kind, "as GPT-2" if kind == "gpt2" else "another base").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | settings), encoding="utf-8")
    with pytest.raises((CheckpointError, ConfigError), match=message):
        ours_of(kind, tmp_path)


def test_a_model_from_a_file_draws_nothing(hugging_face: Any, tmp_path: Path) -> None:
    """Neither the random stream nor parameters created afterwards are affected."""
    from tinylm.engine.random_keys import default_generator

    theirs_of(hugging_face, "gpt2", "as GPT-2").save_pretrained(tmp_path)
    before = default_generator.state
    GPT.from_pretrained(tmp_path)
    assert default_generator.state == before
    assert nn.Linear(3, 3).weight.data.flags.writeable
    with pytest.raises(CheckpointError, match="no tokenizer"):
        load_pretrained(tmp_path)


def test_a_model_alone_knows_no_files_until_it_is_asked() -> None:
    """`from tinylm.models import GPT` imports nothing of tinylm.pretrained, and GPT.from_pretrained works all the same."""
    program = (
        "import sys; from tinylm.models import GPT; from tinylm.errors import CheckpointError\n"
        "assert not [m for m in sys.modules if m.startswith('tinylm.pretrained')]\n"
        "try: GPT.from_pretrained('nowhere')\n"
        "except CheckpointError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("nowhere holds no pretrained model")


def test_another_architecture_is_refused(hugging_face: Any, tmp_path: Path) -> None:
    theirs_of(hugging_face, "gpt2", "as GPT-2").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="holds a GPT, expected a Llama"):
        Llama.from_pretrained(tmp_path)
