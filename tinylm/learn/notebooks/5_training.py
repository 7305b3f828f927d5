# %% [markdown]
# # Training a model on your text, and knowing when to stop
#
# A model that has seen your text often enough knows it by heart. That is not what we want: it
# should predict text that it has *not* seen. This notebook trains small models in seconds and
# shows the one curve to watch, how to make it better, and how far to trust it.
#
# The text here is Shakespeare, which tinylm ships. For your own, replace one line below.

# %%
import itertools
import tempfile
from pathlib import Path

import numpy as np

import tinylm
from tinylm.data import CharTokenizer, load_text
from tinylm.decode import Sampling, generate
from tinylm.explain.plots import training_curves
from tinylm.models import NgramLM
from tinylm.train import Run, TrainConfig, load_run
from tinylm.train.tasks.token_losses import token_losses

corpus = load_text("tinyshakespeare")  # yours: Path("my_text.txt").read_text(encoding="utf-8")
print(len(corpus), "characters")
print(corpus[:97])

# %% [markdown]
# ## Tokens
#
# A language model reads numbers. Here each different character is one *token*. The tokenizer
# comes from the whole corpus, so that every part of it can be read.

# %%
tokenizer = CharTokenizer(corpus)
V = tokenizer.vocab_size
print(V, "tokens")
print(tokenizer.encode("To be").tolist())

# %% [markdown]
# ## Two parts
#
# We begin with very little text, 10,000 characters. The model learns from the first nine tenths.
# The last tenth, the *validation* part, is only for measuring. It is cut from the end and not
# line by line at random: neighbouring lines share names and phrases, and a model that has read
# them would look better than it is.

# %%
text = corpus[:10_000]
cut = int(0.9 * len(text))
train_ids, val_ids = tokenizer.encode(text[:cut]), tokenizer.encode(text[cut:])
print(len(train_ids), "to learn from,", len(val_ids), "to measure with")

# %% [markdown]
# ## What is a good loss?
#
# The loss is the mean of -ln p, where p is the probability that the model gave to the character
# that came. Its unit is the *nat*. A number means little alone, so first measure models that do
# not learn by gradients:
#
# - all characters alike: ln V;
# - each character as often as in the training part, whatever came before (a unigram model);
# - each character given the four before it, counted and smoothed (a 5-gram model, Kneser-Ney).

# %%
counts = np.bincount(train_ids, minlength=V) + 1.0  # + 1: none is impossible
unigram = -np.log(counts / counts.sum())[val_ids].mean()
ngram = token_losses(NgramLM(V, order=5).fit(train_ids), val_ids).mean()
print(
    f"all alike {np.log(V):.3f}   unigram {unigram:.3f}   5-gram {ngram:.3f} nats per character"
)
assert ngram < unigram < np.log(V)

# %% [markdown]
# ## Training
#
# A GRU, a recurrent network, with 192 units. Every 20 steps the run measures the validation loss.
# A run's `train` calls a function of ours with each record, and we keep them.

# %%
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
settings = {
    "model": "gru",
    "n_layer": 1,
    "n_hidden": 192,
    "n_embd": 32,
    "block_size": 32,
    "batch_size": 16,
    "lr": 1e-2,
    "weight_decay": 0.01,
    "steps": 300,
    "schedule_steps": 300,
    "warmup": 20,
    "eval_every": 20,
}


def trained(name, text, **changes):
    records = []
    run = Run(
        TrainConfig(**{"dropout": 0.0, **settings, **changes}), folder / name, text, tokenizer
    )
    return run.train(records.append), records, run.model


summary, records, model = trained("small", text)
training_curves(records, ngram=ngram)

# %% [markdown]
# ## The curve to watch
#
# Both losses fall at first. Then the training loss goes on falling and the validation loss turns:
# the model learns its 9,000 characters by heart. This is *overfitting*. The time to stop is at
# the lowest point of the validation curve.

# %%
last = records[-1] if "loss" in records[-1] else records[-2]
print(f"best validation loss {summary['best_val_loss']:.2f} at step {summary['best_step']}")
print(f"at the end {summary['val_loss']:.2f}, while the training loss is {last['loss']:.2f}")
assert summary["best_step"] < 200
assert summary["val_loss"] > summary["best_val_loss"] + 0.1
assert last["loss"] < 1.0

# %% [markdown]
# ## Stopping there
#
# Nobody needs to look: the run keeps the weights of the best validation in
# `checkpoints/best.safetensors`. With `patience=3` it also stops by itself after three
# validations in a row without a better one. (On the command line: `--patience 3`.)

# %%
stopped, _, _ = trained("patient", text, patience=3)
print("stopped at step", stopped["steps"])
print(f"best {stopped['best_val_loss']:.2f} at step {stopped['best_step']}")
assert stopped["stopped_early"]
assert stopped["best_step"] + 60 == stopped["steps"] < 300

model, _, _ = load_run(folder / "small", checkpoint="best")
losses = token_losses(model, val_ids)
assert np.isclose(losses.mean(), summary["best_val_loss"], rtol=1e-4)

# %% [markdown]
# ## How far to trust the number
#
# The validation part has 1,000 characters, and their losses differ widely. The mean has a
# standard error of about the standard deviation divided by √1000. (Somewhat more in truth, since
# neighbouring characters are not independent.) A difference between two models that is smaller
# than this may be chance.

# %%
error = losses.std() / np.sqrt(len(losses))
print(f"{losses.mean():.2f} ± {error:.2f} nats")
assert 0.03 < error < 0.1

# %% [markdown]
# Two models measured on the *same* characters can be compared better: take the difference
# character by character, then its standard error. What is hard for one is hard for the other, and
# cancels. Here: the GRU against the 5-gram model.

# %%
difference = losses - token_losses(NgramLM(V, order=5).fit(train_ids), val_ids)
paired = difference.std() / np.sqrt(len(difference))
print(f"GRU minus 5-gram: {difference.mean():+.2f} ± {paired:.2f} nats")
assert paired < error
assert difference.mean() > 2 * paired

# %% [markdown]
# The 5-gram model is better, and not by chance. With so little text, counting beats a network.

# %% [markdown]
# ## First remedy: dropout
#
# Dropout sets half of the units to zero at random in each training step. What remains must do
# without them, which makes learning by heart harder. The curve turns later, and less.

# %%
dropped, records, _ = trained("dropout", text, dropout=0.5)
for name, run in (("without", summary), ("with dropout", dropped)):
    lowest, end = run["best_val_loss"], run["val_loss"]
    print(f"{name:12} best {lowest:.2f} at step {run['best_step']:3}, at the end {end:.2f}")
assert dropped["val_loss"] < summary["val_loss"] - 0.1
assert dropped["best_step"] > summary["best_step"]

# %% [markdown]
# ## The better remedy: more text
#
# Ten times the text, the same model, the same 300 steps. To compare fairly, both are measured on
# text that neither has seen: the end of the corpus.

# %%
more, records, larger = trained("more", corpus[:100_000])
unseen = tokenizer.encode(corpus[-10_000:])
results = [token_losses(each, unseen).mean() for each in (model, larger)]
counted = [
    token_losses(NgramLM(V, order=5).fit(tokenizer.encode(corpus[:n])), unseen).mean()
    for n in (9_000, 90_000)
]
print("learned from         GRU   5-gram")
for n, learned, other in zip((9_000, 90_000), results, counted, strict=True):
    print(f"{n:6} characters   {learned:.2f}     {other:.2f}")
assert results[1] < results[0] - 0.3
assert results[1] > more["val_loss"] + 0.3
training_curves(records)

# %% [markdown]
# The curve ends near 1.7 and the table says 2.3, of the same model. The run's own validation part
# comes from the play that it learned from, with its names and its talk; the end of the corpus is
# another play. A validation loss speaks for text *like the validation part*, so choose that like
# the text you mean to use the model for.

# %%
assert "MENENIUS" in corpus[:90_000]
assert "MENENIUS" in corpus[90_000:100_000]
assert "MENENIUS" not in corpus[-10_000:]

# %% [markdown]
# Ten times the text helps far more than dropout did. And here both curves fall together to the
# end: nothing has been learned by heart yet, and with more steps it would be better still. That
# is the other half of knowing when to stop: **while the validation loss falls, go on.**

# %%
validation = [record["val_loss"] for record in records if "val_loss" in record]
assert more["best_step"] >= 260
assert all(later < earlier + 0.01 for earlier, later in itertools.pairwise(validation))

# %% [markdown]
# ## Reading what it writes
#
# A loss is a mean over what the model should have said; a sample shows what it says. The
# *temperature* decides how daring it is: near 0 always the likeliest character, at 1 as the model
# believes.

# %% tags=["varies"]
prompt = tokenizer.encode("ROMEO:\n")
for temperature in (0.2, 0.7, 1.0):
    tinylm.manual_seed(1)
    ids = list(generate(larger, prompt, 100, Sampling(temperature=temperature)))
    print(f"--- temperature {temperature}\n{tokenizer.decode(ids)}")
temporary.cleanup()

# %% [markdown]
# Words and lines have the right shape, and the sense is missing. Three seconds of training do not
# give more; ten minutes reach 1.41 nats (`scripts/README.md` has the command).

# %% [markdown]
# ## What to take along
#
# 1. Cut the validation part off before anything else, in one piece.
# 2. Measure an n-gram model first. A network that does not beat it has learned little.
# 3. Stop where the validation loss is lowest; `checkpoints/best.safetensors` has those weights.
# 4. It turned? More text is best, then dropout, then a smaller model. It still falls? Train longer.
# 5. Give every loss an error bar, and compare models on the same tokens.
#
# The same from the command line, with a progress display:
#
# ```sh
# python scripts/train.py --data my_texts/ --out runs/mine --model gru --dropout 0.3 --patience 5
# python scripts/generate.py runs/mine --prompt "The " --temperature 0.7
# python scripts/explain.py report runs/mine
# ```
#
# Next: `6_inside.ipynb`.
