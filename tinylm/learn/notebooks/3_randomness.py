# %% [markdown]
# # Randomness and exact resume
#
# A training run draws random numbers everywhere: initial weights, the order of the data, dropout
# masks. Still, a run that was stopped and resumed should end with *the same weights, bit for
# bit*, as one that was never stopped: then a long run can be debugged, repeated and trusted. This
# notebook shows how little it takes.
#
# It needs no other notebook; a word from the first (`1_backward.ipynb`) is *op*: a function of
# tensors with a gradient.

# %%
import tempfile
from pathlib import Path

import numpy as np

import tinylm
from tinylm import Tensor, optim
from tinylm.data import CharTokenizer, ShuffledBlocks, load_text
from tinylm.engine.random_keys import default_generator, random_uint32
from tinylm.models import GPT, GPTConfig
from tinylm.train import Run, TrainConfig

# %% [markdown]
# ## A random function that can be repeated
#
# Dropout sets each element to zero with probability p and scales the others by 1/(1 - p). Two
# calls draw two masks. The same seed gives the same masks again.

# %%
ones = Tensor(np.ones(8))
tinylm.manual_seed(7)
first, second = tinylm.dropout(ones, 0.5).numpy(), tinylm.dropout(ones, 0.5).numpy()
tinylm.manual_seed(7)
again = tinylm.dropout(ones, 0.5).numpy()
print(first)
print(second)
print(again)
assert (first == again).all()
assert (first != second).any()

# %% [markdown]
# ## All of it is two integers
#
# The generator holds a seed and a counter. Each call of an op with dropout takes the pair as its
# *key* and moves the counter by one, however many numbers it draws.

# %%
tinylm.manual_seed(7)
print(default_generator.state)
tinylm.dropout(ones, 0.5)
tinylm.dropout(Tensor(np.ones(1_000_000)), 0.5)
print(default_generator.state)
assert default_generator.state == (7, 2)

# %% [markdown]
# ## A stream without a past
#
# Most generators compute each number from the one before. *Philox* (Salmon et al. 2011) is
# different: it is a function from (key, position) to random bits. Any part of any stream can be
# computed at once, in any order, on any device, and never has to be stored. NumPy has the same
# function.

# %%
words = random_uint32((7, 1), 6)
print(words)
numpys = np.random.Philox(key=np.array([7, 1], np.uint64)).random_raw(3)
halves = numpys.view("<u4")  # each 64-bit word is two 32-bit ones, the low half first
assert (words == halves).all()

# %% [markdown]
# So a dropout mask can be made by hand: element i is kept if the i-th word of the key's stream is
# at least p 2³². This is the second mask of the first cell, made without drawing the first.

# %%
words = random_uint32((7, 1), 8)
by_hand = (words >= 0.5 * 2**32) / (1 - 0.5)
print(by_hand)
assert (by_hand == second).all()

# %% [markdown]
# ## The backward pass needs the same mask
#
# The gradient of dropout is dy times *the mask that was used*. The key is a setting of the op,
# and the tape keeps an op's settings. So whoever computes again repeats the mask: `recompute`,
# which keeps a function's inputs only and runs it again in the backward pass, gets the gradient
# that storing everything would give.


# %%
def layer(x):
    return tinylm.dropout(tinylm.tanh(x), 0.3)


gradients = []
for call in (layer, lambda x: tinylm.recompute(layer, x)):
    tinylm.manual_seed(1)
    x = Tensor(np.linspace(-1, 1, 10), requires_grad=True)
    call(x).sum().backward()
    gradients.append(x.grad)
print(gradients[0].round(2))
assert (gradients[0] == gradients[1]).all()
assert (gradients[0] == 0).any()

# %% [markdown]
# ## Batches without a past
#
# The order of the data follows the same idea: batch k is a function of the seed and of k. Nobody
# needs to have drawn the batches before.

# %%
text = load_text("tinyshakespeare")[:20_000]
tokenizer = CharTokenizer(text)
ids = np.array(tokenizer.encode(text))
asked_first = ShuffledBlocks(ids, block_size=32, batch_size=8, seed=1)
inputs, targets = asked_first[1000]
print(repr(tokenizer.decode(inputs[0])))

batches = ShuffledBlocks(ids, block_size=32, batch_size=8, seed=1)
for k in range(5):
    batches[k]
assert (batches[1000][0] == inputs).all()

# %% [markdown]
# ## What a resume must know
#
# Now train a small model with dropout, 20 steps in one go. Then 10 steps, save, and 10 more steps
# in what could be another process.


# %%
def start(seed):
    tinylm.manual_seed(seed)
    model = GPT(
        GPTConfig(
            tokenizer.vocab_size, block_size=32, n_layer=1, n_head=2, n_embd=32, dropout=0.2
        )
    )
    return model, optim.AdamW(model.parameters(), lr=3e-3)


def train(model, optimizer, steps):
    for k in steps:
        inputs, targets = batches[k]
        loss = tinylm.cross_entropy(model(Tensor(inputs)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def weights(model):
    return np.concatenate([parameter.numpy().ravel() for parameter in model.parameters()])


model, optimizer = start(seed=0)
train(model, optimizer, range(20))
uninterrupted = weights(model)

# %% [markdown]
# Four things are saved: the weights, the optimiser's state (AdamW keeps a running mean of the
# gradients and of their squares), the two integers of the generator, and the number of the next
# step.

# %%
model, optimizer = start(seed=0)
train(model, optimizer, range(10))
saved = {
    "weights": {name: array.copy() for name, array in model.state_dict().items()},
    "optimizer": optimizer.state_dict(),
    "random state": default_generator.state,
    "step": 10,
}
print(saved["random state"], "after", saved["step"], "steps")

# %% [markdown]
# Resume from all four, and then from all but one. Only the complete set gives the same weights;
# each omission trains on, without an error, to something else. That is why it must be tested.


# %%
def resumed(forgotten=None):
    model, optimizer = start(seed=99)  # as in a new process: other weights and random state
    if forgotten != "weights":
        model.load_state_dict(saved["weights"])
    if forgotten != "optimizer":
        optimizer.load_state_dict(saved["optimizer"])
    if forgotten != "random state":
        default_generator.state = saved["random state"]
    first = 0 if forgotten == "step" else saved["step"]
    train(model, optimizer, range(first, first + 10))
    return np.abs(weights(model) - uninterrupted).max()


print("forgotten      largest difference of a weight")
for forgotten in (None, "weights", "optimizer", "random state", "step"):
    difference = resumed(forgotten)
    print(f"{forgotten or 'nothing':14} {difference:.1g}")
    assert (difference == 0) == (forgotten is None)

# %% [markdown]
# ## The same with a run
#
# A `Run` saves these four in its checkpoints, with a digest of every byte. Here one run of 20
# steps, and one that stops at 10 and is resumed. The files of the weights are equal.

# %%
settings = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 32,
    "block_size": 32,
    "dropout": 0.2,
    "schedule_steps": 20,
    "warmup": 5,
}
with tempfile.TemporaryDirectory() as folder:
    whole, parts = Path(folder) / "whole", Path(folder) / "parts"
    Run(TrainConfig(steps=20, **settings), whole, text).train()
    Run(TrainConfig(steps=10, **settings), parts, text).train()
    Run(TrainConfig(steps=20, **settings), parts, text, resume=True).train()
    files = [(run / "model.safetensors").read_bytes() for run in (whole, parts)]
print(len(files[0]), "bytes, equal:", files[0] == files[1])
assert files[0] == files[1]

# %% [markdown]
# ## Why not on every machine?
#
# Adding floating-point numbers rounds, so the order of a sum changes its last bits. tinylm adds
# in a fixed order on one machine, whatever the number of threads. Another processor has other
# vector lengths, so other orders: its runs repeat themselves, but their bits differ from ours.

# %%
numbers = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
one_way, other_way = np.float32(0), np.float32(0)
for number in numbers:
    one_way += number
for number in numbers[::-1]:
    other_way += number
print(one_way, other_way)
assert one_way != other_way
assert abs(one_way - other_way) < 1e-2

# %% [markdown]
# ## What to take along
#
# - A key (seed, counter) selects a stream; a mask is a function of its key, so it can be made again instead of stored.
# - Batch k is a function of the seed and k.
# - A resume needs weights, optimiser state, random state and step. Forgetting one raises no error: compare bits in a test.
# - Bit for bit means: on one machine. Elsewhere it is the order of sums that differs, in the last bits of each.
#
# In the library: `tinylm/engine/random_keys.py`, `tinylm/data/batching.py`,
# `tinylm/train/snapshots.py`. Next: `4_attention.ipynb`.
