"""Continues a prompt with a trained language model, streaming the text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import console
import tyro

import tinylm
from tinylm.decode import generate
from tinylm.train import load_run


@dataclass(frozen=True)
class Arguments:
    """Continues a prompt with the model of a run folder. The prompt is printed too."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder that scripts/train.py wrote"""
    prompt: str = "\n"
    """the text to continue; its characters must be known to the model"""
    tokens: int = 500
    """how many tokens to add"""
    temperature: float = 0.8
    """below 1 the likely tokens become likelier, above 1 rarer ones do"""
    top_k: int | None = None
    """draw from the K likeliest tokens only"""
    top_p: float = 1.0
    """draw from the fewest tokens whose probabilities reach P"""
    seed: int = 0
    """the same seed gives the same text"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    dry_run: bool = False
    """add three tokens only"""


def main() -> None:
    arguments = tyro.cli(Arguments, description=Arguments.__doc__)
    model, tokenizer, _ = load_run(arguments.run, arguments.device)
    ids = tokenizer.encode(arguments.prompt).tolist()
    tinylm.manual_seed(arguments.seed)
    stream = generate(
        model, ids, 3 if arguments.dry_run else arguments.tokens, device=arguments.device,
        temperature=arguments.temperature, top_k=arguments.top_k, top_p=arguments.top_p,
    )  # fmt: skip
    first = next(stream, None)  # a bad setting is reported before anything is printed
    print(arguments.prompt, end="", flush=True)
    if first is not None:
        print(tokenizer.decode([first]), end="", flush=True)
    for token in stream:
        print(tokenizer.decode([token]), end="", flush=True)
    print()


if __name__ == "__main__":
    console.run(main)
