"""Writes a trained GPT or Llama for transformers or llama.cpp, or its low-rank adapters for PEFT."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from support import console

from tinylm.errors import ConfigError
from tinylm.files.gguf_writing import write_gguf
from tinylm.files.temporary_folders import whole_folder
from tinylm.models import GPT, Llama
from tinylm.nn.lora import adapter_arrays, merge
from tinylm.pretrained.gguf_export import gguf_contents
from tinylm.pretrained.model_export import save_adapters, save_pretrained
from tinylm.pretrained.model_loading import find_pretrained
from tinylm.pretrained.tokenizer_export import as_pretrained
from tinylm.train import TrainConfig, load_run
from tinylm.train.tasks.loading import read_config


@dataclass(frozen=True)
class Arguments:
    """Writes the model of a run as a Hugging Face folder: config.json, model.safetensors, tokenizer.json and
    tokenizer_config.json; or, if the name ends with .gguf, as one GGUF file with its tokenizer. For a run with
    --lora-rank it writes only the adapters, in PEFT's format: adapter_config.json and adapter_model.safetensors."""

    run: Annotated[Path, tyro.conf.Positional]
    """a run folder that 'train' wrote with --model gpt or llama, or with --init; a Hugging Face folder, a GGUF file, or
    smollm2"""
    out: Annotated[Path, tyro.conf.Positional]
    """the new folder, or the new file NAME.gguf"""
    merge: bool = False
    """add the adapters to the weights that they correct and write the whole model"""
    dry_run: bool = False
    """read the run, and write nothing"""


def main() -> None:
    arguments = console.parse(Arguments)
    run, out = arguments.run, arguments.out
    gguf = out.suffix == ".gguf"
    if not is_new(out) or (gguf and out.exists()):
        raise ConfigError(f"{out} exists already: expected a new {'file' if gguf else 'or an empty folder'}")
    model, tokenizer, config = load_run(run)
    if not isinstance(model, GPT | Llama):
        raise ConfigError(f"{run} holds a {type(model).__name__}, which transformers cannot open: expected a GPT or a Llama")
    adapted = bool(adapter_arrays(model))
    if arguments.merge and not adapted:
        raise ConfigError(f"--merge: {run} was not trained with --lora-rank, there are no adapters to merge")
    if gguf and adapted and not arguments.merge:
        raise ConfigError(f"{run} has adapters, and a GGUF file holds a whole model: --merge adds them to its weights")
    if arguments.merge:
        merge(model)
    # What cannot be written is reported before anything is.
    contents = gguf_contents(model, tokenizer) if gguf else None
    as_pretrained(tokenizer)
    if arguments.dry_run:
        print(f"would write {out}")
    elif contents is not None:
        write_gguf(out, *contents)
        print(f"written: {out}")
    elif adapted and not arguments.merge:
        assert config is not None  # a model from elsewhere has no adapters
        with whole_folder(out) as work:
            save_adapters(model, work, config.lora_rank, config.lora_alpha, config.init)
        print(f"written: {out}, the adapters alone; --merge writes the whole model")
        print(about_base(config))
    else:
        with whole_folder(out) as work:
            save_pretrained(model, work, tokenizer)
        print(f"written: {out}")


def is_new(folder: Path) -> bool:
    """Returns whether there is nothing at the path, or an empty folder. Raises ConfigError if that may not be read."""
    try:
        return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror or error}") from error


def about_base(config: TrainConfig) -> str:
    """Returns one line about where to get the model that the adapters correct."""
    place = find_pretrained(Path(config.init))
    if place is not None and place.is_dir():
        return f"they correct {config.init}"
    again = " --merge" if place is None and read_config(Path(config.init), TrainConfig)[0].lora_rank else ""
    return f"they correct {config.init}, which PEFT cannot open: {console.program()} {config.init} BASE{again}"


if __name__ == "__main__":
    console.run(main)
