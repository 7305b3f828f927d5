"""Translation: pairs of sentences, runs that train a translator on them, and translators from their run folders."""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.data.batching import padded
from tinylm.data.copying import copied_pairs
from tinylm.data.corpora import shown_sources
from tinylm.data.pairs import Batch, BucketedBatches, Pair, Pairs, Vocabulary, make_batch
from tinylm.decode.beams import Hypothesis, beam_search, check_beams, greedy
from tinylm.decode.constraints import check_no_repeat
from tinylm.decode.stepping import evaluation_mode
from tinylm.engine.devices import device_namespace, to_device
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, DataError
from tinylm.models.translation_baselines import WordLexicon, words_of
from tinylm.models.translator import TranslationModel
from tinylm.optim.schedules import StoredCosine
from tinylm.train.loop import Training
from tinylm.train.run_folder import never_started
from tinylm.train.tasks.data_note import DATA_FILE, check_data, data_note, keep_note, source_of
from tinylm.train.tasks.loading import Checkpoint, load, read_config
from tinylm.train.tasks.resuming import goes_on, settings_to_go_on
from tinylm.train.tasks.task import Carried, MicroBatch, Task
from tinylm.train.tasks.translation_config import (
    TranslationConfig,
    build_translation_optimizer,
    build_translator,
    check_training_fits,
    vocabulary_of,
)

LEXICON_PAIRS = 5000  # spread evenly over the training pairs, from which the translations of words are learned, in seconds
SURE = 0.5  # the least t(target word | source word) of a translation that a placeholder may replace
COMMON = 0.05  # of the pairs; a word that more of them have, such as "and", does not stand where a name would
REPEATS = 3  # in a translation, a sequence of tokens stands at most so often in a row: "Holy, holy, holy"

EncodedPair = tuple[np.ndarray, np.ndarray]  # ids of a source and a target


@dataclass
class Translation(Task):
    """Pairs of sentences in batches, a translator, and the mean of -log p of the targets' tokens as the loss."""

    config: TranslationConfig
    model: TranslationModel
    batches: Any  # batches[k] is a Batch
    vocabulary: Vocabulary
    validation: Sequence[EncodedPair] = ()
    bytes_per_token: float = float("nan")  # of the validation part's targets
    too_long: int = 0  # pairs that were left out
    copies: int = 0  # further training pairs, with placeholders
    files: dict[str, Any] = field(default_factory=dict)

    def build_updates(self) -> None:
        c = self.config
        self.optimizer = build_translation_optimizer(c, self.model)
        self.schedule = StoredCosine(c.lr, c.min_lr, c.warmup, c.schedule_steps)

    def micro_batches(self, k: int) -> list[MicroBatch]:
        return [MicroBatch(self.batches[k], slice(None), 1.0)]

    def loss(self, batch: Batch, carried: Carried | None) -> tuple[Tensor, Carried | None]:
        return self.batch_loss(batch, label_smoothing=self.config.label_smoothing), None

    def batch_loss(self, batch: Batch, **settings: Any) -> Tensor:
        """Returns the cross-entropy of a batch's targets, without padding; settings: those of `ops.cross_entropy`."""
        on_device = functools.partial(to_device, device=self.config.device)
        source, target_in, target_out = (Tensor(on_device(x.copy())) for x in (batch.source, batch.target_in, batch.target_out))
        logits = self.model(source, batch.source_lengths, target_in)
        return ops.cross_entropy(logits, target_out, ignore_index=self.vocabulary.pad, **settings)

    def validation_loss(self) -> float:
        """Returns the mean of -log p of every target token of the validation part, ends included, in nats, not smoothed."""
        ordered = sorted(self.validation, key=lambda pair: len(pair[1]))
        total = tokens = 0.0
        with evaluation_mode(self.model):
            for start in range(0, len(ordered), 32):
                batch = make_batch(ordered[start : start + 32], self.vocabulary)
                total += self.batch_loss(batch, reduction="sum").item()
                tokens += batch.target_tokens
        return total / tokens

    def sample(self, random: np.random.Generator) -> str:
        """Returns greedy translations of the first sentences of the validation part, each below its source."""
        translator = SentenceTranslator(self.model, self.vocabulary, self.config.block_size, self.config.device)
        texts = [text for source, _ in self.validation[:3] if (text := self.vocabulary.decode(source)).strip() and translator.fits(text)]
        return "\n".join(f"{text}\n→ {translator.translate(text, beams=1)}" for text in texts)

    def tokens_between(self, first: int, stop: int) -> int:
        return self.batches.target_tokens(first, stop)

    def batch_arrays(self, k: int) -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in vars(self.batches[k]).items()}

    def about(self) -> tuple[str, str]:
        if DATA_FILE not in self.files:
            return self.config.model, ""
        pairs = f"{len(self.batches.pairs):,} pairs for training, {len(self.validation):,} for validation"
        return self.config.model, f"{source_of(self.files)}{pairs}, {self.vocabulary.size:,} kinds of tokens"


class TranslationRun(Training):
    """A translator's training run in a folder: made fresh, or resumed from its newest whole checkpoint."""

    task: Translation

    def __init__(
        self, config: TranslationConfig, folder: str | Path, pairs: Pairs, resume: bool = False, accept_new_data: bool = False,
        exist_ok: bool = False,
    ) -> None:  # fmt: skip
        """accept_new_data: resume on pairs that are not those the run was trained on, which is otherwise a DataError.
        exist_ok: go on with a run that the folder holds, as that of a language model does, and begin one where there is none.

        Raises CheckpointError when the folder holds a run already; DataError when no pair is short enough; ConfigError."""
        folder = Path(folder)
        device_namespace(config.device)
        if exist_ok and not resume and goes_on(folder):
            resume, config = True, settings_to_go_on(folder, config)
        resume = resume and not never_started(folder)
        generator = Generator(config.seed)
        note = data_note(pairs, shown_sources(config.data))
        if resume:
            check_data(folder, note, accept_new_data)
        else:
            config.check_new()
        if resume:
            vocabulary = read_translation(folder)[1]
        else:
            vocabulary = Vocabulary.train(pairs.train, config.bpe_size, config.copy > 0, config.lower)
        train, too_long = encode_fitting(vocabulary, pairs.train, config.block_size)
        validation, left_out = encode_fitting(vocabulary, pairs.validation, config.block_size)
        validation = first_pairs(validation, config.eval_tokens)
        if not train or not validation:
            raise DataError(f"no pair of the training or validation part has at most block_size {config.block_size} tokens on each side")
        if not resume:
            vocabulary.length_ratio = float(np.median([len(target) / len(source) for source, target in train]))
        copies = encode_copies(vocabulary, pairs.train, config)
        scored = sum(len(target) for _, target in validation)
        bytes_per_token = sum(len(vocabulary.decode(t).encode("utf-8")) for _, t in validation) / scored
        batches = BucketedBatches([*train, *copies], config.batch_tokens, config.seed, vocabulary)
        check_training_fits(config, vocabulary.size)
        with drawing_from(generator):
            model = build_translator(config, vocabulary.size)
        if config.embedding == "latent" and not resume:
            start_embedding(model, [np.concatenate(pair) for pair in train], config.seed)
        record = {"task": config.task, "train": config.to_json(), "tokenizer": vocabulary.tokenizer.to_json()}
        record["vocabulary"] = vocabulary.to_json()
        files = {DATA_FILE: note, "config.json": record}
        task = Translation(config, model, batches, vocabulary, validation, bytes_per_token, too_long + left_out, len(copies), files)
        super().__init__(task, folder, generator=generator)
        self.open(resume, take_over=exist_ok)
        if resume:
            keep_note(folder, note, self.progress.step)


def encode_fitting(vocabulary: Vocabulary, pairs: Sequence[Pair], block_size: int) -> tuple[list[EncodedPair], int]:
    """Returns (the ids of the pairs that fit into a block on both sides, how many do not)."""
    encoded = [(vocabulary.encode(source), vocabulary.encode(target)) for source, target in pairs]
    fitting = [pair for pair in encoded if max(map(len, pair)) <= block_size]
    return fitting, len(encoded) - len(fitting)


def first_pairs(pairs: list[EncodedPair], tokens: int) -> list[EncodedPair]:
    """Returns the first pairs, which together have at most so many target tokens, but at least one pair; all for tokens = 0."""
    ends = np.cumsum([len(target) for _, target in pairs])
    return pairs[: max(1, int((ends <= tokens).sum()))] if tokens else pairs


def encode_copies(vocabulary: Vocabulary, pairs: Sequence[Pair], config: TranslationConfig) -> list[EncodedPair]:
    """Returns the ids of the further pairs that teach copying, without those longer than a block or a batch; none for copy 0."""
    if not pairs or vocabulary.known is None:
        return []
    some = pairs[:: -(-len(pairs) // LEXICON_PAIRS)]
    counts = Counter(word for source, _ in some for word in {*words_of(source)})
    lexicon = {word: target for word, target in WordLexicon(some).likely(SURE).items() if counts[word] <= max(COMMON * len(some), 20)}
    made = copied_pairs(pairs, lexicon, config.copy, config.seed)
    encoded = [(vocabulary.encode(*source), vocabulary.encode(*target)) for source, target in made]
    most = config.block_size, min(config.block_size, config.batch_tokens)
    return [(source, target) for source, target in encoded if len(source) <= most[0] and len(target) <= most[1]]


def start_embedding(model: TranslationModel, documents: Sequence[np.ndarray], seed: int) -> None:
    """Gives the tokens of the training pairs their latent vectors, of length 1; others keep their random ones."""
    from tinylm.train.tasks.latent_semantics import latent_embedding  # with SciPy, which nothing else that trains or loads a run needs

    weight = model.embedding.weight
    tokens, width = weight.shape
    vectors = latent_embedding(documents, tokens, width, seed)
    weight.data[...] = np.where(vectors.any(axis=1, keepdims=True), vectors, weight.data)


def read_translation(folder: Path) -> tuple[TranslationConfig, Vocabulary]:
    """Returns (settings, vocabulary) of a translator's run folder. Raises CheckpointError as `read_config` does."""
    config, tokenizer = read_config(folder, TranslationConfig)
    return config, vocabulary_of(folder, config, tokenizer)


@dataclass(frozen=True)
class Translated:
    """A translation, its log p in nats, and its score: log p divided by `length_penalty`."""

    text: str
    score: float
    log_probability: float


class SentenceTranslator:
    """A trained translator from text to text."""

    def __init__(self, model: TranslationModel, vocabulary: Vocabulary, block_size: int, device: str = "cpu") -> None:
        self.model, self.vocabulary, self.block_size, self.device = model, vocabulary, block_size, device

    def fits(self, text: str) -> bool:
        """Whether a source is not longer than the block."""
        return len(self.vocabulary.read(text)[0]) <= self.block_size

    def translate(self, text: str, beams: int = 4, alpha: float = 0.6, no_repeat_ngram: int = 0) -> str:
        """Returns the best translation that `translations` finds of a sentence."""
        return self.translations(text, 1, beams, alpha, no_repeat_ngram)[0].text

    def translations(self, text: str, best: int, beams: int = 4, alpha: float = 0.6, no_repeat_ngram: int = 0) -> list[Translated]:
        """Returns at most `best` different translations of a sentence by beam search, in order of falling score; greedy for one beam.

        Each has the spans that are copied, exactly once. It has at most the tokens of `Vocabulary.most_tokens`, and no sequence of
        tokens more than three times in a row; both do not bind the first runs. A text of which nothing is left to translate is its own
        translation. Meanwhile the model is in evaluation mode. Raises DataError for an empty source or one longer than the block;
        ConfigError for more translations than beams; what `beam_search` raises.
        """
        if not text.strip():
            raise DataError("there is no text to translate")
        check_beams(beams, best, alpha)
        check_no_repeat(no_repeat_ngram)
        if best > beams:
            raise ConfigError(f"the {best} best translations of {beams} beams: expected at least as many beams")
        v = self.vocabulary
        ids, copied = v.read(text)
        if len(ids) > self.block_size:
            raise DataError(f"the source has {len(ids)} tokens, its end included: expected at most {self.block_size} (block_size)")
        if copied and not any(c.isalnum() for c in v.decode(ids)):
            return [Translated(text, 0.0, 0.0)]
        source, lengths = padded([ids], v.pad)
        with evaluation_mode(self.model):
            state = self.model.encode(Tensor(to_device(source, self.device)), lengths)
        required, most = v.required(copied), v.most_tokens(len(ids))
        settings: dict[str, Any] = {
            "bos": v.bos, "eos": v.eos, "max_tokens": self.block_size if most is None else min(most, self.block_size),
            "forbidden": [v.pad, v.bos, *(i for i, n in required.items() if not n)], "required": {i: n for i, n in required.items() if n},
            "no_repeat_ngram": no_repeat_ngram, "most_repeats": 0 if most is None else REPEATS, "device": self.device,
        }  # fmt: skip
        if beams == 1:
            found = [greedy(self.model, state, **settings)]
        else:
            found = beam_search(self.model, state, beams=beams, alpha=alpha, best=best, **settings)
        texts: dict[str, Hypothesis] = {}
        for hypothesis in found:  # different tokens may spell the same text: the best of them counts
            texts.setdefault(v.decode(hypothesis.tokens, copied), hypothesis)
        return [Translated(text, h.score(alpha), h.log_probability) for text, h in texts.items()][:best]


def load_translator(folder: str | Path, device: str = "cpu", checkpoint: Checkpoint = "last") -> SentenceTranslator:
    """Returns the translator of a finished or stopped run, as it was last or at its best validation. Raises CheckpointError as `load`
    does."""
    folder = Path(folder)
    model, tokenizer, config = load(folder, TranslationConfig, device, checkpoint)
    return SentenceTranslator(model, vocabulary_of(folder, config, tokenizer), config.block_size, device)


def score(texts: Sequence[str], references: Sequence[str], lower: bool = False) -> dict[str, float]:
    """Returns corpus BLEU (13a tokens) and chrF, both from 0 to 100. The case counts, unless both sides are to be read in lower case."""
    import sacrebleu

    if lower:
        texts, references = [text.lower() for text in texts], [text.lower() for text in references]
    return {
        "bleu": sacrebleu.corpus_bleu(list(texts), [list(references)]).score,
        "chrf": sacrebleu.corpus_chrf(list(texts), [list(references)]).score,
    }
