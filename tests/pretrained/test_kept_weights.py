"""Pretrained models whose matrices stay as their file has them: the same numbers as with float32 weights, everywhere."""

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import LLAMA, TOKENIZER, gguf_bytes, gguf_tensors, write_folder
from safetensors.numpy import load_file, save_file
from script_helpers import ends_well, script_here
from stored_helpers import of_bytes

from tinylm import Tensor, explain, ops, optim
from tinylm.bindings.cpu.library import library, problem
from tinylm.engine.kernels import launches, using
from tinylm.engine.stored_weights import StoredWeights
from tinylm.errors import CheckpointError, ConfigError
from tinylm.files.gguf_files import read_gguf
from tinylm.models import GPT, Llama, LlamaConfig
from tinylm.nn.lora import LowRankLinear, adapt, merge
from tinylm.pretrained.model_loading import load_model
from tinylm.train import load_run


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    """Switches the kernels on, which alone read stored weights; skips the test if they cannot be compiled."""
    if library() is None:
        pytest.skip(f"no CPU kernels: {problem()}")
    with using("auto"):
        yield


SHAPE = {"llama.embedding_length": 64, "llama.feed_forward_length": 96, "llama.rope.dimension_count": 32, "llama.block_count": 2}
IDS = np.array([[3, 70, 1, 12, 12, 90, 41]])
CONFIG = LlamaConfig(
    vocab_size=len(TOKENIZER["tokenizer.ggml.tokens"]), block_size=16, n_layer=2, n_embd=64, n_head=2, n_kv_head=1, n_hidden=96
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns a GGUF file of a Llama in four formats and float32, and the same folder of a Llama in bfloat16 and a GPT in float16."""
    folder = tmp_path_factory.mktemp("files")
    model = Llama(CONFIG)
    tensors = gguf_tensors(model)
    kinds = {
        "attn_q": "Q4_1",
        "attn_k": "Q4_0",
        "attn_v": "Q8_0",
        "ffn_up": "F16",
        "ffn_gate": "BF16",
        "token_embd": "Q8_0",
        "ffn_down": "Q5_0",
    }
    types = {name: kind for name in tensors for part, kind in kinds.items() if part in name}
    (folder / "llama.gguf").write_bytes(gguf_bytes({**LLAMA, **TOKENIZER, **SHAPE}, tensors, types))
    for kind, half in (("llama", "bf16"), ("gpt2", "f16")):
        write_folder(folder / kind, kind)
        path = folder / kind / "model.safetensors"
        if half == "f16":
            save_file({name: a.astype(np.float16) for name, a in load_file(path).items()}, path, {"format": "pt"})
        else:
            import torch
            from safetensors.torch import save_file as save_torch

            save_torch({name: torch.from_numpy(a).bfloat16() for name, a in load_file(path).items()}, path, {"format": "pt"})
    return {"gguf": folder / "llama.gguf", "llama": folder / "llama", "gpt": folder / "gpt2"}


def kept_names(model: Any) -> dict[str, str]:
    return {name: p.data.format for name, p in model.named_parameters() if isinstance(p.data, StoredWeights)}


def test_what_is_kept(files: dict[str, Path]) -> None:
    """Transposed weights, norms, and formats that the kernels do not read are float32."""
    kept = kept_names(load_model(files["gguf"], "stored"))
    layer = {
        "self_attn.q_proj": "Q4_1",
        "self_attn.k_proj": "Q4_0",
        "self_attn.v_proj": "Q8_0",
        "mlp.up_proj": "F16",
        "mlp.gate_proj": "BF16",
    }
    assert kept == {"model.embed_tokens.weight": "Q8_0"} | {
        f"model.layers.{i}.{name}.weight": kind for i in range(2) for name, kind in layer.items()
    }
    assert set(kept_names(load_model(files["llama"], "stored")).values()) == {"BF16"}
    assert kept_names(load_model(files["gpt"], "stored")) == {"transformer.wte.weight": "F16", "transformer.wpe.weight": "F16"}
    assert kept_names(load_model(files["gguf"])) == {}
    with using("reference"):  # which would decode a weight at every use
        assert kept_names(load_model(files["gguf"], "stored")) == {}
    with pytest.raises(ConfigError, match=r"weights 'stord': expected one of stored, float32"):
        load_model(files["gguf"], "stord")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["gguf", "llama", "gpt"])
def test_the_same_numbers_to_the_last_bit(files: dict[str, Path], kind: str) -> None:
    kept, decoded = (load_model(files[kind], weights) for weights in ("stored", "float32"))  # type: ignore[arg-type]
    for ids in (IDS, IDS[:, :1], np.tile(IDS, (5, 1))):
        np.testing.assert_array_equal(kept(Tensor(ids)).numpy(), decoded(Tensor(ids)).numpy())
    state = decoded.state_dict()
    assert all(np.array_equal(a, state[name]) for name, a in kept.state_dict().items())
    losses, gradients = [], []
    for model in (kept, decoded):
        loss = ops.cross_entropy(model(Tensor(IDS)).reshape(-1, model.vocab_size), IDS.reshape(-1))
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert losses[0] == losses[1]
    for name, g in gradients[0].items():
        np.testing.assert_array_equal(g, gradients[1][name], err_msg=name)


def test_reading_another_models_file_later_changes_nothing(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(files["gguf"].read_bytes())
    model = load_model(path, "stored")
    before = model(Tensor(IDS)).numpy()
    path.write_bytes(bytes(100))
    np.testing.assert_array_equal(model(Tensor(IDS)).numpy(), before)


def test_a_model_is_pickled_and_copied(files: dict[str, Path]) -> None:
    """From each kind of file, as with float32 weights."""
    for path in files.values():
        model = load_model(path, "stored")
        expected = model(Tensor(IDS)).numpy()
        copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
        del model
        for each in copies:
            assert kept_names(each)
            np.testing.assert_array_equal(each(Tensor(IDS)).numpy(), expected)


def test_adapters_beside_stored_weights(files: dict[str, Path]) -> None:
    """They are trained, merged and saved as beside float32 weights; the base cannot be trained."""
    results = []
    for weights in ("stored", "float32"):
        model = load_model(files["gguf"], weights)  # type: ignore[arg-type]
        adapt(model, 2, 4.0, lambda path: "self_attn" in path)
        rng = np.random.default_rng(0)
        for layer in model.modules():
            if isinstance(layer, LowRankLinear):
                for p in (layer.lora_A, layer.lora_B):
                    p.data[...] = 0.1 * rng.standard_normal(p.shape)
        optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            ops.cross_entropy(model(Tensor(IDS)).reshape(-1, model.vocab_size), IDS.reshape(-1)).backward()
            optimizer.step()
        trained = model(Tensor(IDS)).numpy()
        merge(model)
        np.testing.assert_allclose(model(Tensor(IDS)).numpy(), trained, rtol=1e-4, atol=1e-4)
        results.append((trained, model.state_dict()))
        if weights == "stored":
            with pytest.raises(ConfigError, match=r"parameter model.embed_tokens.weight .* is kept as its file has it, Q8_0"):
                optim.SGD(model.named_parameters(), lr=0.1)
    np.testing.assert_array_equal(results[0][0], results[1][0])
    for name, a in results[0][1].items():
        np.testing.assert_array_equal(a, results[1][1][name], err_msg=name)


@pytest.mark.parametrize("half", [np.nan, np.inf])
def test_a_scale_that_is_not_finite_is_refused(files: dict[str, Path], tmp_path: Path, half: float) -> None:
    path = tmp_path / "model.gguf"
    raw, rows = bytearray(files["gguf"].read_bytes()), read_gguf(files["gguf"]).tensors["token_embd.weight"].rows
    assert rows is not None
    place = raw.index(bytes(rows.raw[3]))
    raw[place : place + 2] = np.float16(half).tobytes()
    path.write_bytes(raw)
    for weights in ("stored", "float32"):
        with pytest.raises(CheckpointError, match=r"the stored tensor .* holds a NaN or an infinity in its row"):
            load_model(path, weights)  # type: ignore[arg-type]


def test_the_rows_of_heads_keep_their_order(files: dict[str, Path]) -> None:
    """A planted mistake: the rows of the keys as llama.cpp has them give other logits."""
    model = load_model(files["gguf"], "stored")
    right = model(Tensor(IDS)).numpy()
    assert isinstance(model, Llama)
    weight = model.model.layers[0].self_attn.k_proj.weight
    turned = np.ascontiguousarray(weight.data.raw.reshape(2, -1, weight.data.raw.shape[1]).swapaxes(0, 1)).reshape(weight.data.raw.shape)
    weight.data = of_bytes(weight.data.format, turned, 64)
    assert not np.allclose(model(Tensor(IDS)).numpy(), right, rtol=1e-3)


def test_looking_inside_gives_the_same_figures(files: dict[str, Path]) -> None:
    found = []
    for weights in ("stored", "float32"):
        model, tokenizer, _ = load_run(files["gguf"], "cpu", weights)  # type: ignore[arg-type]
        ids = tokenizer.encode("the in a").tolist()
        found.append(explain.lens(model, ids).to_json())
    assert found[0] == found[1]


def test_scripts(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each has --weights, and prints the same with both."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the in a " * 40, encoding="utf-8")
    path = files["gguf"]
    commands: list[tuple[Any, ...]] = [
        ("generate.py", path, "--prompt", "the in", "--greedy", "--tokens", 5), ("score.py", path, "the in a"),
        ("explain.py", "loss", path, "the in a", "--json"), ("evaluate.py", files["llama"], "--data", "text.txt", "--dry-run"),
    ]  # fmt: skip
    for command in commands:
        before = launches["linear", "cpu"]
        shown = [ends_well(script_here(*command, "--weights", weights)) for weights in ("stored", "float32")]
        assert shown[0] == shown[1]
        assert shown[0].strip()
        assert launches["linear", "cpu"] > before


def test_from_pretrained(files: dict[str, Path]) -> None:
    assert kept_names(Llama.from_pretrained(files["llama"], weights="stored"))
    assert not kept_names(GPT.from_pretrained(files["gpt"]))
