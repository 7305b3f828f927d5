"""Text from a prompt in one call: what `generate` draws, as text."""

import numpy as np
import pytest

import tinylm
from tinylm.data import CharTokenizer, WordTokenizer
from tinylm.decode import Sampling, generate, generate_text, stream_text
from tinylm.decode.texts import drawn_ids, first_ids
from tinylm.errors import ConfigError, DataError
from tinylm.models import GPT, GPTConfig, NgramLM

TEXT = "the fox sleeps.\nthe dog runs, the fox runs.\n" * 5


@pytest.fixture(scope="module")
def model() -> tuple[GPT, CharTokenizer]:
    tinylm.manual_seed(0)
    tokenizer = CharTokenizer(TEXT)
    return GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=1, n_head=2, n_embd=16)), tokenizer


def test_it_is_what_generate_draws(model: tuple[GPT, CharTokenizer]) -> None:
    lm, tokenizer = model
    drawn = generate(lm, tokenizer.encode("the fox").tolist(), 30, Sampling(greedy=True))
    assert generate_text(lm, tokenizer, "the fox", 30, Sampling(greedy=True)) == "the fox" + tokenizer.decode(drawn)
    texts = [generate_text(lm, tokenizer, "the", 30, random=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 3 + 30
    same = generate(lm, tokenizer.encode("the").tolist(), 30, Sampling(temperature=0.8), random=np.random.default_rng(1))
    assert texts[0] == "the" + tokenizer.decode(same)  # 0.8 is the default


def test_without_a_prompt_a_line_begins(model: tuple[GPT, CharTokenizer]) -> None:
    lm, tokenizer = model
    drawn = generate(lm, tokenizer.encode("\n").tolist(), 9, Sampling(greedy=True))
    assert generate_text(lm, tokenizer, tokens=9, sampling=Sampling(greedy=True)) == tokenizer.decode(drawn)


def test_stops_and_words_that_are_never_drawn() -> None:
    tokenizer = WordTokenizer.train(TEXT, 1)
    ngrams = NgramLM(tokenizer.vocab_size, 3).fit(tokenizer.encode(TEXT))
    whole = generate_text(ngrams, tokenizer, "the fox", 12, Sampling(greedy=True))
    assert "." in whole
    assert generate_text(ngrams, tokenizer, "the fox", 12, Sampling(greedy=True), stop=["."]) == whole.partition(".")[0]
    assert drawn_ids(tokenizer, tokenizer.vocab_size + 2) == {"forbidden": [0, tokenizer.vocab_size, tokenizer.vocab_size + 1], "ends": ()}
    pieces = list(stream_text(ngrams, tokenizer, first_ids(tokenizer, "the fox"), 12, Sampling(greedy=True)))
    assert "the fox" + "".join(pieces) == whole
    assert len(pieces) > 3


def test_wrong_prompts_are_told_in_the_librarys_words(model: tuple[GPT, CharTokenizer]) -> None:
    lm, tokenizer = model
    with pytest.raises(DataError, match="unknown character 'é'"):
        generate_text(lm, tokenizer, "été")
    with pytest.raises(ConfigError, match="the prompt is empty"):
        generate_text(lm, tokenizer, "")
    with pytest.raises(ConfigError, match=r"the prompt is \[1, 2\]: expected text; `generate` takes ids"):
        generate_text(lm, tokenizer, [1, 2])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"has never seen a line break: give a prompt$"):
        generate_text(NgramLM(2, 2).fit(np.array([0, 1, 0])), CharTokenizer("ab"))
