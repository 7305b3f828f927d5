"""The families of runs that predictions are backtested on: a text, a tokenizer and a model each, small enough for minutes.

Of each family the runs that `plan_scaling` makes are fitted, and larger ones are held out, two, four and up to ten times away.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinylm.data import load_text
from tinylm.data.labelled import load_labelled
from tinylm.data.pairs import read_pairs
from tinylm.files.atomic import write_atomically
from tinylm.studies.scaling_runs import ScalingPlan, scheduled
from tinylm.studies.sizes import config_of_size, parameter_count, widened
from tinylm.train.tasks.language_model_config import RECURRENT, TrainConfig, default_config


def _verses(language: int) -> str:
    return "\n".join(pair[language] for pair in read_pairs("web-rv1909").pairs) + "\n"


def _first_half(text: str) -> str:
    return text[: text.index("\n", len(text) // 2) + 1]


TEXTS: dict[str, Callable[[], str]] = {
    "Shakespeare": lambda: load_text("tinyshakespeare"),
    "English": lambda: _verses(0),
    "Spanish": lambda: _verses(1),
    "half English": lambda: _first_half(_verses(0)),
    "half Spanish": lambda: _first_half(_verses(1)),
    "reviews": lambda: "\n".join(load_labelled("uci-sentences").texts) + "\n",
}
AWAY = ((2, 1), (4.5, 1), (1, 2), (1, 4), (2, 2), (4, 4), (2.25, 10))  # (times the size, times the data) of the largest fitted run


@dataclass(frozen=True)
class Family:
    """A text by its name in TEXTS, and the configured run. away: which runs are held out; () for the configured one alone."""

    name: str
    text: str
    config: TrainConfig
    away: tuple[tuple[float, int], ...] = AWAY

    def folder(self, out: Path) -> Path:
        """Returns where the runs of the family are."""
        return out / self.name.replace(" ", "-").replace(",", "")

    def with_data(self, folder: Path) -> TrainConfig:
        """Returns the config with its text in a file of this folder, which is written unless it is there; of Shakespeare, the shipped
        one."""
        if self.text == "Shakespeare":
            return self.config
        path = folder / f"{self.text.replace(' ', '-')}.txt"
        if not path.exists():
            write_atomically(path, TEXTS[self.text]().encode("utf-8"))
        return dataclasses.replace(self.config, data=str(path))


def held_out_runs(family: Family, plan: ScalingPlan) -> list[TrainConfig]:
    """Returns the runs to predict, without those that would read a token twice."""
    config, vocabulary = plan.config, plan.tokenizer.vocab_size
    if not family.away:
        return [scheduled(config, config.steps)]
    largest = plan.runs[-1]
    most = parameter_count(config, vocabulary)(largest)
    runs = []
    for size, data in family.away:
        model = largest if size == 1 else config_of_size(config, vocabulary, size * most)[0]
        if data * largest.steps <= plan.batches_per_pass:
            runs.append(scheduled(model, data * largest.steps))
    return runs


def _small(
    text: str, model: str, tokenizer: Literal["char", "word", "bpe"], width: int, steps: int = 400,
    away: tuple[tuple[float, int], ...] = AWAY,
) -> Family:  # fmt: skip
    """Returns the family of a small model. Its learning rate is the model's usual one, brought from the usual width to this one; of
    Transformers twice as much, which suits such short runs better."""
    recurrent = model in RECURRENT
    base = default_config(model)
    base = dataclasses.replace(
        base, lr=base.lr * (1 if recurrent else 2), n_layer=1 if recurrent else 2, n_head=2, block_size=32, batch_size=4,
        steps=steps, schedule_steps=steps, warmup=steps // 10, log_every=steps, eval_tokens=16_000,
        tokenizer=tokenizer, bpe_size=512, min_count=10,
    )  # fmt: skip
    kind = {"char": "characters", "word": "words", "bpe": "BPE"}[tokenizer]
    return Family(f"{text}, {kind}, {model}", text, widened(base, width / base.n_embd), away)


README_EXAMPLE = dataclasses.replace(default_config("gpt"), n_layer=2, n_embd=96, block_size=32, steps=1600, schedule_steps=1600)
FAMILIES = (
    Family("README's example", "Shakespeare", README_EXAMPLE, ()),
    _small("Shakespeare", "gpt", "char", 48),
    _small("Shakespeare", "gru", "char", 64),
    _small("Shakespeare", "gpt", "bpe", 48),
    _small("Shakespeare", "lstm", "bpe", 64),
    _small("Shakespeare", "gpt", "word", 48),
    _small("English", "gpt", "char", 48, away=AWAY[:-1]),
    _small("English", "lstm", "char", 64),
    _small("half English", "llama", "bpe", 48),
    _small("half English", "gru", "bpe", 64),
    _small("English", "gpt", "word", 48),
    _small("Spanish", "llama", "char", 48, away=AWAY[:-1]),
    _small("Spanish", "gru", "char", 64),
    _small("half Spanish", "gpt", "bpe", 48),
    _small("Spanish", "gru", "word", 64),
    _small("reviews", "gpt", "char", 48, 320),
    _small("reviews", "gru", "char", 64, 320),
)
