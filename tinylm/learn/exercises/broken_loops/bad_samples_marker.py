"""Marks the repaired program whose samples were bad."""

from tinylm.learn.exercise import Mistake
from tinylm.learn.exercises.broken_loops import bad_samples
from tinylm.learn.work import Work

HINTS = (
    'Print encode("brown") and encode(TEXT)[8:13]. They should be the same.',
    "A character must have the same id in training and in sampling. Which vocabulary does encode use for a prompt?",
)
THEN = "tinylm/data/tokenizers.py: the vocabulary is made once, from the training text, and saved with the model."
BUG = Mistake.of(
    "a prompt is encoded by a vocabulary of its own",
    '    """Returns the ids of a text."""\n    vocabulary = sorted(set(TEXT))',
    '    """Returns the ids of a text."""\n    vocabulary = sorted(set(text))',
    says="the symptom",
)
MISTAKES = (
    Mistake.of("the scores of another position", "ids[-2:]", "ids[:2]", says="the symptom"),
    Mistake.of(
        "one order for training, another one for samples",
        '    """Returns the text of ids."""\n    vocabulary = sorted(set(TEXT))',
        '    """Returns the text of ids."""\n    vocabulary = sorted(set(TEXT), reverse=True)',
        says="the symptom",
    ),
    Mistake.of("the text is in the prompt", "    return decode(ids)", "    return prompt + TEXT[13 : 13 + count]", says="another prompt"),
)


def mark(work: Work) -> None:
    train, sample, encode, decode = (work.get(name) for name in ("train", "sample", "encode", "decode"))
    text = work.get("TEXT")
    work.begin("it writes the text that it knows")
    model, loss = train()
    right, _ = bad_samples.train()
    prompt = "brown"
    written, expected = sample(model, prompt, 24), bad_samples.sample(right, prompt, 24)
    words = (
        f"the symptom: the loss is {loss:.4f} nats, and after {prompt!r} it writes {written[len(prompt) :]!r}; "
        f"in the text follows {text[13:37]!r}"
    )
    work.expect(written == expected, words)
    back = decode(encode(text[:20]))
    work.expect(back == text[:20], f"{text[:20]!r} encoded and decoded comes back as {back!r}", "", decode)
    work.begin("the same after another prompt")
    written, expected = sample(model, "the lazy", 12), bad_samples.sample(right, "the lazy", 12)
    work.expect(written == expected, f"after another prompt, 'the lazy', it writes {written!r}: expected {expected!r}")
