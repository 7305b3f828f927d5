"""Machine translation: trains translators on pairs of sentences, tests them beside two baselines, and uses them."""

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import console
import tyro
from train import FREE_ON_RESUME, value_of
from translate_compare import compare
from translate_parts import BEAMS, baselines, fitting, load, score, shortened, show, sizes, train_shown, translations

from tinylm.data.corpora import read_text
from tinylm.data.pairs import Pair, Pairs
from tinylm.engine.devices import device_namespace
from tinylm.errors import ConfigError, DataError
from tinylm.files.json_files import write_json
from tinylm.train.runs import new_folder
from tinylm.train.tasks.translation import SentenceTranslator, TranslationRun, load_translator, read_config
from tinylm.train.tasks.translation_config import TranslationConfig, default_config
from tinylm.train.tensorboard import summary_writer


@dataclass(frozen=True)
class Train(TranslationConfig):
    """Trains a translator, 90 % of the pairs for training and 5 % for validation, and tests it on the
    rest: BLEU and chrF (sacrebleu) of greedy decoding and of 4 beams, beside the target of the nearest
    training sentence (TF-IDF) and a word-for-word translation (IBM Model 1). --model lstm --help shows
    the defaults of another model. A run folder holds config.json, metrics.jsonl, summary.json,
    model.safetensors and checkpoints/."""

    out: Path | None = None
    """the run folder; runs/translate-<model>-<data> by default"""
    resume: Path | None = None
    """continue the run in this folder, with its settings; --steps may be raised"""
    tensorboard: bool = False
    """write the metrics for TensorBoard too, into the run folder's tensorboard/"""
    dry_run: bool = False
    """three steps of a tiny model on 200 pairs, in a temporary folder"""


@dataclass(frozen=True)
class Translate:
    """Prints a translation a line, each as soon as it is ready. A source longer than the model's block
    or empty is an error naming its line."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder that 'translate.py train' wrote"""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """the sentences; with neither sentences nor --file, the lines of the standard input"""
    file: Path | None = None
    """instead: the lines of a UTF-8 file"""
    beams: int = BEAMS
    """hypotheses kept at each step; 1 is greedy"""
    alpha: float = 0.6
    """of the length penalty ((5 + n) / 6)^alpha; larger favours longer translations"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    dry_run: bool = False
    """the first sentence only"""


# ---------------------------------------------------------------- train


def parse_train(argv: list[str]) -> Train:
    """The command line. The defaults are those of the model, or with --resume the run's own settings."""
    resumed = value_of("--resume", argv)
    if resumed is None:
        base = default_config(value_of("--model", argv) or "transformer")
        return console.parse(Train, args=argv, prog="translate.py train", default=Train(**base.to_json()))
    folder = Path(resumed)
    saved, _ = read_config(folder)
    arguments = console.parse(Train, args=argv, prog="translate.py train", default=Train(**saved.to_json(), resume=folder))
    for name, value in saved.to_json().items():
        if name not in FREE_ON_RESUME and getattr(arguments, name) != value:
            flag = f"--{name.replace('_', '-')} {getattr(arguments, name)}"
            raise ConfigError(f"{flag}: the run in {folder} was made with {value}, which a resume cannot change")
    if arguments.out is not None:
        raise ConfigError("--out and --resume do not go together: a resumed run stays in its folder")
    if arguments.dry_run:
        raise ConfigError("--dry-run and --resume do not go together: a dry run leaves nothing behind")
    return arguments


def train(argv: list[str]) -> int:
    arguments = parse_train(argv)
    config = TranslationConfig(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(TranslationConfig)})
    device_namespace(config.device)
    if arguments.tensorboard:
        summary_writer()  # one that is missing is reported before anything is made
    pairs, config = load(config.data, arguments.dry_run), shortened(config, arguments.dry_run)
    if not arguments.dry_run:
        folder = arguments.resume or arguments.out or new_folder(f"translate-{config.model}", config.data)
        return train_in(folder, config, pairs, arguments.resume is not None, arguments.tensorboard)
    folder = Path(tempfile.mkdtemp(prefix="tinylm-"))
    try:
        return train_in(folder, config, pairs, resume=False, tensorboard=arguments.tensorboard)
    finally:
        shutil.rmtree(folder)


def train_in(folder: Path, config: TranslationConfig, pairs: Pairs, resume: bool, tensorboard: bool) -> int:
    run = TranslationRun(config, folder, pairs, resume)
    print(f"{config.model} on {config.data}: pairs: {sizes(pairs)}; {run.vocabulary.size:,} kinds of tokens")
    summary = train_shown(run, tensorboard)
    if summary is None:
        print(f"stopped at step {run.progress.step}; continue with: python scripts/translate.py train --resume {folder}")
        return 130
    translator = SentenceTranslator(run.model, run.vocabulary, config.block_size, config.device)
    write_json(folder / "summary.json", {**summary, "test": test(translator, pairs.train, pairs.test)})
    return 0


def test(translator: SentenceTranslator, known: Sequence[Pair], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Scores on the test pairs, printed with 10 of the sentences."""
    sources, references = fitting(translator, pairs)
    outputs = baselines(known, sources) | translations(translator, sources)
    scores = {name: score(texts, references) for name, texts in outputs.items()}
    for name, values in scores.items():
        print(f"{name:8}  BLEU {values['bleu']:5.2f}  chrF {values['chrf']:5.2f}")
    show(sources, references, outputs)
    return {"sentences": len(sources), "left_out": len(pairs) - len(sources), **scores}


# ---------------------------------------------------------------- run


def translate(argv: list[str]) -> int:
    arguments = console.parse(Translate, args=argv, prog="translate.py run")
    if arguments.texts and arguments.file is not None:
        raise ConfigError("give sentences or --file, not both")
    if arguments.beams < 1:
        raise ConfigError(f"--beams {arguments.beams}: expected at least 1")
    device_namespace(arguments.device)
    translator = load_translator(arguments.run, arguments.device)
    for name, text in sentences(arguments):
        try:
            result = translator.translate(text, arguments.beams, arguments.alpha)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        print(" ".join(result.split()), flush=True)  # a line each, whatever the model wrote
        if arguments.dry_run:
            break
    return 0


def sentences(arguments: Translate) -> Iterator[tuple[str, str]]:
    """What to translate, each with its name for error messages; the standard input as it comes."""
    if arguments.texts:
        yield from ((f"text {i}", text) for i, text in enumerate(arguments.texts, 1))
    elif arguments.file is not None:
        lines = read_text(arguments.file).removesuffix("\n").split("\n")
        yield from ((f"{arguments.file}, line {i}", line) for i, line in enumerate(lines, 1))
    else:
        for number, raw in enumerate(iter(sys.stdin.buffer.readline, b""), 1):
            try:
                yield f"standard input, line {number}", raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"standard input, line {number} is not UTF-8: byte {raw[error.start]:#04x}") from error


COMMANDS = {"train": train, "compare": compare, "run": translate}
USAGE = f"""{__doc__}

usage: translate.py train [--help]      trains and tests; with nothing more, English to Spanish
       translate.py compare [--help]    trains and tests a Transformer, an LSTM, and the Transformer in PyTorch
       translate.py run RUN [TEXT ...]  translates with a trained model; run --help for more"""


if __name__ == "__main__":
    console.run(lambda: console.run_command(COMMANDS, USAGE, "'train', 'compare' or 'run'"))
