"""Names that other programs have for our options, and the option that a word which is none was meant to be."""

from collections.abc import Collection, Iterator

from tinylm.checks import nearest

# What people call an option, and the options that it may be here, the likeliest first: one command has the one, another the other.
CALLED = {
    "lr": "learning-rate learningrate rate step-size eta0",
    "min-lr": "min-learning-rate final-lr end-lr lr-min",
    "steps epochs": "epoch epochs num-epochs n-epochs num-train-epochs max-epochs passes iters iterations n-iter max-iters max-steps "
    "num-steps train-steps n-steps total-steps updates",
    "schedule-steps": "lr-decay-iters decay-steps lr-decay-steps schedule-length t-max",
    "warmup": "warmup-steps warmup-iters num-warmup-steps warm-up lr-warmup",
    "batch-size batch-tokens": "bs batch batchsize minibatch minibatch-size per-device-train-batch-size",
    "block-size": "seq-len seq-length sequence-length seqlen max-len max-length max-seq-len max-seq-length context context-length "
    "ctx n-ctx window bptt",
    "n-hidden hidden": "hidden-size hidden-dim hidden-units n-inner d-ff ffn-dim dim-feedforward intermediate-size mlp-dim units",
    "n-embd width": "d-model dim embed-dim emb-dim embedding-dim embedding-size embed-size n-embed emsize model-dim hidden-width",
    "n-layer layers": "num-layers n-layers layer depth num-hidden-layers nlayers",
    "n-head heads": "num-heads n-heads head num-attention-heads nhead",
    "n-kv-head": "num-kv-heads num-key-value-heads n-kv-heads kv-heads",
    "bpe-size": "vocab-size vocabulary-size n-vocab merges num-merges bpe-codes",
    "min-count": "min-freq min-frequency min-df",
    "clip": "grad-clip gradient-clipping clip-grad max-grad-norm max-norm clip-norm clip-gradient",
    "weight-decay": "wd l2 decay l2-penalty",
    "accumulate": "accumulation gradient-accumulation gradient-accumulation-steps grad-accum accumulation-steps",
    "checkpoint-activations": "gradient-checkpointing recompute activation-checkpointing",
    "dropout": "drop drop-rate dropout-rate dropout-prob p-drop",
    "beta1": "adam-beta1 b1",
    "beta2": "adam-beta2 b2",
    "optimizer": "optim optimiser",
    "label-smoothing": "smoothing label-smooth",
    "patience": "early-stopping early-stop early-stopping-patience",
    "ema": "ema-decay weight-averaging",
    "seed": "random-seed random-state manual-seed rng-seed",
    "device": "gpu cuda use-cuda gpus cpu",
    "precision": "dtype fp16 bf16 amp mixed-precision float16 bfloat16",
    "out": "output output-dir out-dir output-folder save-dir save-to save logdir log-dir run-dir model-dir o",
    "json-out": "json",
    "json": "jsonl json-lines as-json",
    "html-out html page": "html html-file",
    "resume": "continue resume-from resume-from-checkpoint checkpoint load restart",
    "init": "pretrained init-from from-pretrained base-model finetune fine-tune",
    "lora-rank": "lora-r lora adapter-rank",
    "data file": "dataset corpus train-file train-data training-data input input-file data-path data-dir data-file text path filename",
    "valid": "val validation dev valid-file validation-file val-file val-data dev-file eval-file",
    "test": "test-file test-data",
    "eval-every": "eval-interval eval-steps validate-every val-every validation-interval valid-every evaluate-every",
    "eval-tokens": "eval-iters max-eval-tokens",
    "log-every": "log-interval logging-steps print-every report-every log-steps",
    "save-every": "save-interval save-steps checkpoint-every checkpoint-interval",
    "sample-every": "sample-interval generate-every sample-steps",
    "keep": "save-total-limit keep-last",
    "members": "ensemble ensemble-size n-models",
    "config": "config-file settings cfg conf",
    "tokens": "max-new-tokens max-tokens num-tokens n-tokens new-tokens length generate-length",
    "temperature": "temp",
    "samples": "num-samples num-return-sequences n-samples",
    "prompt": "start prefix",
    "beams": "num-beams beam beam-size beam-width",
    "alpha": "length-penalty lenpen",
    "n-best": "nbest num-hypotheses",
    "lower": "lowercase lower-case uncased do-lower-case",
    "no-repeat-ngram": "no-repeat-ngram-size",
    "repetition-penalty": "repeat-penalty",
    "order": "n ngram ngram-order",
    "models": "model",
    "model": "arch architecture model-type model-name",
    "dry-run": "test-run debug",
}  # fmt: skip


def meant(option: str, known: Collection[str]) -> str:
    """Returns "; did you mean '--lr'?" for an option that is none: the known one that other programs call so, else the one that is spelt
    most like it; "" if there is neither. Both with their hyphens."""
    called = [name for name in _options_called(option.removeprefix("--")) if name in known]
    return f"; did you mean {called[0]!r}?" if called else nearest(option, known)


def _options_called(name: str) -> Iterator[str]:
    """Yields the options that other programs call by this name. "--no-" before it makes no other name of it."""
    plain = name.removeprefix("no-").replace("_", "-").lower()
    for options, names in CALLED.items():
        if plain in names.split():
            yield from (f"--{option}" for option in options.split())
