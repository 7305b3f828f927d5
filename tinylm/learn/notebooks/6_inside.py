# %% [markdown]
# # Looking inside
#
# A trained model is a list of numbers. Can one find out *how* it does what it does? For small
# models, often yes. This notebook trains a Transformer on a task that needs a mechanism of two
# steps, and then finds the mechanism, with six instruments that work on any model here.
#
# It assumes that you know what attention is (`4_attention.ipynb` has the formula).

# %%
import numpy as np

import tinylm
from tinylm import Tensor, explain, optim
from tinylm.models import Llama, LlamaConfig

# %% [markdown]
# ## The task
#
# Random letters, repeated: `dgafk dgafk dgafk`. In the first period nothing can be predicted.
# From then on everything can, if one looks back: *where did I see this letter before, and what
# came after it?* The period is different each time, so that "look nine places back" does not
# help.

# %%
LETTERS, LENGTH = "abcdefghijklmnop", 24
random = np.random.default_rng(3)


def sequences(count):
    periods = random.integers(LENGTH // 3, LENGTH // 2 + 1, count)
    return np.array(
        [np.resize(random.integers(0, len(LETTERS), period), LENGTH + 1) for period in periods]
    )


def text_of(ids):
    return "".join(LETTERS[i] for i in ids)


print(text_of(sequences(1)[0]))

# %% [markdown]
# ## The model
#
# Two layers with two attention heads each. What the layers compute is added to the *residual
# stream*, one vector per position: each layer reads what those before it wrote.

# %%
STEPS = 350
tinylm.manual_seed(3)
model = Llama(
    LlamaConfig(len(LETTERS), LENGTH, n_layer=2, n_head=2, n_kv_head=2, n_embd=64, n_hidden=64)
)
optimizer = optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)
schedule = optim.WarmupCosine(lr=6e-3, min_lr=0.0, warmup=40, steps=STEPS)
curve = []
for step in range(STEPS):
    optimizer.param_groups[0]["lr"] = schedule(step)
    ids = sequences(64)
    loss = tinylm.cross_entropy(model(Tensor(ids[:, :-1])), ids[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step(max_norm=1.0)
    curve.append(loss.item())
model.eval()
print("loss at every 50th step:", [round(value, 2) for value in curve[::50]])
assert curve[0] > np.log(16) > 2 * curve[-1]

# %% [markdown]
# ## First: is it what we think?
#
# Before asking *how*, check *what*. The loss by position: chance (ln 16 = 2.77) in the first
# period, low afterwards. The model copies.

# %%
periods = [random.permutation(16)[:10] for _ in range(200)]  # of 10 letters, none twice
test = np.array([np.resize(period, LENGTH + 1) for period in periods])
log_p = tinylm.log_softmax(model(Tensor(test[:, :-1]))).numpy()
by_position = -np.take_along_axis(log_p, test[:, 1:, None], axis=2)[..., 0].mean(axis=0)
print("predicting letters 2 to 10:", by_position[:9].mean().round(2))
print("letters 12 to 20, seen before:", by_position[10:19].mean().round(2))
assert by_position[:9].mean() > 2.5
assert by_position[10:19].mean() < 1.0

# %% [markdown]
# ## One name for every number
#
# `explain.names` lists all activations of a model, in the order of the computation.
# `explain.cache` keeps those one asks for during a forward pass.

# %%
print(*explain.names(model), sep="  ")

# %%
example = test[0, :20]
with explain.cache(model, ["h.*.attn.pattern", "h.*.resid_post"]) as seen:
    model(Tensor(example[None]))
for name, value in seen.items():
    print(name, value.shape)

# %% [markdown]
# The pattern has the shape (text, head, position that looks, position looked at). Each row sums
# to 1.

# %%
pattern = seen["h.1.attn.pattern"].numpy()
np.testing.assert_allclose(pattern.sum(axis=-1), 1, rtol=1e-5)

# %% [markdown]
# ## Instrument 1: where do the heads look?
#
# Each map is one head: the letters at the left look at those below. Two things stand out. In
# layer 0 there is a line just below the diagonal: this head looks at the letter *before*. In
# layer 1, in the second period, there is a line nine places back. Ten places back would be the
# same letter; nine places back is **the letter after it**, the one to predict.

# %%
explain.draw_attention(
    explain.attention_weights(model, Tensor(example[None])), list(text_of(example))
)

# %% [markdown]
# ## Instrument 2: scores for the kinds of heads
#
# `head_scores` measures this on many random sequences: how much of its attention a head gives to
# the token before, and how much to what followed the same token earlier. A head of the second
# kind is called an *induction head* (Olsson et al. 2022).

# %%
scores = explain.head_scores(model)
scores


# %%
def strongest(kind):
    """Returns (layer, head) with the largest score of a kind."""
    layer, head = scores.heads[int(scores.scores[kind].argmax())]
    return int(layer.removeprefix("h.")), head


before, copying = strongest("previous"), strongest("induction")
print("layer and head that looks at the letter before:", before)
print("layer and head that copies:", copying)
assert before[0] == 0
assert copying[0] == 1
assert scores.scores["induction"].max() > 0.4

# %% [markdown]
# A guess at the mechanism: the layer-0 head writes at each position *which letter came before*.
# The layer-1 head then looks for positions that say "before me came the letter that you have
# now", and copies the letter found there. But a pattern is not yet a reason. The next instruments
# change the model and see what happens.
#
# ## Instrument 3: what would it say after each layer?
#
# Each layer adds to the stream, so the output layer can read it at any depth: the *logit lens*.
# The mean loss in the second period after each layer says where the answer appears.

# %%
lens = explain.lens(model, example, texts=lambda i: LETTERS[i])
for layer, losses in zip(lens.layers, lens.loss, strict=True):
    print(f"after {layer:6} loss {losses[10:19].mean():5.2f}")
assert lens.loss[1, 10:19].mean() > 2 > 1 > lens.loss[2, 10:19].mean()

# %% [markdown]
# Not after layer 0, but after layer 1. So layer 1 brings the answer, and the question is what it
# needs from layer 0.
#
# ## Instrument 4: what is each part worth?
#
# `ablate` switches off one part at a time and measures the loss of the whole text. Large numbers:
# the text is not predicted without it.

# %%
ablation = explain.ablate(model, example)
ablation

# %%
for layer, head in (before, copying):
    print(f"without head {head} of layer {layer}: {ablation.change[layer, head]:+.2f} nats")
    assert ablation.change[layer, head] > 0.2

# %% [markdown]
# Both heads of the guess are needed. (What else is needed is in the table: the model is more than
# our guess. And a part that is switched off leaves the others with input they never saw in
# training, so a large number can also mean confusion.)
#
# ## Instrument 5: where does the information travel?
#
# Take two texts that differ in one letter of the first period, number 4. Both end where the
# letter after number 3 is asked for: the answers differ. Now run the second text and put in *one*
# vector from the run on the first. How much of the first answer comes back?

# %%
text = example[:14]
other = text.copy()
other[4] = next(i for i in range(16) if i not in example)
print(text_of(text), "->", LETTERS[example[4]])
print(text_of(other), "->", LETTERS[other[4]])
patching = explain.patch(model, text, other, answer=int(example[4]), texts=lambda i: LETTERS[i])
explain.draw_patching(patching)

# %% [markdown]
# Read it from top to bottom. Before layer 0 and after it, the answer sits at position 4, where
# the letter is. After layer 1 it is at the last position, where it is needed. So the layer-1
# attention carried it there, in one jump.

# %%
recovery = patching.recovery  # (layers, positions)
print("position 4: ", recovery[:, 4].round(2))
print("last:       ", recovery[:, -1].round(2))
assert recovery[0, 4] > 0.99
assert recovery[1, 4] > 0.5
assert recovery[2, 13] > 0.99

# %% [markdown]
# ## Instrument 6: who wrote the answer?
#
# The logit of a letter is a sum over everything that was added to the stream.
# `direct_attribution` splits the difference of two logits, the right letter minus the other
# text's, into these terms.

# %%
terms = explain.direct_attribution(model, text, token=int(example[4]), against=int(other[4]))
terms

# %%
assert abs(terms.remainder) < 1e-3
layer_1 = terms.heads[1].sum() + terms.mlps[1]
print(
    f"layer 1 wrote {layer_1:.1f} of {terms.logit:.1f}, layer 0's heads {terms.heads[0].sum():.1f}"
)
assert layer_1 > 0.5 * terms.logit
assert abs(terms.heads[0].sum()) < 0.4 * terms.logit

# %% [markdown]
# Layer 1 wrote most of it: its heads, and its MLP, which reads what the heads have brought here.
# The heads of layer 0 wrote little into the answer. And yet it fails without them.
#
# ## The missing link
#
# The guess says why: layer 1 needs layer 0 to know *where to look*. That can be tested. Take away
# what the layer-0 heads write, and watch how much the copying head still looks at the right
# place, nine back.


# %%
def looks_right():
    with explain.cache(model, ["h.1.attn.pattern"]) as seen:
        model(Tensor(test[:, :20]))
    weights = seen["h.1.attn.pattern"].numpy()[:, copying[1]]
    return np.mean([weights[:, at, at - 9].mean() for at in range(10, 20)])


intact = looks_right()
with explain.replace(model, {"h.0.attn.head_out": lambda parts: parts * 0}):
    without = looks_right()
print(f"weight on the right place: {intact:.2f}, without layer 0's heads {without:.2f}")
assert intact > 0.35
assert without < intact / 2

# %% [markdown]
# That closes the circle. Two heads in a row: one says what came before, the other finds it and
# copies. Trained models of any size have such *induction heads*; `python scripts/explain.py heads
# smollm2` finds eight in a model with 134 million parameters.

# %% [markdown]
# ## What to take along
#
# - First *what*, then *how*: measure the behaviour before explaining it.
# - Patterns and the lens suggest; ablation and patching test, because they change the model.
# - One instrument alone misleads: by direct attribution layer 0 does little, by ablation it is indispensable. Both are true.
# - One seed is one model. Train it again with another seed, and the roles may be with other heads, or shared by two.
#
# For a model of your own, all of it is in one page to click through: `python scripts/explain.py
# page runs/mine "some text" --out inside.html`. `tinylm/explain/README.md` shows each instrument.
