"""What `translate compare` does: a Transformer, an LSTM, and the Transformer trained by PyTorch, on the same pairs."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.table import Table

from support import console
from support.run_folders import folder_or_temporary
from support.tables import screen
from support.translation import BEAMS, Outputs, baselines, fitting, load, shortened, show, sizes, train_shown, translations
from tinylm.data.corpora import shown_sources
from tinylm.data.pairs import Pairs
from tinylm.engine.devices import device_namespace
from tinylm.engine.products import products
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.files.json_files import read_json
from tinylm.train.run_folder import never_started
from tinylm.train.tasks.data_note import data_note, what_changed
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.translation import TranslationRun, load_translator, score
from tinylm.train.tasks.translation_config import TranslationConfig, check_settings, default_config

Model = Literal["transformer", "lstm", "torch"]
LENGTHS = ("steps", "schedule_steps", "warmup")  # --steps scales all of them
SHARED = (
    "data", "valid", "test", "encoding", "bpe_size", "copy", "lower", "device", "seed", "block_size", "log_every", "eval_every",
    "eval_tokens", "save_every", "sample_every", "precision",
)  # fmt: skip


@dataclass(frozen=True)
class Compare(TranslationConfig):
    """Trains, one after the other, the Transformer, the LSTM without attention, and the Transformer again by PyTorch
    (torch.nn.Transformer, from the same initial weights, on the same batches; tinylm then decodes with its weights).
    Tests them and the two baselines on the same sentences: BLEU and chrF, greedy and with 4 beams. Also prints the
    seconds of training. The settings are the Transformer's; the LSTM has its own defaults for sizes and optimiser. A model
    whose run is finished is not trained again, so several processes can train one model each."""

    model: tyro.conf.SuppressFixed[tyro.conf.Fixed[Literal["transformer"]]] = "transformer"
    steps: int = TranslationConfig.steps
    """steps of the Transformer; its schedule and warmup, and those of the LSTM, change in proportion"""
    schedule_steps: tyro.conf.SuppressFixed[tyro.conf.Fixed[int]] = TranslationConfig.schedule_steps
    warmup: tyro.conf.SuppressFixed[tyro.conf.Fixed[int]] = TranslationConfig.warmup

    models: tuple[Model, ...] = ("transformer", "lstm", "torch")
    """which models"""
    out: Path = Path("runs/compare-translate")
    """the folder for the runs"""
    dry_run: bool = False
    """three steps of tiny models on 200 pairs, in a temporary folder"""


def compare(arguments: Compare) -> int:
    if not arguments.models:
        raise ConfigError("--models names none: expected some of transformer, lstm, torch")
    if arguments.steps < 1:
        raise ConfigError(f"--steps {arguments.steps}: expected at least 1")
    if "torch" in arguments.models:
        console.require_torch(", or leave it out with --models transformer lstm")
    device_namespace(arguments.device)
    configs = {name: shortened(config_of(name, arguments), arguments.dry_run) for name in arguments.models}
    for config in configs.values():
        check_settings(config)
    pairs = load(arguments, arguments.dry_run)
    with folder_or_temporary(arguments.out, arguments.dry_run) as folder:
        return compare_in(folder, configs, pairs, arguments.dry_run)


def config_of(name: str, arguments: Compare) -> TranslationConfig:
    """Returns the settings of one model's run."""
    given = TranslationConfig(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(TranslationConfig)})
    kind = default_config("lstm" if name == "lstm" else "transformer")
    whole = default_config("transformer").steps
    stretched = {length: -(-getattr(kind, length) * given.steps // whole) for length in LENGTHS}
    if name == "lstm":
        given = dataclasses.replace(kind, **{setting: getattr(given, setting) for setting in SHARED})
    return dataclasses.replace(given, **stretched, precision="float32" if name == "torch" else given.precision)


def compare_in(folder: Path, configs: dict[str, TranslationConfig], pairs: Pairs, dry_run: bool) -> int:
    print(f"pairs: {sizes(pairs)}")
    finished = {name: finished_run(name, folder / name, config, pairs) for name, config in configs.items()}
    summaries = {}
    for name, config in configs.items():
        summary = finished[name] or train(name, folder / name, config, pairs, dry_run)
        if summary is None:
            print(f"stopped; before the next comparison, {remedy(name, folder / name)}")
            return 130
        summaries[name] = summary
    translators = {name: load_translator(folder / name, config.device) for name, config in configs.items()}
    print()
    sources, references = fitting(next(iter(translators.values())), pairs.test)
    systems: dict[str, Outputs] = {"": baselines(pairs.train, sources)}
    for name, translator in translators.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        with products(configs[name].precision):
            systems[name] = translations(translator, sources)
    lower = any(config.lower for config in configs.values())
    table = Table("system", "decoding", "BLEU", "chrF", "nats/token", "parameters", "training", box=None)
    for name, outputs in systems.items():
        for kind, texts in outputs.items():
            values = score(texts, references, lower)
            labels, learned = ((name, kind), columns(summaries[name])) if name else ((kind, ""), ())
            table.add_row(*labels, f"{values['bleu']:.2f}", f"{values['chrf']:.2f}", *learned)
    screen().print(table)
    show(sources, references, systems.pop("") | {name: outputs[f"beam {BEAMS}"] for name, outputs in systems.items()})
    return 0


def finished_run(name: str, folder: Path, config: TranslationConfig, pairs: Pairs) -> dict[str, Any] | None:
    """Returns the summary of the run in the folder; None if there is no run.

    Raises CheckpointError if the run was stopped, ConfigError if it has other settings, DataError if its data were other ones.
    """
    if not (folder / "config.json").exists() or never_started(folder):
        return None
    if not (folder / "summary.json").exists():
        raise CheckpointError(f"the run in {folder} is not finished: {remedy(name, folder)}")
    summary: dict[str, Any] = read_json(folder / "summary.json")
    found = read_config(folder, TranslationConfig)[0].to_json() | {"steps": summary["steps"]}  # a resumed run may have made more
    for setting, value in config.to_json().items():
        if found[setting] != value:
            raise ConfigError(f"the run in {folder} was made with {setting} {found[setting]}, not {value}: choose another --out")
    if problem := what_changed(folder, data_note(pairs, shown_sources(config.data))):
        raise DataError(f"{problem}: choose another --out")
    print(f"{name}: the finished run in {folder}")
    return summary


def remedy(name: str, folder: Path) -> str:
    """Returns what the user can do about a run that was stopped."""
    return f"delete {folder}" if name == "torch" else f"continue it with: {console.program('translate')} train --resume {folder}"


def train(name: str, folder: Path, config: TranslationConfig, pairs: Pairs, dry_run: bool) -> dict[str, Any] | None:
    """Trains one of the models and returns the summary; None if it was stopped."""
    print(f"\n{name}{', the Transformer trained by PyTorch' if name == 'torch' else ''}")
    if name != "torch":
        return train_shown(TranslationRun(config, folder, pairs), dry_run=dry_run)
    from tinylm.verify.torch.training import TorchTranslationRun

    return train_shown(TorchTranslationRun(config, folder, pairs), dry_run=dry_run)


def columns(summary: dict[str, Any]) -> tuple[str, str, str]:
    return f"{summary['val_loss']:.4f}", f"{summary['parameters']:,}", f"{summary['train_seconds']:.0f} s"
