"""Trains a language model, writes a run folder, and prints a sample of what the model has learned.

By default it trains a character GPT on the shipped Tiny Shakespeare, on the CPU, for a few minutes.
"""

import contextlib
import dataclasses
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from support import console
from support.config_files import config_file
from support.display import train_watched
from support.estimate_tables import show_estimate
from support.new_runs import gathered, new_run
from support.resuming import refuse_changes, refuse_without_resume, value_of
from support.run_folders import folder_or_temporary, named, say_if_finished
from support.texts import warn_of_unlike_parts
from support.wording import errors_in_options

from tinylm import __version__
from tinylm.data import Corpus
from tinylm.data.corpora import shown_sources
from tinylm.decode.scoring import line_break
from tinylm.decode.texts import stream_text
from tinylm.engine.devices import device_namespace
from tinylm.engine.products import products
from tinylm.engine.random_keys import drawing_from
from tinylm.errors import ConfigError
from tinylm.train import Counting, Run, TrainConfig, default_config
from tinylm.train.distributed import MPIRanks, Ranks, refuse_lone_ranks
from tinylm.train.run_folder import new_folder, refuse_run
from tinylm.train.tasks.data_note import token_counts
from tinylm.train.tasks.fine_tuning import fine_tuning_config
from tinylm.train.tasks.language_model_config import check_settings, check_training_fits, corpus_of
from tinylm.train.tasks.loading import read_config, tokenizer_of
from tinylm.train.tasks.own_test import with_test
from tinylm.train.tasks.presets import preset
from tinylm.train.tasks.resuming import FREE_ON_RESUME
from tinylm.train.tensorboard import summary_writer


@dataclass(frozen=True)
class Arguments(TrainConfig):
    """Trains a language model. The defaults train a character GPT of 0.8 million parameters on Tiny Shakespeare;
    '--model lstm --help' shows the defaults of another model. A run folder holds config.json, metrics.jsonl,
    summary.json, model.safetensors and checkpoints/."""

    preset: Literal["best-10min", "best-20min"] | None = None
    """start from this recipe's settings instead of the model's defaults; other options change them"""
    config: Path | None = None
    """take settings from this file: TOML, such as lr = 0.001, or the config.json of a run; options beside it win"""
    out: Path | None = None
    """the run folder; by default runs/<model>-<data>"""
    resume: Path | None = None
    """continue the run in this folder, with its settings; --steps may be raised. All numbers are those of a run that never stopped, to
    the last bit, except for the seconds, the tokens per second and the memory"""
    accept_new_data: bool = False
    """with --resume: go on although the data are no longer those the run was trained on; the run notes it"""
    tensorboard: bool = False
    """also write the metrics for TensorBoard, to tensorboard/ in the run folder"""
    distributed: bool = False
    """train with all processes that mpiexec has started (mpiexec -n 2 python scripts/train.py --distributed): each takes
    its rows of every batch, on its part of the cores or on its own GPU"""
    dry_run: bool = False
    """three steps on the first 20,000 characters, in a temporary folder"""
    estimate: bool = False
    """instead of training, make the first steps and print how much time and memory the run will take, and what more data
    or another size would change; no run folder is written"""
    scaling: bool = False
    """instead, train a few smaller sizes on a few amounts of the data, fit how the loss falls with both, and print what to
    expect of this run, of more data and of a larger model. --out is the folder for all of them, by default
    runs/scaling-<model>-<data>; runs that are already finished there are not repeated"""
    target: float | None = None
    """with --scaling: also say how much data, what size and how many hours this validation loss takes, in nats per token"""


def parse(argv: list[str]) -> Arguments:
    """Returns the command line as a record, with the settings of --config."""
    file = config_file(Arguments, TrainConfig, argv)
    with file.placing_errors():
        return parse_options(file.before(argv))


def parse_options(argv: list[str]) -> Arguments:
    """Returns the command line as a record. The defaults are those of the model, or with --resume the run's own settings."""
    argv = gathered(argv)
    resumed, model, recipe, init = (value_of(flag, argv) for flag in ("--resume", "--model", "--preset", "--init"))
    if resumed is None:
        if init and recipe:
            raise ConfigError("--init and --preset do not go together: a preset trains a model from the beginning")
        if init:
            base = fine_tuning_config(init, adapters=value_of("--lora-rank", argv) not in (None, "0"))
        else:
            base = preset(recipe) if recipe is not None else default_config(model or "gpt")
        arguments = console.parse(Arguments, args=argv, default=Arguments(**base.to_json()))
        if arguments.model != base.model and init:
            raise ConfigError(f"--model {arguments.model} and --init {init} do not go together: there is a {base.model}")
        if arguments.lora_rank and not init:
            raise ConfigError(f"--lora-rank {arguments.lora_rank} needs --init: adapters correct a model that is trained already")
        if arguments.model != base.model:
            raise ConfigError(f"--model {arguments.model} and --preset {recipe} do not go together: the preset trains a {base.model}")
        return new_run(arguments, argv)
    folder = Path(resumed)
    saved, _ = read_config(folder, TrainConfig)
    arguments = console.parse(Arguments, args=argv, default=Arguments(**saved.to_json(), resume=folder))
    refuse_changes(arguments, saved.to_json(), FREE_ON_RESUME)
    if arguments.preset is not None:
        raise ConfigError("--preset and --resume do not go together: a resumed run keeps its own settings")
    if saved.model == "ngram" and (folder / "summary.json").exists():
        raise ConfigError(f"the run in {folder} counts n-grams, which is done in one go: there is nothing to resume")
    return arguments


def main() -> int:
    if "--distributed" not in sys.argv[1:]:
        refuse_lone_ranks()
        return work(parse(sys.argv[1:]), Ranks())
    with MPIRanks() as ranks, errors_in_options(), contextlib.ExitStack() as stack:
        if ranks.rank:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        arguments = parse(sys.argv[1:])
        given = {f"--{name.replace('_', '-')}": value for name, value in vars(arguments).items() if name != "device"}
        ranks.agree({"tinylm's version": __version__, **given})
        if arguments.model == "ngram":
            raise ConfigError("--distributed: n-grams are counted by one process")
        ranks.share_cores()
        return work(dataclasses.replace(arguments, device=ranks.device(arguments.device)), ranks)


def work(arguments: Arguments, ranks: Ranks) -> int:
    refuse_without_resume(arguments)
    config = TrainConfig(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(TrainConfig)})
    device_namespace(config.device)
    if arguments.tensorboard:
        summary_writer()  # if it is missing, that is reported before anything is written
    if config.model != "ngram" and not (config.init or arguments.estimate or arguments.scaling):
        check_training_fits(config, 1, ranks.size)  # with a single token, so as to refuse it before a large text is read
    if arguments.resume is None:
        check_settings(config)
    if arguments.scaling:
        refuse_scaling_with(arguments, ranks)
    elif arguments.target is not None:
        raise ConfigError(f"--target {arguments.target:g} needs --scaling, whose runs tell what a loss takes")
    elif arguments.out is not None and not (arguments.dry_run or arguments.estimate or ranks.rank):
        refuse_run(arguments.out)
    corpus: Corpus = ranks.broadcast(corpus_of(config) if ranks.rank == 0 else None)
    if ranks.rank == 0:
        warn_of_unlike_parts(corpus)
    text: str | Corpus = corpus
    tokenizer = None
    if arguments.dry_run:
        config, text = dataclasses.replace(config, steps=3, log_every=1), corpus.beginning(20_000)
    if arguments.estimate:
        return show_estimate(config, text, arguments.resume if not arguments.dry_run else None, ranks)
    if arguments.scaling:
        from support.scaling_report import show_scaling  # matplotlib, whose memory no other run needs

        with folder_or_temporary(arguments.out or new_folder(f"scaling-{config.model}", config.data), arguments.dry_run) as folder:
            return show_scaling(config, text, folder, arguments.target)
    if resumes(arguments):
        _, tokenizer = read_config(arguments.resume, TrainConfig)
    with contextlib.ExitStack() as stack:
        mine = None
        if ranks.rank == 0:
            chosen = arguments.resume or arguments.out or new_folder(Path(config.init).stem or config.model, config.data)
            mine = stack.enter_context(folder_or_temporary(chosen, arguments.dry_run))
        folder = ranks.broadcast(mine)
        if config.model == "ngram":
            return count(config, folder, text, tokenizer, arguments)
        run = Run(config, folder, text, tokenizer, resumes(arguments), ranks, arguments.accept_new_data)
        return train(run, text, arguments)


def refuse_scaling_with(arguments: Arguments, ranks: Ranks) -> None:
    """Raises ConfigError for options that do not go together with --scaling."""
    if arguments.target is not None and not 0 < arguments.target < math.inf:
        raise ConfigError(f"--target {arguments.target:g}: expected a loss above 0, in nats per token")
    if arguments.model == "ngram":
        raise ConfigError("--scaling and --model ngram do not go together: an n-gram model has no size of its own")
    if arguments.resume is not None:
        raise ConfigError("--scaling and --resume do not go together: give --out again, and the runs that are done are not repeated")
    if ranks.size > 1:
        raise ConfigError("--scaling trains with one process: leave out --distributed")


def introduce(run: Run | Counting, text: str | Corpus) -> None:
    config, task = run.config, run.task
    print(f"{config.model} on {shown_sources(config.data)}: {token_counts(task.tokenizer, task.train_ids, task.val_ids)}")
    if isinstance(text, Corpus):
        print(text.summary())
    if note := task.unknown.note():
        print(f"validation part: {note}")


def conclude(run: Run | Counting, summary: dict[str, Any], text: str | Corpus) -> None:
    """Prints the result and a sample."""
    part = f"the first {len(run.task.val_ids):,} tokens of the split" if run.config.eval_tokens else "the whole split"
    print(
        f"validation loss {summary['val_loss']:.4f} nats/token over {part} ({summary['val_nats_per_byte']:.4f} nats/byte), "
        f"{summary['parameters']:,} parameters, {summary['train_seconds']:.0f} s of training, {summary['tokens_per_second']:,.0f} tokens/s"
    )
    if note := run.task.unknown.note():
        print(note)
    if isinstance(text, Corpus) and text.likeness.unlike:
        print("this loss says little about the model: the validation part is unlike the training part, as the warning at the start says")
    if "test_loss" in summary:
        of = f"over the {summary['test_tokens']:,} tokens of {run.config.test} ({summary['test_nats_per_byte']:.4f} nats/byte)"
        print(f"test loss {summary['test_loss']:.4f} nats/token {of}")
    print("a sample:", flush=True)
    start = line_break(run.task.tokenizer).tolist() or run.task.train_ids[:1].tolist()
    for piece in stream_text(run.model, run.task.tokenizer, start, 300, ignore_ends=True, device=run.config.device):
        print(piece, end="", flush=True)
    print()


def resumes(arguments: Arguments) -> bool:
    """Whether a run goes on in its folder; a dry run with its settings does not."""
    return arguments.resume is not None and not arguments.dry_run


def count(config: TrainConfig, folder: Path, text: str | Corpus, tokenizer: Any, arguments: Arguments) -> int:
    run = Counting(config, folder, text, tokenizer, resumes(arguments))
    introduce(run, text)
    print(named(folder, arguments.dry_run), flush=True)
    conclude(run, with_test(run.folder, run.train(), run.model, run.task.tokenizer, text, config), text)
    return 0


def train(run: Run, text: str | Corpus, arguments: Arguments) -> int:
    folder, ranks = run.folder, run.state.ranks
    introduce(run, text)
    if run.config.extend_vocabulary:
        added = run.model.vocab_size - tokenizer_of(Path(run.config.init)).vocab_size
        print(f"{added:,} characters are added to the vocabulary of {run.config.init}")
    trained = sum(p.size for p in run.model.parameters() if p.requires_grad)
    some = "" if trained == run.model.num_parameters() else f", {trained:,} of them trained"
    print(f"{run.model.num_parameters():,} parameters{some}" + (f", {ranks.size} processes" if ranks.size > 1 else ""))
    later = "" if arguments.dry_run else f", --resume {folder} continues"
    print(f"{named(folder, arguments.dry_run)}; Ctrl-C stops after the current step{later}", flush=True)
    if resumes(arguments):
        say_if_finished(run, "; a larger --steps trains on")
    summary = train_watched(run, arguments.tensorboard and ranks.rank == 0)
    if summary is None:
        print(f"stopped at step {run.progress.step}" + (later and f"; continue with: {console.program()} --resume {folder}"))
        return 130
    with drawing_from(run.state.generator), products(run.config.precision):
        if ranks.rank == 0:
            summary = with_test(folder, summary, run.model, run.task.tokenizer, text, run.config)
        conclude(run, summary, text)
    return 0


if __name__ == "__main__":
    console.run(main)
