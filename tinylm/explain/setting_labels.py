"""What the results and settings of a run are called for people, with their units, and which settings its model uses."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

RESULTS = {
    "val_loss": "validation loss (nats per token)",
    "val_nats_per_byte": "validation loss (nats per byte of text)",
    "val_tokens": "tokens of the validation part that are scored",
    "val_unknown": "of these, words that the vocabulary lacks",
    "val_spelling": "what their spelling adds (nats per token, in nats per byte alone)",
    "val_own_unknown": "of these, the text's own <unk>",
    "test_loss": "test loss (nats per token)",
    "test_nats_per_byte": "test loss (nats per byte of text)",
    "test_tokens": "tokens to test on",
    "best_val_loss": "best validation loss (nats per token)",
    "best_step": "step of the best validation",
    "steps": "steps trained",
    "stopped_early": "stopped early, since validation no longer improved",
    "accuracy": "accuracy on the test texts (fraction)",
    "naive_bayes_accuracy": "accuracy of naive Bayes on them, for comparison (fraction)",
    "tfidf_accuracy": "accuracy of TF-IDF with logistic regression on them, for comparison (fraction)",
    "majority_accuracy": "accuracy of always saying their most common label (fraction)",
    "macro_f1": "mean of the F1 of the classes",
    "log_loss": "log loss on the test texts (nats per text)",
    "calibration_error": "calibration error (mean gap between confidence and accuracy)",
    "temperature": "temperature that calibrates the probabilities",
    "train_texts": "texts to train on",
    "valid_texts": "texts to validate each member on",
    "test_texts": "texts to test on",
    "skipped_lines": "lines of the file that could not be used",
    "parameters": "parameters of the model",
    "train_seconds": "time spent in training (seconds)",
    "tokens_per_second": "speed of training (tokens per second)",
}

# What each setting is called; then the models that use it, if not all do.
_RECURRENT = "rnn lstm gru"
_LABELS: dict[str, tuple[str, str]] = {
    "model": ("model", ""),
    "data": ("trained on", ""),
    "valid": ("validated on", ""),
    "test": ("tested on", ""),
    "encoding": ("encoding of the text", ""),
    "init": ("weights it began with", ""),
    "extend_vocabulary": ("characters that these did not know are added", ""),
    "lora_rank": ("rank of the low-rank adapters", ""),
    "lora_alpha": ("scale of the adapters, multiplied by their rank", ""),
    "weights": ("matrices of the model under adapters", ""),
    "tokenizer": ("a token is", ""),
    "split": ("which of the five splits into training and test texts", ""),
    "folds": ("parts of the training texts, of which each member is validated on another", ""),
    "class_weights": ("how much a text of each class counts", ""),
    "min_count": ("rarest word kept (occurrences)", ""),
    "bpe_size": ("byte-pair pieces", ""),
    "copy": ("further pairs that teach copying, per pair", ""),
    "lower": ("everything in lower case, but for copies", ""),
    "block_size": ("context (tokens)", ""),
    "members": ("members of the ensemble (models)", ""),
    "n_layer": ("layers", ""),
    "layers": ("layers", "lstm transformer"),
    "n_head": ("attention heads per layer", "gpt llama transformer"),
    "heads": ("attention heads per layer", "transformer"),
    "n_kv_head": ("heads of keys and values per layer", "llama"),
    "rope_theta": ("base of the rotary positions", "llama"),
    "n_embd": ("width of the embeddings (features)", ""),
    "width": ("width of the embeddings (features)", "bag lstm transformer"),
    "n_hidden": ("width inside the feed-forward (features)", f"llama transformer {_RECURRENT}"),
    "hidden": ("width inside the feed-forward (features)", "lstm transformer"),
    "buckets": ("rows of the table that the word pairs share", "linear bag"),
    "nonlinearity": ("nonlinearity of the hidden state", "rnn"),
    "bias": ("biases in the layers", "gpt llama"),
    "order": ("longest piece of text that is counted (tokens)", "ngram"),
    "dropout": ("dropout (probability)", ""),
    "input_dropout": ("dropout of the embeddings (probability)", _RECURRENT),
    "word_dropout": ("dropout of whole words (probability)", "linear bag"),
    "dropout_ramp": ("steps over which dropout rises to its value", ""),
    "batch_size": ("batch (sequences per step)", ""),
    "batch_tokens": ("batch (target tokens per step, at most)", ""),
    "accumulate": ("parts that a batch is computed in", ""),
    "checkpoint_activations": ("activations computed again in the backward pass", "gpt llama transformer"),
    "epochs": ("epochs (times through the training texts)", ""),
    "label_smoothing": ("label smoothing (fraction of the probability)", ""),
    "embedding": ("what the embedding starts as", ""),
    "optimizer": ("optimizer", ""),
    "matrix_lr": ("highest learning rate of Muon", ""),
    "lr": ("highest learning rate of AdamW", ""),
    "min_lr": ("learning rate at the end", ""),
    "warmup": ("warmup (steps)", ""),
    "schedule_steps": ("step at which the learning rate reaches its end", ""),
    "steps": ("step to stop at", ""),
    "beta1": ("AdamW's decay of the mean gradient", ""),
    "beta2": ("AdamW's decay of the mean squared gradient", ""),
    "weight_decay": ("weight decay of matrices", ""),
    "clip": ("gradient clipped to the norm", ""),
    "ema": ("decay of the moving average of the weights", ""),
    "patience": ("validations without improvement before it stops", ""),
    "seed": ("seed of weights, batches and dropout", ""),
    "device": ("device", ""),
    "precision": ("operands of matrix products", ""),
    "log_every": ("steps between records", ""),
    "eval_every": ("steps between validations", ""),
    "eval_tokens": ("tokens of the validation part that are read, at most", ""),
    "save_every": ("steps between checkpoints", ""),
    "save_minutes": ("minutes between checkpoints, at most", ""),
    "keep": ("checkpoints kept", ""),
    "sample_every": ("steps between samples", ""),
}
_OF_RECURRENT = {  # what these are called there
    "n_hidden": "hidden units per layer",
    "hidden": "hidden units per layer and direction",
    "block_size": "tokens that a gradient goes back over",
}
_NGRAM = (  # counting needs no others
    "model", "data", "valid", "test", "encoding", "tokenizer", "min_count", "bpe_size", "order", "eval_tokens",
)  # fmt: skip
_OF_STEPS = ("best_val_loss", "best_step", "steps", "stopped_early")
_NONE_AT_ZERO = ("dropout_ramp", "ema", "patience", "save_minutes", "sample_every", "folds", "copy")
_PATHS = ("data", "valid", "test", "init")
_MODELS = {
    "gpt": "GPT", "llama": "Llama", "transformer": "Transformer", "rnn": "RNN", "lstm": "LSTM", "gru": "GRU", "ngram": "n-gram",
    "linear": "linear model of words and word pairs", "bag": "bag of words and word pairs",
}  # fmt: skip
_TOKENS = {"char": "a character", "word": "a word", "whitespace": "a word between spaces", "bpe": "a byte-pair piece"}


def result_rows(summary: Mapping[str, Any], train: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (label, value) of what summary.json holds of a run with these settings; counting has no best step."""
    for name, value in summary.items():
        if train.get("model") != "ngram" or name not in _OF_STEPS:
            yield RESULTS.get(name, _words(name)), _shown(name, value)


def setting_rows(train: Mapping[str, Any], task: str) -> Iterator[tuple[str, str]]:
    """Yields (label, value) of the settings that the model of a run uses, in the order of the table above. Of a path only its
    last part is shown."""
    order = [*(name for name in _LABELS if name in train), *(name for name in train if name not in _LABELS)]
    for name in order:
        if _used(name, train, task):
            yield _label(name, train, task), _shown(name, train[name])


def _label(name: str, train: Mapping[str, Any], task: str) -> str:
    if train.get("model") in _RECURRENT.split() and name in _OF_RECURRENT and task != "translation":
        return _OF_RECURRENT[name]
    return _LABELS[name][0] if name in _LABELS else _words(name)


def _used(name: str, train: Mapping[str, Any], task: str) -> bool:
    models = _LABELS.get(name, ("", ""))[1].split()
    if (models and train.get("model") not in models) or (train.get("model") == "ngram" and name not in _NGRAM):
        return False
    if task == "translation" and train.get("model") == "lstm" and name in ("n_head", "n_hidden"):
        return False
    if name == "min_count":
        return train.get("tokenizer", "word") == "word"
    if name == "bpe_size":
        return train.get("tokenizer", "bpe") == "bpe" and not train.get("init")
    if name == "matrix_lr":
        return train.get("optimizer") == "muon"
    if name in ("init", "valid", "test", "extend_vocabulary", "eval_tokens", "class_weights"):
        return bool(train[name])
    if name == "members":
        return train[name] != 1
    return bool(train.get("lora_rank")) if name.startswith("lora_") else True


def _shown(name: str, value: Any) -> str:
    if name in _NONE_AT_ZERO and not value:
        return "none"
    if value is None:
        return "not counted"
    if name == "tokenizer":
        return _TOKENS.get(value, str(value))
    if name == "model":
        return _MODELS.get(value, str(value))
    if name in _PATHS:
        return ", ".join(_last_part(str(each)) for each in (value if isinstance(value, list | tuple) else [value]))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if name.endswith("seconds") else f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _last_part(path: str) -> str:
    """Returns the last part of a path, since the folders of a machine belong to nobody else."""
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name or path


def _words(name: str) -> str:
    """Returns a name without label as words."""
    return name.replace("_", " ")
