"""Where a generated text ends: at the model's end-of-text token, wherever its files say which one that is, unless told to go on."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import write_folder, write_gguf
from script_helpers import ends_well, script_here

import tinylm
from tinylm.data.tokenizers import Tokenizer
from tinylm.decode import Sampling, generate, generate_batch
from tinylm.errors import TinylmError
from tinylm.models import NgramLM
from tinylm.train import Run, default_config, load_run

TEXT = "the thin ant in a tin\nthe ant\n" * 60


def generated(*arguments: object) -> str:
    return ends_well(script_here("generate.py", *arguments, "--seed", 3, "--tokens", 12))


def drawn(folder: Path) -> tuple[Tokenizer, list[int], list[int]]:
    """Returns the tokenizer, the ids of the prompt and those that the command draws after them."""
    model, tokenizer, _ = load_run(folder)
    tinylm.manual_seed(3)
    ids = tokenizer.encode("the ant").tolist()
    return tokenizer, ids, list(generate(model, ids, 12, Sampling(temperature=0.8)))


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Returns the places of one model by where they name its end, which is the fifth token that it generates."""
    found = {name: tmp_path / name for name in ("generation_config", "config", "several", "tokenizer_config", "x.gguf", "eot.gguf", "run")}
    for name in ("generation_config", "config", "several", "tokenizer_config"):
        write_folder(found[name], "llama")
        (found[name] / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    tokenizer, _, text = drawn(found["config"])
    end = next(token for place, token in enumerate(text) if place >= 4 and token not in text[:place])
    (found["generation_config"] / "generation_config.json").write_text(json.dumps({"eos_token_id": end}), encoding="utf-8")
    (found["several"] / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, end]}), encoding="utf-8")
    record = json.loads((found["config"] / "config.json").read_text(encoding="utf-8"))
    (found["config"] / "config.json").write_text(json.dumps({**record, "eos_token_id": end}), encoding="utf-8")
    piece = tokenizer.library.id_to_token(end)  # type: ignore[attr-defined]
    (found["tokenizer_config"] / "tokenizer_config.json").write_text(json.dumps({"eos_token": piece}), encoding="utf-8")
    write_gguf(found["x.gguf"], "llama", **{"tokenizer.ggml.eos_token_id": end})
    write_gguf(found["eot.gguf"], "llama", **{"tokenizer.ggml.eos_token_id": None, "tokenizer.ggml.eot_token_id": end})
    steps: dict[str, Any] = {"block_size": 16, "batch_size": 2, "steps": 1, "schedule_steps": 1, "warmup": 1, "lr": 1e-9, "min_lr": 1e-10}
    Run(dataclasses.replace(default_config("llama"), init=str(found["config"]), **steps), found["run"], TEXT).train()
    return found


def test_generation_ends_where_the_model_does(places: dict[str, Path], tmp_path: Path) -> None:
    tokenizer, ids, text = drawn(places["config"])
    (end,) = tokenizer.ends
    whole, cut = (tokenizer.decode([*ids, *part]) + "\n" for part in (text, text[: text.index(end)]))
    assert whole != cut
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("the ant\n", encoding="utf-8")
    for path in places.values():
        assert generated(path, "--prompt", "the ant") == cut
        assert generated(path, "--prompt", "the ant", "--ignore-eos") == whole
        assert generated(path, "--prompts", prompts) == cut[:-1].replace("\\", "\\\\").replace("\n", "\\n") + "\n"
        assert generated(path, "--prompts", prompts, "--ignore-eos") == whole[:-1].replace("\\", "\\\\").replace("\n", "\\n") + "\n"
    assert "--ignore-eos" in ends_well(script_here("generate.py", "--help"))


def test_models_trained_from_the_start_have_no_end(tmp_path: Path) -> None:
    config = dataclasses.replace(
        default_config("gpt"), n_layer=1, n_embd=16, block_size=16, batch_size=2, steps=1, schedule_steps=1, warmup=1
    )
    Run(config, tmp_path / "run", TEXT).train()
    assert load_run(tmp_path / "run")[1].ends == ()
    shown = generated(tmp_path / "run", "--prompt", "the")
    assert len(shown) == len("the") + 12 + 1
    assert generated(tmp_path / "run", "--prompt", "the", "--ignore-eos") == shown


CYCLE = NgramLM(4, 2).fit(np.array([0, 1, 2, 3] * 30))
GREEDY = Sampling(greedy=True)


def test_the_end_in_the_library() -> None:
    assert list(generate(CYCLE, [0], 9, GREEDY, ends=[3])) == [1, 2]
    assert list(generate(CYCLE, [3], 9, GREEDY, ends=(3, 2))) == [0, 1]  # one in the prompt ends nothing
    assert list(generate(CYCLE, [0], 5, GREEDY, ends=())) == [1, 2, 3, 0, 1]
    assert list(generate(CYCLE, [0], 2, GREEDY, ends=[3])) == [1, 2]
    assert list(generate_batch(CYCLE, [[0], [2]], 9, GREEDY, ends=[3])) == [[1, 3], [2, 3], [3, 3]]
    assert list(generate_batch(CYCLE, [[2], [2]], 9, GREEDY, ends=np.array([3]))) == [[3, 3]]
    for ends in ([4], [-1], [1.5], ["3"]):
        with pytest.raises(TinylmError, match="an end of text is"):
            list(generate(CYCLE, [0], 9, ends=ends))  # type: ignore[arg-type]


def test_a_row_that_has_ended_changes_no_other() -> None:
    """Each row draws from its own stream: the others' texts are those without `ends`, up to their own end."""
    model = NgramLM(4, 2).fit(np.random.default_rng(0).integers(0, 4, 300))
    prompts = [[0], [1], [2], [3]]
    free = list(generate_batch(model, prompts, 30, randoms=[np.random.default_rng(i) for i in range(4)]))
    ended = list(generate_batch(model, prompts, 30, randoms=[np.random.default_rng(i) for i in range(4)], ends=[2]))
    lengths = []
    for place in range(4):
        expected = [row[place] for row in free]
        length = expected.index(2) + 1
        lengths.append(length)
        assert [row[place] for row in ended][:length] == expected[:length]
        assert {row[place] for row in ended[length - 1 :]} == {2}
    assert len(ended) == max(lengths) > min(lengths)
