"""scripts/generate.py as a user runs it."""

import dataclasses
from pathlib import Path

import pytest
from script_helpers import ends_well, fails_with_one_line, script, script_here

from tinylm.decode import Sampling, generate
from tinylm.train import Counting, Run, default_config, load_run

TEXT = "the quick brown fox jumps over the lazy dog.\nthe dog sleeps, the fox doesn't: \\o/\n" * 20
MODELS = {"gpt": "char", "lstm": "word", "ngram": "bpe"}  # and the tokenizer each is tested with


def trained(folder: Path, model: str, tokenizer: str, text: str) -> Path:
    config = dataclasses.replace(
        default_config(model), tokenizer=tokenizer, bpe_size=280, n_layer=1, n_embd=32, block_size=16, batch_size=8, order=4,
        steps=30, schedule_steps=30, warmup=2, lr=2e-2, dropout=0.0,
    )  # fmt: skip
    (Counting if model == "ngram" else Run)(config, folder, text).train()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("runs")
    return {model: trained(parent / model, model, tokenizer, TEXT) for model, tokenizer in MODELS.items()}


def generated(*arguments: object) -> str:
    return ends_well(script_here("generate.py", *arguments))


@pytest.mark.parametrize("model", MODELS)
def test_what_is_printed_is_what_the_library_generates(runs: dict[str, Path], model: str) -> None:
    """Prompt, continuation, line break; also beyond the block size."""
    lm, tokenizer, _ = load_run(runs[model])
    greedy = tokenizer.decode(generate(lm, tokenizer.encode("the fox").tolist(), 60, Sampling(greedy=True)))
    start = script if model == "gpt" else script_here
    shown = ends_well(start("generate.py", runs[model], "--prompt", "the fox", "--tokens", 60, "--greedy", "--seed", 5))
    assert shown == f"the fox{greedy}\n"


@pytest.mark.parametrize("model", MODELS)
def test_the_text_is_seeded_and_the_same_without_the_cache(runs: dict[str, Path], model: str) -> None:
    settings = [runs[model], "--prompt", "the", "--tokens", 40, "--temperature", 1.5, "--top-k", 8]
    texts = [generated(*settings, *more) for more in (["--seed", 1], ["--seed", 1, "--no-cache"], ["--seed", 2])]
    assert texts[0] == texts[1] != texts[2]
    assert "<unk>" not in "".join(texts)
    assert all(text.startswith("the") for text in texts)


def test_settings(runs: dict[str, Path]) -> None:
    run = runs["gpt"]
    plain = generated(run, "--tokens", 80, "--greedy")
    assert plain.startswith("\n")  # the prompt is a line break
    assert len(plain) == 1 + 80 + 1
    word = plain.split()[1]
    assert generated(run, "--tokens", 80, "--greedy", "--stop", "@@", word) == plain[: plain.index(word)] + "\n"
    for setting in (["--top-k", 1], ["--top-p", 1e-9], ["--min-p", 1], ["--temperature", 1e-9]):
        assert generated(run, "--tokens", 80, *setting) == plain
    assert generated(run, "--tokens", 80, "--greedy", "--repetition-penalty", 5) != plain
    assert generated(run, "--prompt", "fox", "--tokens", 0) == "fox\n"
    assert len(generated(run, "--prompt", "fox", "--dry-run")) == len("fox") + 3 + 1


@pytest.mark.parametrize("model", MODELS)
def test_many_prompts(runs: dict[str, Path], model: str, tmp_path: Path) -> None:
    """One line per prompt, in order, whatever their lengths; each is the same as alone."""
    lm, tokenizer, _ = load_run(runs[model])
    prompts = ["the", "", "the fox", "dog", " the quick", "\\o/"]
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(prompts) + "\n", encoding="utf-8")
    shown = generated(runs[model], "--prompts", file, "--tokens", 25, "--greedy", "--stop", ",").split("\n")
    forbidden = [] if tokenizer.unknown_id is None else [tokenizer.unknown_id]
    expected = []
    for prompt in prompts:
        ids = tokenizer.encode(prompt or "\n").tolist()
        text = tokenizer.decode(generate(lm, ids, 25, Sampling(greedy=True), forbidden=forbidden))
        expected.append((prompt + text.partition(",")[0]).replace("\\", "\\\\").replace("\n", "\\n"))
    assert shown == [*expected, ""]
    seeded = [generated(runs[model], "--prompts", file, "--tokens", 9, "--seed", seed) for seed in (3, 3, 4)]
    assert seeded[0] == seeded[1] != seeded[2]


@pytest.mark.parametrize("model", MODELS)
def test_samples(runs: dict[str, Path], model: str, tmp_path: Path) -> None:
    """One line each: the first is the text without --samples, more do not change those before, and a file of prompts has so many each."""
    asked = ["--tokens", 20, "--temperature", 1.5, "--seed", 3]
    alone = generated(runs[model], "--prompt", "the", *asked)
    lines = generated(runs[model], "--prompt", "the", *asked, "--samples", 3).split("\n")[:-1]
    assert len(lines) == 3
    assert len(set(lines)) > 1
    assert all(line.startswith("the") for line in lines)
    assert lines[0] + "\n" == alone[:-1].replace("\\", "\\\\").replace("\n", "\\n") + "\n"
    assert generated(runs[model], "--prompt", "the", *asked, "--samples", 2).split("\n")[:-1] == lines[:2]
    file = tmp_path / "prompts.txt"
    file.write_text("the\nfox\n", encoding="utf-8")
    both = generated(runs[model], "--prompts", file, *asked, "--samples", 3).split("\n")
    assert both[:3] == lines
    assert [line[:3] for line in both[3:6]] == ["fox"] * 3
    assert generated(runs[model], "--samples", 2, "--dry-run").count("\n") == 2  # from a line break


def test_ngrams_that_do_not_repeat_and_biases(runs: dict[str, Path]) -> None:
    run = runs["gpt"]
    text = generated(run, "--prompt", "the ", "--tokens", 60, "--greedy", "--no-repeat-ngram", 3)[:-1]
    triples = [text[i : i + 3] for i in range(len(text) - 2)]
    assert len(set(triples)) == len(triples) == 62
    tokenizer = load_run(run)[1]
    without = generated(run, "--prompt", "the", "--tokens", 60, "--logit-bias", "o=-inf", " =-3", f"id:{tokenizer.encode('e')[0]}=-inf")
    assert not set("oe") & set(without.removeprefix("the"))
    assert generated(run, "--prompt", "x", "--tokens", 4, "--greedy", "--logit-bias", "q=1000") == "xqqqq\n"


def test_characters_that_the_terminal_lacks_are_spelled_out(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "ngram", "char", "é😀" * 100)
    result = script("generate.py", run, "--prompt", "é", "--tokens", 3, "--greedy", PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stdout) == (0, "\\xe9\\U0001f600\\xe9\\U0001f600\n")
    assert generated(run, "--prompt", "é", "--tokens", 3, "--greedy") == "é😀é😀\n"


def test_bad_input_is_one_line_and_status_2(runs: dict[str, Path], tmp_path: Path) -> None:
    size = load_run(runs["gpt"])[1].vocab_size
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("the\nfox\nété\n", encoding="utf-8")
    one = tmp_path / "one.txt"
    one.write_text("the\n", encoding="utf-8")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n", encoding="utf-8")
    for arguments, message in [
        (["--temperature", 0], "temperature 0.0: expected more than 0"),
        (["--temperature", -1], "temperature -1.0"),
        (["--temperature", "nan"], "temperature nan"),
        (["--top-k", 0], "top_k 0: expected at least 1"),
        (["--top-k", size + 1], f"top_k {size + 1} is larger than the vocabulary, {size}"),
        (["--top-k", size + 1, "--greedy"], f"top_k {size + 1} is larger than the vocabulary, {size}"),
        (["--top-p", 0], "top_p 0.0 is out of range"),
        (["--min-p", 2], "min_p 2.0 is out of range"),
        (["--repetition-penalty", 0.5], "repetition_penalty 0.5: expected at least 1"),
        (["--tokens", -1], "tokens -1: expected at least 0"),
        (["--tokens", "many"], "--tokens: invalid literal for int() with base 10: 'many'"),
        (["--seed", -1], "seed -1 is out of range"),
        (["--stop", ""], "a stop string is empty"),
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "été"], "unknown character 'é' at position 0: the model knows"),
        (["--prompts", prompts], "prompts.txt, line 3: unknown character 'é' at position 0"),
        (["--prompts", empty], "empty.txt is empty"),
        (["--prompts", tmp_path / "none"], "none: No such file or directory"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--samples", 0], "--samples is 0: expected at least 1"),
        (["--samples", 2, "--greedy"], "--samples 2 with --greedy: all samples would be the same"),
        (["--samples", 2, "--chat"], "--samples 2 with --chat: a conversation has one answer"),
        (["--no-repeat-ngram", -1], "no_repeat_ngram is -1: expected at least 0, a whole number"),
        (["--no-repeat-ngram", 1, "--tokens", 99, "--prompts", one], "no token can be drawn: none is left by no_repeat_ngram 1"),
        (["--logit-bias", "x"], "--logit-bias 'x': expected TOKEN=NUMBER, such as e=-2, or id:5=-inf"),
        (["--logit-bias", "x=nan"], "--logit-bias 'x=nan': expected TOKEN=NUMBER"),
        (["--logit-bias", "x=inf"], "the logit bias of 'x' is inf: expected a finite number, or -inf"),
        (["--logit-bias", "the=1"], "is for 'the', which is 3 tokens, ['t', 'h', 'e']: expected the text of one token"),
        (["--logit-bias", "t=1", "t=-2"], "--logit-bias 't=-2': its token has the bias 1 already"),
        (["--logit-bias", "id:999=1"], "a token of the logit bias is 999, which is out of range"),
    ]:
        fails_with_one_line(script_here("generate.py", runs["gpt"], *arguments), message)
    undecodable = b"\xff".decode("utf-8", "surrogateescape")  # as it comes from a terminal
    fails_with_one_line(script_here("generate.py", runs["ngram"], "--prompt", undecodable), "is no character")
    fails_with_one_line(script_here("generate.py", tmp_path / "none"), "no run folder")
    fails_with_one_line(script_here("generate.py"), "Missing from")


def test_run_folders_that_do_not_fit(runs: dict[str, Path], tmp_path: Path) -> None:
    single = trained(tmp_path / "single", "ngram", "char", "one line only " * 20)
    fails_with_one_line(script_here("generate.py", single), "never seen a line break: give --prompt")
    assert generated(single, "--prompt", "on", "--tokens", 6, "--greedy") == "one only\n"
    mixed = trained(tmp_path / "mixed", "gpt", "word", TEXT)
    (mixed / "model.safetensors").write_bytes((runs["lstm"] / "model.safetensors").read_bytes())
    fails_with_one_line(script_here("generate.py", mixed), "does not hold the model that config.json describes: the state does not fit GPT")
    (mixed / "config.json").write_text("{}", encoding="utf-8")
    fails_with_one_line(script_here("generate.py", mixed), "is not the config of a tinylm run")


def test_help() -> None:
    shown = generated("--help")
    for flag in (
        "--prompt ",
        "--prompts ",
        "--greedy",
        "--stop ",
        "--no-cache",
        "--dry-run",
        "--no-repeat-ngram",
        "--logit-bias",
        "--samples",
    ):
        assert flag in shown
