"""Continues a prompt with a trained language model, or chats with one."""

import dataclasses
import itertools
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from support import console

import tinylm
from tinylm.checks import check_integer
from tinylm.data.corpora import read_text
from tinylm.data.tokenizers import StreamDecoder, Tokenizer
from tinylm.decode import Sampling, generate_batch, stream_text, token_biases
from tinylm.decode.sampling import cut_at_stops
from tinylm.decode.texts import drawn_ids, first_ids
from tinylm.engine.devices import device_namespace
from tinylm.engine.products import Precision, products
from tinylm.engine.random_keys import default_generator
from tinylm.engine.stored_weights import Weights
from tinylm.errors import ConfigError, DataError
from tinylm.models import LanguageModel, NgramLM
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer
from tinylm.train import load_run


@dataclass(frozen=True)
class Arguments:
    """Continues a prompt with a trained language model and prints the prompt and the text as it is generated. When a
    Transformer's context is full, its older half is dropped. The text ends where the model ends it, with its end-of-text
    token, or after --tokens tokens."""

    run: Annotated[Path, tyro.conf.Positional]
    """a run folder that 'train' wrote, a Hugging Face folder, a GGUF file, or smollm2"""
    prompt: str | None = None
    """the text to continue, by default a line break; the model must know its characters"""
    prompts: Path | None = None
    """instead, continue each line of this file; prints one line per prompt"""
    encoding: str = "utf-8"
    """of the file of prompts, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    tokens: int = 500
    """number of tokens to generate at most"""
    ignore_eos: bool = False
    """go on after the model's end-of-text token; it is printed as its text. Models trained from the start have none"""
    greedy: bool = False
    """always take the most likely token; the sampling settings below are then ignored"""
    temperature: float = 0.8
    """below 1 makes likely tokens more likely, above 1 makes rare ones more likely"""
    top_k: int | None = None
    """draw from the K most likely tokens only"""
    top_p: float = 1.0
    """draw from the smallest set of tokens whose probabilities add up to P"""
    min_p: float = 0.0
    """drop tokens less likely than P times the most likely one"""
    repetition_penalty: float = 1.0
    """above 1 makes tokens that have occurred less likely"""
    no_repeat_ngram: int = 0
    """never complete a sequence of N tokens that has occurred, in the prompt or since; 0: sequences may repeat. Holds for --greedy too"""
    logit_bias: tuple[str, ...] = ()
    """TOKEN=NUMBER, several if you like: adds the number to the log-probability of the token, so that a positive one makes it more
    likely and -inf forbids it. TOKEN is the text of one token, spaces included, or id:N. Holds for --greedy too"""
    samples: int = 1
    """draw so many texts from each prompt at once, each from its own random stream: the first is the text without --samples. Prints
    one line per text"""
    chat: bool = False
    """hold a conversation with the model's chat template: --prompt is your message; without it you type messages, one per line"""
    system: str | None = None
    """with --chat: the system message"""
    stop: tuple[str, ...] = ()
    """end the text before the first of these strings"""
    seed: int = 0
    """seed of the sampling; the same seed gives the same text"""
    cache: bool = True
    """keep keys and values, or the recurrent state; --no-cache recomputes everything at each token, for comparison"""
    weights: Weights = "stored"
    """of a pretrained model: stored, its matrices as its file has them, in little memory; or float32. Both give the same numbers"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    precision: Precision = "float32"
    """of matrix products: float32, or operands rounded to bfloat16 and sums in float32"""
    dry_run: bool = False
    """generate three tokens only"""


def main() -> None:
    arguments = console.parse(Arguments)
    with products(arguments.precision):
        work(arguments)


def work(arguments: Arguments) -> None:
    sampling = Sampling(
        arguments.greedy, arguments.temperature, arguments.top_k, arguments.top_p, arguments.min_p, arguments.repetition_penalty,
        arguments.no_repeat_ngram,
    )  # fmt: skip
    check_integer("--samples", arguments.samples, 1)
    if arguments.samples > 1 and (arguments.chat or arguments.greedy):
        reason = "--chat: a conversation has one answer" if arguments.chat else "--greedy: all samples would be the same"
        raise ConfigError(f"--samples {arguments.samples} with {reason}")
    biases: dict[int | str, float] = {}
    for given in arguments.logit_bias:
        token, bias = bias_of(given)
        if token in biases:
            raise ConfigError(f"--logit-bias {given!r:.60}: its token has the bias {biases[token]:g} already")
        biases[token] = bias
    device_namespace(arguments.device)
    model, tokenizer, _ = load_run(arguments.run, arguments.device, arguments.weights)
    sampling = dataclasses.replace(sampling, logit_bias=token_biases(tokenizer, biases, model.vocab_size))
    if sampling.top_k is not None and sampling.top_k > tokenizer.vocab_size:
        raise ConfigError(f"top_k {sampling.top_k} is larger than the vocabulary, {tokenizer.vocab_size}")
    tinylm.manual_seed(arguments.seed)
    if arguments.prompts is not None:
        many(arguments, sampling, model, tokenizer, *prompts_of(arguments.prompts, arguments.encoding, tokenizer))
        return
    if arguments.chat:
        chat(arguments, sampling, model, tokenizer)
        return
    prompt = "\n" if arguments.prompt is None else arguments.prompt
    ids = first_ids(tokenizer, arguments.prompt)
    if arguments.samples > 1:
        many(arguments, sampling, model, tokenizer, [prompt], [ids])
        return
    stream = written(arguments, sampling, model, tokenizer, ids)
    first = next(stream, "")  # a wrong setting is reported before anything is printed
    sys.stdout.write(prompt + first)
    for piece in stream:
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()


def chat(arguments: Arguments, sampling: Sampling, model: LanguageModel | NgramLM, tokenizer: Tokenizer) -> None:
    """Prints one answer to --prompt, or holds a conversation until the input ends."""
    if not isinstance(tokenizer, PretrainedTokenizer):
        raise ConfigError("a model trained by tinylm has no chat template: --chat needs a pretrained one")
    messages = [] if arguments.system is None else [{"role": "system", "content": arguments.system}]
    lines = typed() if arguments.prompt is None else iter([arguments.prompt])
    for line in lines:
        messages.append({"role": "user", "content": line})
        answer = ""
        for piece in written(arguments, sampling, model, tokenizer, tokenizer.chat_ids(messages), new=True):
            sys.stdout.write(piece)
            sys.stdout.flush()
            answer += piece
        print()
        messages.append({"role": "assistant", "content": answer})


def typed() -> Iterator[str]:
    """Yields the lines that the user types until the input ends, without empty ones."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line


def number_of_tokens(arguments: Arguments) -> int:
    return 3 if arguments.dry_run else arguments.tokens


def written(
    arguments: Arguments, sampling: Sampling, model: LanguageModel | NgramLM, tokenizer: Tokenizer, ids: list[int], new: bool = False,
) -> Iterator[str]:  # fmt: skip
    """Yields the text that continues ids, piece by piece, up to the end-of-text token, which is left out. new: ids end a text."""
    return stream_text(
        model, tokenizer, ids, number_of_tokens(arguments), sampling, new=new, stop=arguments.stop, ignore_ends=arguments.ignore_eos,
        device=arguments.device, use_cache=arguments.cache,
    )  # fmt: skip


def bias_of(text: str) -> tuple[int | str, float]:
    """Returns the token, its id or its text, and the bias of TOKEN=NUMBER. Raises ConfigError for another form."""
    token, equals, number = text.rpartition("=")
    try:
        bias = float(number)
    except ValueError:
        bias = math.nan
    if not token or not equals or math.isnan(bias):
        raise ConfigError(f"--logit-bias {text!r:.60}: expected TOKEN=NUMBER, such as e=-2, or id:5=-inf")
    named = re.fullmatch(r"id:([0-9]{1,18})", token)
    return (int(named[1]) if named else token), bias


def prompts_of(path: Path, encoding: str, tokenizer: Tokenizer) -> tuple[list[str], list[list[int]]]:
    """Returns the prompts of a file, one per line, and their tokens. Raises DataError with the line of one that cannot be encoded."""
    prompts = read_text(path, encoding).removesuffix("\n").split("\n")
    encoded = []
    for number, prompt in enumerate(prompts, 1):
        try:
            encoded.append(first_ids(tokenizer, prompt or None))
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        except ConfigError as error:
            raise DataError(f"{path}, line {number} is empty, and the model has never seen a line break") from error
    return prompts, encoded


def many(
    arguments: Arguments, sampling: Sampling, model: LanguageModel | NgramLM, tokenizer: Tokenizer,
    prompts: list[str], encoded: list[list[int]],
) -> None:  # fmt: skip
    """Prints one line per prompt and sample: the prompt and its continuation, with line breaks as '\\n'. Prompts of the same length
    in tokens form a batch; each sample has its own random stream."""
    prompts, encoded = ([each for each in given for _ in range(arguments.samples)] for given in (prompts, encoded))
    streams = [default_generator.numpy() for _ in prompts]
    limits = drawn_ids(tokenizer, model.vocab_size, arguments.ignore_eos)
    texts = [""] * len(prompts)
    for length in sorted({len(ids) for ids in encoded}):
        rows = [i for i, ids in enumerate(encoded) if len(ids) == length]
        steps = generate_batch(
            model, [encoded[i] for i in rows], number_of_tokens(arguments), sampling, randoms=[streams[i] for i in rows],
            device=arguments.device, use_cache=arguments.cache, **limits,
        )  # fmt: skip
        columns = list(steps)
        for place, i in enumerate(rows):
            decoder = StreamDecoder(tokenizer, encoded[i])
            drawn = itertools.takewhile(lambda token: token not in limits["ends"], (column[place] for column in columns))
            text = "".join(map(decoder.push, drawn)) + decoder.finish()
            texts[i] = "".join(cut_at_stops(iter([text]), arguments.stop))
    for prompt, text in zip(prompts, texts, strict=True):
        print((prompt + text).replace("\\", "\\\\").replace("\n", "\\n"))


if __name__ == "__main__":
    console.run(main)
