"""Translators that copy: what they learn it from, that it arrives unharmed, their best n, lower case, bounds, and the first runs."""

import copy
import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from old_runs.measure import RUNS

from tinylm.data.copying import SLOTS
from tinylm.data.pairs import Pairs
from tinylm.decode.beams import length_penalty
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.train.tasks.translation import SentenceTranslator, TranslationRun, load_translator, read_translation
from tinylm.train.tasks.translation_config import TranslationConfig, default_config

ANIMALS = {"cat": "gato", "dog": "perro", "bird": "pájaro", "horse": "caballo", "wolf": "lobo"}
DOES = {"sleeps": "duerme", "eats": "come", "runs": "corre", "sings": "canta"}
SENTENCES = [(f"the {a} {d}.", f"el {b} {e}.") for a, b in ANIMALS.items() for d, e in DOES.items()]
SENTENCES += [(f"{n} {d} in the house.", f"{n} {e} en la casa.") for n in ("Anna", "Maria") for d, e in DOES.items()]
PAIRS = Pairs(SENTENCES, SENTENCES[:7], SENTENCES[7:9], 0, "")
MODELS = pytest.mark.parametrize("model", ["transformer", "lstm"])
STRANGE = [
    ("4711 sleeps in the house.", "4711"), ("the 漢字 eats.", "漢字"), ("Zorblax sings.", "Zorblax"), ("the dog runs 🙂.", "🙂"),
    ("the name@example.org sleeps.", "name@example.org"), ("the Þórr-3.14 sings.", "Þórr-3.14"),
]  # fmt: skip


def config(model: str, **changed: Any) -> TranslationConfig:
    small = {
        "bpe_size": 300, "block_size": 48, "n_layer": 1, "n_head": 2, "n_embd": 32, "n_hidden": 32, "batch_tokens": 64, "dropout": 0.0,
        "steps": 3, "schedule_steps": 3, "warmup": 2,
    }  # fmt: skip
    return dataclasses.replace(default_config(model), **{**small, **changed})


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> SentenceTranslator:
    """Returns a Transformer that has learned the sentences, and to copy."""
    settings = config("transformer", copy=1.0, n_embd=64, steps=300, schedule_steps=300, lr=5e-3, label_smoothing=0.0, eval_every=300)
    folder = tmp_path_factory.mktemp("runs") / "learned"
    assert TranslationRun(settings, folder, PAIRS).train() is not None
    return load_translator(folder)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SentenceTranslator]:
    """Returns translators that have learned next to nothing."""
    parent = tmp_path_factory.mktemp("untrained")
    for model in ("transformer", "lstm"):
        TranslationRun(config(model, steps=1), parent / model, PAIRS).train()
    return {model: load_translator(parent / model) for model in ("transformer", "lstm")}


@MODELS
@pytest.mark.parametrize("beams", [1, 4])
def test_whatever_the_model_it_copies(model: str, beams: int, untrained: dict[str, SentenceTranslator]) -> None:
    """Also one that was hardly trained, to which every token is as likely as any other."""
    for source, span in STRANGE:
        assert untrained[model].translate(source, beams).count(span) == 1


def test_what_it_learns_about_where_a_copy_stands(learned: SentenceTranslator) -> None:
    assert [learned.translate(source) for source, _ in SENTENCES] == [target for _, target in SENTENCES]
    assert learned.translate("4711 sleeps in the house.") == "4711 duerme en la casa."
    assert learned.translate("the Zorblax eats.") == "el Zorblax come."
    assert learned.translate("the 漢字 runs.", beams=1) == "el 漢字 corre."


@pytest.mark.parametrize("text", ["4711", "🙂 🙂", "Zorblax, 12!", "漢字。"])
def test_a_text_of_which_nothing_is_left_is_its_own_translation(text: str, learned: SentenceTranslator) -> None:
    assert learned.translate(text) == text
    (only,) = learned.translations(text, 4)
    assert (only.score, only.log_probability) == (0, 0)


def test_the_best_n(learned: SentenceTranslator) -> None:
    found = learned.translations("the cat sleeps.", 4, beams=6, alpha=0.6)
    assert found[0].text == "el gato duerme." == learned.translate("the cat sleeps.", 6)
    assert 2 <= len({each.text for each in found}) == len(found) <= 4
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    tokens = len(learned.vocabulary.encode(found[0].text))
    assert found[0].score == pytest.approx(found[0].log_probability / length_penalty(tokens, 0.6))
    assert found == learned.translations("the cat sleeps.", 6, beams=6)[:4]
    with pytest.raises(ConfigError, match="the 3 best translations of 2 beams: expected at least as many beams"):
        learned.translations("the cat sleeps.", 3, beams=2)


@MODELS
def test_no_translation_is_endless(model: str, untrained: dict[str, SentenceTranslator]) -> None:
    """A model to which every token is as likely as any other, of which the first is taken."""
    translator = copy.deepcopy(untrained[model])
    v = translator.vocabulary
    for p in translator.model.parameters():
        p.data[...] = 0
        p.bump_version()
    ratio = float(np.median([len(v.encode(target)) / len(v.encode(source)) for source, target in SENTENCES]))
    assert v.length_ratio == ratio
    for source in ("the cat sleeps.", "Anna eats."):
        text = translator.translate(source, beams=1)
        most = 10 + math.ceil(2 * ratio * len(v.encode(source)))
        assert len(v.encode(text)) - 1 == most < translator.block_size
        assert text.startswith('!!!"!!!"')
        assert not re.search(r"(.+)\1\1\1", text)


@MODELS
def test_a_resumed_run_has_the_same_pairs(model: str, tmp_path: Path) -> None:
    settings = config(model, copy=0.5, steps=6, schedule_steps=6)
    TranslationRun(settings, tmp_path / "whole", PAIRS).train()
    TranslationRun(dataclasses.replace(settings, steps=3), tmp_path / "parts", PAIRS).train()
    resumed = TranslationRun(settings, tmp_path / "parts", PAIRS, resume=True)
    assert resumed.task.copies == 14
    resumed.train()
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "parts/model.safetensors").read_bytes()


def test_the_pairs_with_placeholders(tmp_path: Path) -> None:
    run = TranslationRun(config("lstm", copy=0.5), tmp_path / "run", PAIRS)
    v = run.task.vocabulary
    plain, made = run.task.batches.pairs[:28], run.task.batches.pairs[28:]
    assert len(made) == run.task.copies == 14
    for source, target in plain:
        assert max(source.max(), target.max()) == v.eos
    for source, target in made:
        placeholders = [sorted(i for i in ids.tolist() if i in v.placeholders) for ids in (source, target)]
        assert placeholders[0] == placeholders[1] != []
    short = config("lstm", copy=0.5, block_size=max(len(ids) for pair in plain for ids in pair))
    assert TranslationRun(short, tmp_path / "short", PAIRS).task.too_long == 0
    none = TranslationRun(config("lstm", copy=0.0), tmp_path / "none", PAIRS).task
    assert (none.copies, none.vocabulary.size, len(none.batches.pairs)) == (0, v.size - SLOTS, 28)
    for bad in (-0.1, 1.5):
        with pytest.raises(ConfigError, match="copy"):
            config("lstm", copy=bad)


def test_lower_case(tmp_path: Path) -> None:
    mixed = [(source.capitalize(), target.title()) for source, target in SENTENCES]
    run = TranslationRun(config("transformer", lower=True, steps=1), tmp_path, Pairs(mixed, mixed[:7], mixed[7:9], 0, ""))
    run.train()
    translator = load_translator(tmp_path)
    v = translator.vocabulary
    np.testing.assert_array_equal(v.encode("The CAT."), v.encode("the cat."))
    assert v.read("THE Cat.")[1] == []
    assert [v.decode(ids) for ids in run.task.batches.pairs[0]] == ["the cat sleeps.", "el gato duerme."]
    assert "Zorblax" in translator.translate("The Zorblax SLEEPS.")
    assert read_translation(tmp_path)[0].lower


# ---------------------------------------------------------------- what a run folder holds


def test_the_first_runs_translate_as_they_did() -> None:
    translator = load_translator(RUNS / "translator")
    v = translator.vocabulary
    assert (v.known, v.length_ratio, v.lower, v.size) == (None, None, False, v.eos + 1)
    config, _ = read_translation(RUNS / "translator")
    assert (config.copy, config.lower) == (0, False)
    assert translator.fits("7" * 31)  # spelled out
    assert not translator.fits("7" * 32)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r.update(vocabulary=[]), r"is damaged: not the record of a vocabulary: \[\]"),
        (lambda r: r["vocabulary"].update(known=7), "is damaged: not a record of known text: 7"),
        (lambda r: r["vocabulary"].update(known=None), "is damaged: copy is 0.05, but its vocabulary has no known text"),
        (lambda r: r["train"].update(copy=0.0), "is damaged: copy is 0, but its vocabulary has a known text"),
        (lambda r: r["train"].update(copy=2.0), "copy 2.0 is out of range: expected 0 to 1"),
    ],
)
def test_damaged_configs_are_refused(spoil: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    TranslationRun(config("lstm", steps=1), tmp_path / "run", PAIRS).train()
    shutil.copytree(tmp_path / "run", folder := tmp_path / "spoiled")
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    spoil(record)
    (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises((CheckpointError, ConfigError), match=message):
        load_translator(folder)


def test_an_empty_source_stays_an_error(untrained: dict[str, SentenceTranslator]) -> None:
    with pytest.raises(DataError, match="there is no text to translate"):
        untrained["lstm"].translate(" ")
