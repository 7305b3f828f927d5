# %% [markdown]
# # What happens at `loss.backward()`?
#
# A loss is one number computed from many parameters. `loss.backward()` writes into each
# parameter's `.grad` how fast the loss changes when that parameter changes. This notebook takes
# the call apart and rebuilds it in a dozen lines.
#
# You need Python, NumPy and the chain rule. It takes about twenty minutes.

# %%
import inspect

import numpy as np

import tinylm
from tinylm import Tensor, explain
from tinylm.engine.autograd import nodes

# %% [markdown]
# ## A loss with two parameters
#
# A `Tensor` is a NumPy array that remembers how it was computed. `requires_grad=True` makes `w` a
# parameter: we want its gradient.

# %%
x = np.array([0.5, 2.0])
target = np.array([1.0, 0.0])
w = Tensor(np.array([0.3, -0.2]), requires_grad=True)


def loss_of(w):
    z = w * x
    y = tinylm.tanh(z)
    return ((y - target) ** 2).sum()


loss = loss_of(w)
loss.backward()
print("loss", loss.item())
print("gradient", w.grad)

# %% [markdown]
# The claim is that `w.grad[i]` is the slope of the loss along `w[i]`. A slope can be measured:
# move `w[i]` a little in both directions and divide the difference of the losses by the distance.
# This is a *finite difference*, and every gradient in tinylm is tested against it.

# %%
step = 1e-5
measured = [
    (loss_of(Tensor(w.data + d)).item() - loss_of(Tensor(w.data - d)).item()) / (2 * step)
    for d in step * np.eye(2)
]
print("measured", np.array(measured))
np.testing.assert_allclose(w.grad, measured, rtol=1e-8)

# %% [markdown]
# ## The tape
#
# While the loss was computed, each *op* left a `Node` behind: which op ran, on which inputs.
# `nodes(loss)` finds all nodes that led to the loss. All of them together are called the *tape*.
# (The pass above has consumed its tape, so we compute the loss again.)

# %%
loss = loss_of(w)
tape = nodes(loss)
for node in tape:
    print(f"{node.op.name:10} inputs:", [type(given).__name__ for given in node.inputs])
assert [node.op.name for node in tape] == ["multiply", "tanh", "subtract", "power", "sum"]

# %% [markdown]
# `w` has no node, because no op made it: it is a *leaf*. Gradients end up in leaves. `x` and
# `target` are plain arrays, and nobody asked for their gradients.

# %%
assert w.node is None
assert loss.node is tape[-1]

# %% [markdown]
# ## An op is a value and a vjp
#
# This is the whole op behind `tinylm.tanh`. Its body takes an array and returns two things: the
# value, and a function called *vjp*.

# %%
print(inspect.getsource(tinylm.tanh.op.body))

# %% [markdown]
# The vjp answers one question. Suppose we know `dy`, how fast the *loss* changes with each
# element of this op's output. How fast does it change with each element of its input? For y =
# tanh(z) the chain rule says dz = dy (1 - y²).
#
# `dy` is called the *cotangent* of y. It always has y's shape.

# %%
z = np.array([0.15, -0.4])
y, vjp = tinylm.tanh.op.body(z)
dy = np.array([3.0, 5.0])
(dz,) = vjp(dy)
print("vjp", dz)
np.testing.assert_allclose(dz, dy * (1 - y**2), rtol=1e-15)

# %% [markdown]
# ## Why "vjp"?
#
# The derivative of a function from vectors to vectors is a matrix, the *Jacobian* J, with J[i, j]
# = ∂y_i / ∂z_j. The vjp computes the product of the vector dy with this matrix, a vector-Jacobian
# product, without building the matrix. For a million elements J would have 10¹² entries; the vjp
# of tanh needs two million multiplications.

# %%
J = tinylm.jacobian(tinylm.tanh, z).numpy()
print(J)
np.testing.assert_allclose(dz, dy @ J, rtol=1e-12)

# %% [markdown]
# ## The backward pass by hand
#
# Run the five bodies forward and keep their vjps. Then start with the gradient of the loss with
# respect to itself, which is 1, and call the vjps from the last to the first. Each turns the
# cotangent of an output into that of an input.

# %%
z, vjp_multiply = tinylm.multiply.op.body(w.data, x)
y, vjp_tanh = tinylm.tanh.op.body(z)
error, vjp_subtract = tinylm.subtract.op.body(y, target)
square, vjp_power = tinylm.power.op.body(error, 2)
total, vjp_sum = tinylm.sum.op.body(square)

(d_square,) = vjp_sum(np.ones_like(total))
d_error = vjp_power(d_square)[0]
d_y = vjp_subtract(d_error)[0]
(d_z,) = vjp_tanh(d_y)
d_w = vjp_multiply(d_z)[0]
for name, value in [
    ("d_square", d_square),
    ("d_error", d_error),
    ("d_y", d_y),
    ("d_z", d_z),
    ("d_w", d_w),
]:
    print(f"{name:9}", value)
assert (d_w == w.grad).all()  # equal to the last bit

# %% [markdown]
# ## The same for any graph
#
# A tensor may be used several times, and then it receives a cotangent from each use. **They add
# up**: that is the chain rule for several paths. So a node must wait until all users of its
# output have been visited. There is a simple way to know when: give each node an *age* when it is
# made. Its users are made later, so they are younger. Always take the youngest node that waits.
#
# That is the whole algorithm.


# %%
def gradients_of(loss, choose=max):
    """Returns the gradient of each leaf, and how many vjps were called."""
    waiting = {loss.node: np.ones_like(loss.data)}  # node -> the cotangent of its output so far
    leaves, calls = {}, 0
    while waiting:
        node = choose(waiting, key=lambda node: node.age)
        cotangents = node.vjp(waiting.pop(node))
        calls += 1
        for tensor, cotangent in zip(node.parents, cotangents, strict=True):
            if tensor is not None:  # None: nobody wants this gradient
                where, key = (leaves, tensor) if tensor.node is None else (waiting, tensor.node)
                where[key] = where[key] + cotangent if key in where else cotangent
    return leaves, calls


leaves, calls = gradients_of(loss)
assert (leaves[w] == w.grad).all()
assert calls == len(tape)

# %% [markdown]
# ## What goes wrong in another order
#
# Take the oldest first instead. The result is still right, since vjps are linear: half a
# cotangent now and half later give the same sum. But each half is carried all the way down
# separately, and these walks multiply. Below, each line uses `a` twice.


# %%
def repeatedly(times):
    a = Tensor(np.array(1.0), requires_grad=True)
    out = a
    for _ in range(times):
        out = out * 0.25 + out * 0.75
    return out


print("lines   youngest first   oldest first")
for times in (2, 6, 10):
    (_, young), (_, old) = (
        gradients_of(repeatedly(times)),
        gradients_of(repeatedly(times), choose=min),
    )
    print(f"{times:5}   {young:14}   {old:12}")
assert young == 3 * times
assert old == 3 * (2**times - 1)

# %% [markdown]
# Three ops per line, so 30 calls for 10 lines, against 3 (2¹⁰ - 1). With the 40 lines of a small
# network, the oldest-first walk would never end.

# %% [markdown]
# ## Broadcasting: a copy forward is a sum backward
#
# NumPy repeats `bias` for each of the four rows. Each copy receives a cotangent, and again they
# add up: the gradient of something that was repeated is the sum over its repetitions.

# %%
rows = np.arange(12.0).reshape(4, 3)
bias = Tensor(np.zeros(3), requires_grad=True)
((rows + bias) * rows).sum().backward()
print(bias.grad)
assert (bias.grad == rows.sum(axis=0)).all()

# %% [markdown]
# ## Three rules that surprise people once
#
# **1. `.grad` accumulates.** A second `backward` adds to what is there, so that one step can be
# computed in several parts. A training loop therefore clears the gradients first
# (`optimizer.zero_grad()`).

# %%
first = w.grad.copy()
loss_of(w).backward()
assert (w.grad == 2 * first).all()

# %% [markdown]
# **2. The tape is used up.** `backward` drops each node's vjp after the call, so that memory
# falls as the walk goes on. Going through the same graph again is an error.
# (`backward(retain_graph=True)` keeps it.)

# %%
loss = loss_of(w)
loss.backward()
assert loss.node.vjp is None
try:
    loss.backward()
except tinylm.TinylmError as error:
    print(type(error).__name__, "-", str(error).split("(")[0])
else:
    raise AssertionError("no error")

# %% [markdown]
# **3. A value that the backward pass needs must not change.** Vjps keep values of the forward
# pass: that of tanh keeps y. If y is written in place afterwards, the gradient would be wrong;
# tinylm notices and refuses.

# %%
w.grad = None
y = tinylm.tanh(w * x)
loss = y.sum()
with tinylm.no_grad():
    y[0] = 0.0
try:
    loss.backward()
except tinylm.TinylmError as error:
    print(type(error).__name__)
assert w.grad is None

# %% [markdown]
# ## Watching the real walk
#
# `explain.steps` runs the same walk as `backward` and shows each visit: the cotangent that came
# in, and what each argument receives. Nothing is changed by watching.

# %%
loss = loss_of(w)
watched = list(explain.steps(loss))
for seen in watched:
    print(seen.number, f"{seen.op:10}", seen.code)

# %% [markdown]
# One step, shown as a table: values beside their gradients. Compare the row of `x` with `d_z`
# above.

# %%
watched[3]

# %% [markdown]
# ## What to take along
#
# - An op returns its value and a vjp, which turns the cotangent of the output into the cotangents of the inputs.
# - The tape knows for each tensor which op made it, from what.
# - The walk takes the youngest node that waits, calls its vjp, and adds the results up. In leaves they become `.grad`.
# - The cost is that of a few forward passes, whatever the number of parameters. Finite differences need two forward passes for *each*.
#
# The real walk is `walk` in `tinylm/engine/autograd.py`. Beyond ours it uses a heap, checks every
# shape, and serves ops with several outputs. Next: `2_second_order.ipynb`.
