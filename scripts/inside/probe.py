"""explain.py probe: what a linear classifier reads off the activations."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from inside.readings import Question, answer, picture, refuse_other_tasks
from tinylm import explain
from tinylm.data.corpora import load_text
from tinylm.data.corpus import excerpt
from tinylm.errors import ConfigError
from tinylm.models import LanguageModel
from tinylm.train import load_run
from tinylm.train.tasks.language_model_config import corpus_of

_TRIAL = 600  # tokens of a dry run


@dataclass(frozen=True)
class LinearProbe(Question):
    """Prints how well a linear classifier tells a label of each character from the activations of a language model, layer
    by layer, beside a control task with random labels; and draws it. A probe needs some thousand tokens: by default the
    beginning of the text that validated the run."""

    text: Annotated[str, tyro.conf.Positional] = ""
    """the text that the model reads, in blocks of its context"""
    data: str = ""
    """instead, the beginning of a shipped corpus, a file, or a folder of .txt files"""
    label: str = "word-position"
    """word-position: which letter of its word; next-is-space; previous: the character before; line-position: how
    far it is from the line break"""
    name: str | None = None
    """the activations, a name or a pattern such as 'h.*.attn.out'; by default the embedding and what each layer leaves"""
    tokens: int = 4096
    """how many tokens of the text to read, at most"""
    seed: int = 0
    """of the random labels"""


def probe(arguments: LinearProbe) -> None:
    refuse_other_tasks(arguments, "target")
    if arguments.text and arguments.data:
        raise ConfigError("give a text or --data, and not both")
    if arguments.tokens < 1:
        raise ConfigError(f"tokens is {arguments.tokens}: expected at least 1")
    model, tokenizer, config = load_run(arguments.run, arguments.device, arguments.weights)
    if not isinstance(model, LanguageModel):
        raise ConfigError("an n-gram model counts: it has no activations")
    text = arguments.text or (load_text(arguments.data) if arguments.data else "")
    if not text:
        if config is None:
            raise ConfigError(f"{arguments.run} has no text that validated it: give a text or --data")
        text = "".join(excerpt(iter(corpus_of(config).validation), 0, 16 * arguments.tokens))
    count = min(arguments.tokens, _TRIAL) if arguments.dry_run else arguments.tokens
    text = tokenizer.decode(tokenizer.encode(text[: 16 * count])[:count].tolist())
    found = explain.probe(model, tokenizer, text, arguments.name, arguments.label, seed=arguments.seed, device=arguments.device)
    answer(arguments, {"probe": found, "selectivity": found.selectivity}, found)
    picture(arguments, "probe.png", "", explain.draw_probe(found))
