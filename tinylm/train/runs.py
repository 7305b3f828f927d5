"""Finding and loading run folders."""

from pathlib import Path
from typing import Any

from tinylm import backend
from tinylm.data.tokenizers import Tokenizer, from_json
from tinylm.errors import CheckpointError, DataError
from tinylm.models import LanguageModel, NgramLM, pretrained
from tinylm.nn import Module
from tinylm.train.checkpoints import load_arrays, read_arrays, read_json
from tinylm.train.config import TrainConfig, build_model
from tinylm.train.run_folder import newest_whole


def new_folder(kind: str, data: str, parent: Path = Path("runs")) -> Path:
    """runs/<kind>-<data>, with -2, -3, ... where that exists."""
    name = f"{kind}-{Path(data).stem or 'data'}"
    folder, n = parent / name, 2
    while folder.exists():
        folder, n = parent / f"{name}-{n}", n + 1
    return folder


def read_config(folder: Path) -> tuple[TrainConfig, Tokenizer]:
    """(config, tokenizer) of a run folder. Errors: CheckpointError when it is none."""
    if not folder.is_dir():
        raise CheckpointError(f"no run folder {str(folder)!r}")
    record: Any = read_json(folder / "config.json")
    if isinstance(record, dict) and "task" in record:
        raise CheckpointError(f"the run in {folder} is not a language model's: it was trained for {str(record['task'])[:40]}")
    if not isinstance(record, dict) or set(record) != {"train", "tokenizer"}:
        raise CheckpointError(f"{folder / 'config.json'} is not the config of a tinylm run")
    try:
        return TrainConfig.from_json(record["train"]), from_json(record["tokenizer"])
    except DataError as error:
        raise CheckpointError(f"{folder / 'config.json'} is damaged: {error}") from error


def load_weights(model: Module | NgramLM, folder: Path) -> None:
    """Fills the model from a finished or stopped run: from its model.safetensors, or from the newest whole
    checkpoint when it was stopped before writing one, the average of the weights before the weights.

    Errors: CheckpointError when the file is missing or damaged, or holds another model's weights.
    """
    path = folder / "model.safetensors"
    if path.exists():
        load_arrays(model, read_arrays(path)[0], path)
        return
    path, stored = newest_whole(folder, lambda path, arrays, _: (path, arrays))
    weights, averages = (
        {name.removeprefix(part): a for name, a in stored.items() if name.startswith(part)} for part in ("model.", "average.")
    )
    load_arrays(model, weights, path)
    if averages:
        load_arrays(model, averages, path, strict=False)  # tied weights and buffers have none of their own


def load_run(folder: Path, device: str = "cpu") -> tuple[LanguageModel | NgramLM, Tokenizer, TrainConfig | None]:
    """(model in evaluation mode, tokenizer, config) from a finished or stopped run, or from what
    `models.pretrained.find` takes: a Hugging Face folder, a GGUF file or `smollm2`, which have no config of ours.

    Errors: CheckpointError when the folder is no run, is damaged, or holds another model's weights;
    DeviceError for a device that is not to be had.
    """
    backend.device_namespace(device)
    if (place := pretrained.find(folder)) is not None:
        loaded, its_tokenizer = pretrained.load_pretrained(place)
        loaded.to(device)
        return loaded, its_tokenizer, None
    config, tokenizer = read_config(folder)
    model: LanguageModel | NgramLM
    if config.model == "ngram":
        model = NgramLM(tokenizer.vocab_size, config.order)
    else:
        model = build_model(config, tokenizer.vocab_size)
    load_weights(model, folder)
    if isinstance(model, LanguageModel):
        model.to(device)
        model.eval()
    return model, tokenizer, config
