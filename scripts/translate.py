"""Translates: trains translators on pairs of sentences, compares them with two baselines, uses them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from support import console
from support.config_files import config_file
from support.estimate_tables import show_run_estimate
from support.json_lines import Write, json_lines
from support.new_runs import gathered, new_run
from support.resuming import refuse_changes, refuse_without_resume, value_of
from support.run_folders import folder_or_temporary, say_if_finished
from support.texts import is_blank_line, texts_of
from support.translate_compare import Compare, compare
from support.translation import (
    BEAMS,
    Outputs,
    baselines,
    fitting,
    load,
    report_pairs,
    shortened,
    show,
    sizes,
    train_shown,
    translations,
)

from tinylm.data.corpora import shown_sources
from tinylm.data.pairs import Pair, Pairs, read_pairs
from tinylm.engine.devices import device_namespace
from tinylm.engine.products import Precision, products
from tinylm.errors import ConfigError, DataError
from tinylm.files.json_files import write_json
from tinylm.studies.estimates import estimate_translation
from tinylm.train.run_folder import new_folder, refuse_run
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.resuming import FREE_ON_RESUME
from tinylm.train.tasks.translation import SentenceTranslator, TranslationRun, load_translator, score
from tinylm.train.tasks.translation_config import TranslationConfig, check_settings, check_training_fits, default_config
from tinylm.train.tensorboard import summary_writer


@dataclass(frozen=True)
class Train(TranslationConfig):
    """Trains a translator on 90 % of the pairs, validates it on 5 % and tests it on the rest, unless --valid and --test name files for
    that: BLEU and chrF (sacrebleu) of greedy decoding and of 4 beams, compared with the target of the nearest training
    sentence (TF-IDF) and a word-for-word translation (IBM Model 1). '--model lstm --help' shows the defaults of another
    model. A run folder holds config.json, metrics.jsonl, summary.json, model.safetensors and checkpoints/."""

    out: Path | None = None
    """the run folder; by default runs/translate-<model>-<data>"""
    config: Path | None = None
    """take settings from this file: TOML, such as lr = 0.001, or the config.json of a run; options beside it win"""
    resume: Path | None = None
    """continue the run in this folder, with its settings; --steps may be raised. All numbers are those of a run that never stopped, to
    the last bit, except for the seconds, the tokens per second and the memory"""
    accept_new_data: bool = False
    """with --resume: go on although the data are no longer those the run was trained on; the run notes it"""
    tensorboard: bool = False
    """also write the metrics for TensorBoard, to tensorboard/ in the run folder"""
    dry_run: bool = False
    """three steps of a tiny model on 200 pairs, in a temporary folder"""
    estimate: bool = False
    """instead of training, make the first steps and print how much time and memory the training will take, without the translations
    that test it; no run folder is written"""


@dataclass(frozen=True)
class Translate:
    """Prints one translation per line, each as soon as it is ready, and a blank line for a blank line. A source that is longer
    than the model's block, or an argument that is empty, is an error that names its place. Names, numbers and characters
    that the training sources do not have are copied."""

    run: Annotated[Path, tyro.conf.Positional]
    """a run folder that 'translate train' wrote"""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """the sentences; without sentences and --file, the lines of the standard input"""
    file: Path | None = None
    """instead, translate the lines of this file"""
    encoding: str = "utf-8"
    """of the file or the standard input, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    beams: int = BEAMS
    """number of hypotheses kept at each step; 1 is greedy decoding"""
    alpha: float = 0.6
    """exponent of the length penalty ((5 + n) / 6)^alpha; larger values favour longer translations"""
    n_best: int = 0
    """print the N best translations of each sentence, in lines 'sentence TAB score TAB log p TAB translation'; the score is log p in nats
    over the length penalty. There are fewer where beams end alike. 0: only the best one, without numbers"""
    no_repeat_ngram: int = 0
    """a translation never has a sequence of N tokens twice; 0: sequences may repeat"""
    json: bool = False
    """print one JSON object per text, and everything else on the standard error"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    precision: Precision = "float32"
    """of matrix products: float32, or operands rounded to bfloat16 and sums in float32"""
    dry_run: bool = False
    """translate the first sentence only"""


@dataclass(frozen=True)
class Evaluate:
    """Prints BLEU (sacrebleu, 13a tokens) and chrF of a trained translator on the pairs of a file, by greedy decoding and by 4 beams,
    and 10 of the sentences. The case counts, unless the model writes lower case alone. Sources that are longer than the model's block
    are left out and counted."""

    run: Annotated[Path, tyro.conf.Positional]
    """a run folder that 'translate train' wrote"""
    file: Annotated[Path, tyro.conf.Positional]
    """a file of lines 'source TAB target', or CSV"""
    encoding: str = "utf-8"
    """of the file, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    precision: Precision = "float32"
    """of matrix products: float32, or operands rounded to bfloat16 and sums in float32"""
    dry_run: bool = False
    """translate the first three sentences only"""


# ---------------------------------------------------------------- train


def parse_train(argv: list[str]) -> Train:
    """Returns the command line as a record, with the settings of --config."""
    file = config_file(Train, TranslationConfig, argv)
    with file.placing_errors():
        return parse_options(file.before(argv))


def parse_options(argv: list[str]) -> Train:
    """Returns the command line as a record. The defaults are those of the model, or with --resume the run's own settings."""
    argv = gathered(argv)
    resumed = value_of("--resume", argv)
    if resumed is None:
        base = default_config(value_of("--model", argv) or "transformer")
        return new_run(console.parse(Train, args=argv, prog=f"{console.program()} train", default=Train(**base.to_json())), argv)
    folder = Path(resumed)
    saved, _ = read_config(folder, TranslationConfig)
    arguments = console.parse(Train, args=argv, prog=f"{console.program()} train", default=Train(**saved.to_json(), resume=folder))
    refuse_changes(arguments, saved.to_json(), FREE_ON_RESUME)
    if arguments.dry_run:
        raise ConfigError("--dry-run and --resume do not go together: a dry run leaves nothing behind")
    return arguments


def train(argv: list[str]) -> int:
    arguments = parse_train(argv)
    refuse_without_resume(arguments)
    config = TranslationConfig(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(TranslationConfig)})
    device_namespace(config.device)
    if arguments.tensorboard:
        summary_writer()  # if it is missing, that is reported before anything is written
    config = shortened(config, arguments.dry_run)
    check_training_fits(config, 1)  # with a single token, so as to refuse it before the data are read and tokens learned
    if arguments.resume is None:
        check_settings(config)
    if arguments.out is not None and not (arguments.dry_run or arguments.estimate):
        refuse_run(arguments.out)
    pairs = load(config, arguments.dry_run)
    if arguments.estimate:
        return show_run_estimate(estimate_translation, config, pairs, arguments.resume)
    chosen = arguments.resume or arguments.out or new_folder(f"translate-{config.model}", config.data)
    with folder_or_temporary(chosen, arguments.dry_run) as folder:
        run = TranslationRun(config, folder, pairs, arguments.resume is not None, arguments.accept_new_data)
        return train_in(run, pairs, arguments)


def train_in(run: TranslationRun, pairs: Pairs, arguments: Train) -> int:
    config, folder = run.task.config, run.folder
    print(f"{config.model} on {shown_sources(config.data)}: pairs: {sizes(pairs)}; {run.task.vocabulary.size:,} kinds of tokens")
    if arguments.resume is not None:
        say_if_finished(run, "; a larger --steps trains on")
    summary = train_shown(run, arguments.tensorboard, arguments.dry_run)
    if summary is None:
        later = "" if arguments.dry_run else f"; continue with: {console.program()} train --resume {folder}"
        print(f"stopped at step {run.progress.step}{later}")
        return 130
    translator = SentenceTranslator(run.task.model, run.task.vocabulary, config.block_size, config.device)
    with products(config.precision):
        tested = test(translator, pairs.train, pairs.test, config.lower)
    write_json(folder / "summary.json", {**summary, "test": tested})
    return 0


def test(translator: SentenceTranslator, known: Sequence[Pair], pairs: Sequence[Pair], lower: bool) -> dict[str, Any]:
    """Returns the scores on the test pairs, and prints them with 10 of the sentences. lower: the case does not count."""
    sources, references = fitting(translator, pairs)
    scores = compared(sources, references, baselines(known, sources) | translations(translator, sources), lower)
    return {"sentences": len(sources), "left_out": len(pairs) - len(sources), **scores}


def compared(sources: Sequence[str], references: Sequence[str], outputs: Outputs, lower: bool) -> dict[str, dict[str, float]]:
    """Returns the scores of each system's translations, and prints them with 10 of the sentences. lower: the case does not count."""
    scores = {name: score(texts, references, lower) for name, texts in outputs.items()}
    for name, values in scores.items():
        print(f"{name:8}  BLEU {values['bleu']:5.2f}  chrF {values['chrf']:5.2f}")
    show(sources, references, outputs)
    return scores


# ---------------------------------------------------------------- evaluate


def evaluate(arguments: Evaluate) -> int:
    device_namespace(arguments.device)
    translator = load_translator(arguments.run, arguments.device)
    found = read_pairs(arguments.file, arguments.encoding)
    report_pairs(str(arguments.file), found)
    sources, references = fitting(translator, found.pairs[:3] if arguments.dry_run else found.pairs)
    with products(arguments.precision):
        compared(sources, references, translations(translator, sources), translator.vocabulary.lower)
    return 0


# ---------------------------------------------------------------- run


def translate(arguments: Translate) -> None:
    with json_lines(arguments.json) as write:
        translate_texts(arguments, write)


def translate_texts(arguments: Translate, write: Write | None) -> None:
    """Prints a line per text; with `write` a record instead."""
    sentences = texts_of(arguments.texts, arguments.file, arguments.encoding)
    if arguments.beams < 1:
        raise ConfigError(f"--beams {arguments.beams}: expected at least 1")
    if not 0 <= arguments.n_best <= arguments.beams:
        raise ConfigError(f"--n-best {arguments.n_best}: expected 0 to {arguments.beams}, the number of --beams")
    device_namespace(arguments.device)
    translator = load_translator(arguments.run, arguments.device)
    for number, (name, text) in enumerate(sentences, 1):
        if is_blank_line(text, arguments.texts):
            if write is not None:
                write({"text": text, "translation": "", "n_best": []})
            else:
                print(flush=True)
            continue
        try:
            with products(arguments.precision):
                found = translator.translations(
                    text, max(arguments.n_best, 1), arguments.beams, arguments.alpha, arguments.no_repeat_ngram
                )  # fmt: skip
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        lines = [" ".join(each.text.split()) for each in found]  # one line, whatever the model wrote
        if write is not None:
            each = zip(lines, found, strict=True)
            best = [{"translation": line, "score": f.score, "log_probability": f.log_probability} for line, f in each]
            write({"text": text, "translation": lines[0], "n_best": best})
        else:
            for line, f in zip(lines, found, strict=True):
                print((f"{number}\t{f.score:.4f}\t{f.log_probability:.4f}\t" if arguments.n_best else "") + line, flush=True)
        if arguments.dry_run:
            break


SUBCOMMANDS = {
    "train": ("[--help]", "trains and tests; with nothing more, English to Spanish", train),
    "compare": ("[--help]", "trains and tests a Transformer, an LSTM, and PyTorch's Transformer", console.subcommand(Compare, compare)),
    "evaluate": ("RUN FILE", "BLEU and chrF of a trained model on your pairs", console.subcommand(Evaluate, evaluate)),
    "run": ("RUN [TEXT ...]", "translates with a trained model; run --help for more", console.subcommand(Translate, translate)),
}


if __name__ == "__main__":
    console.run(lambda: console.run_subcommand(__doc__, SUBCOMMANDS))
