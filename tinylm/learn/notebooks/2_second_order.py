# %% [markdown]
# # Derivatives of derivatives
#
# A gradient is a function of the parameters too, so it has a gradient of its own. Newton's
# method, gradient penalties and the checks of curvature need it. This notebook shows how it works
# here: nobody writes second derivatives; the *same body* is run a second time, on tensors.
#
# It assumes the first notebook (`1_backward.ipynb`): ops, vjps, the tape.

# %%
import inspect

import numpy as np

import tinylm
from tinylm import Tensor
from tinylm.engine.arrays import array_module
from tinylm.engine.autograd import nodes

# %% [markdown]
# ## The gradient as a tensor
#
# `tinylm.grad(y, x)` returns the gradient instead of filling `.grad`. With `create_graph=True`
# the result is recorded like anything else, so `grad` can be applied to it again. The derivatives
# of x⁴ at x = 2:

# %%
x = Tensor(np.array(2.0), requires_grad=True)
y = x**4
found = [y]
for order in range(1, 5):
    found.append(tinylm.grad(found[-1], x, create_graph=True))
    print(f"order {order}:", found[-1].item())
assert [each.item() for each in found] == [16, 32, 48, 48, 24]  # x⁴, 4x³, 12x², 24x, 24

# %% [markdown]
# ## The problem
#
# A recorded vjp computes with plain arrays. It is fast, but what it computes leaves no trace on
# the tape: an array has no node.

# %%
y = tinylm.tanh(x)
(slope,) = y.node.vjp(np.array(1.0))
print("a tensor:", isinstance(slope, Tensor))
assert not isinstance(slope, Tensor)

# %% [markdown]
# ## The solution is one line of the body
#
# Look at `array_module` in the body of `tanh`.

# %%
print(inspect.getsource(tinylm.tanh.op.body))

# %% [markdown]
# It returns the module with the functions for the array at hand: NumPy for a NumPy array, CuPy
# for an array on a GPU, and **tinylm's own ops for a tensor**. They share their names. So the
# body is not bound to NumPy: it is a recipe that runs on anything that has `tanh`, `*` and `-`.

# %%
assert array_module(np.ones(3)).tanh is np.tanh
assert array_module(Tensor(np.ones(3))) is tinylm.ops

# %% [markdown]
# So run the same body on tensors. Its value is a tensor, its vjp is made of tensors, and what the
# vjp returns has a node.

# %%
value, vjp = tinylm.tanh.op.body(x)
(slope,) = vjp(Tensor(np.array(1.0)))
print("a tensor:", isinstance(slope, Tensor))
print([node.op.name for node in nodes(slope)])
assert isinstance(slope, Tensor)

# %% [markdown]
# The vjp computed dy (1 - y²): the tape has it op by op. Its derivative is therefore nothing new,
# only another walk: d/dx (1 - y²) = -2 y (1 - y²).

# %%
curvature = tinylm.grad(slope, x)
t = np.tanh(2.0)
print(curvature.item(), "=", -2 * t * (1 - t**2))
assert np.isclose(curvature.item(), -2 * t * (1 - t**2), rtol=1e-12)

# %% [markdown]
# ## A walk with `create_graph`
#
# The walk of the first notebook called `node.vjp`, recorded on arrays. For `create_graph` one
# line changes: run the body again on the node's input *tensors*, and call the vjp that this
# returns. (A node keeps its inputs and its settings, such as the axis of a sum.)


# %%
def recorded_gradient(y, x):
    waiting, total = {y.node: Tensor(np.ones_like(y.data))}, None
    while waiting:
        node = max(waiting, key=lambda node: node.age)
        settings, named = node.settings
        _, vjp = node.op.body(*node.inputs, *settings, **named)  # before: vjp = node.vjp
        for tensor, cotangent in zip(node.parents, vjp(waiting.pop(node)), strict=True):
            if tensor is x:
                total = cotangent if total is None else total + cotangent
            elif tensor is not None and tensor.node is not None:
                waiting[tensor.node] = (
                    waiting[tensor.node] + cotangent if tensor.node in waiting else cotangent
                )
    return total


y = tinylm.tanh(x) * tinylm.exp(x)
ours = recorded_gradient(recorded_gradient(y, x), x)
theirs = tinylm.grad(tinylm.grad(y, x, create_graph=True), x)
print(ours.item(), theirs.item())
assert ours.item() == theirs.item()

# %% [markdown]
# ## A mistake that only the second derivative shows
#
# Here is an op whose vjp computes σ(x) from a raw array. Its value is right and its first
# derivative is right. But a raw array is a constant for the tape, so the second derivative lacks
# a term.


# %%
@tinylm.op
def softplus_detached(x, /):
    """log(1 + e^x).  dx = dy σ(x)."""
    xp = array_module(x)
    raw = x.data if isinstance(x, Tensor) else x
    sigma = 1 / (1 + np.exp(-raw))  # always an array: the tape does not see that it depends on x
    return xp.log1p(xp.exp(x)), lambda dy: (dy * sigma,)


points = np.array([-1.0, 0.3, 2.0])
first = tinylm.verify.gradcheck(softplus_detached, points)
second = tinylm.verify.gradcheck(softplus_detached, points, order=2)
print("first order ", "ok" if first.ok else "WRONG")
print("second order", "ok" if second.ok else "WRONG")
assert first.ok
assert not second.ok

# %% [markdown]
# `gradcheck(order=2)` compares the derivative of the vjp with finite differences of the vjp.
# tinylm's own softplus passes; all ops are checked to second order.

# %%
assert tinylm.verify.gradcheck(tinylm.softplus, points, order=2).ok

# %% [markdown]
# ## The Hessian
#
# The second derivatives of a loss with n parameters form an (n, n) matrix, the *Hessian*: it says
# how the gradient changes when the parameters move. It is the Jacobian of the gradient. Our loss
# is that of a logistic regression on 40 points.

# %%
rng = np.random.default_rng(0)
points = np.column_stack([rng.standard_normal((40, 2)), np.ones(40)])  # two features, and a 1
labels = (points @ [1.5, -2.0, 0.5] + rng.logistic(size=40) > 0).astype(float)


def loss_of(w):
    return tinylm.binary_cross_entropy_with_logits(Tensor(points) @ w, labels)


def gradient_of(w):
    return tinylm.grad(loss_of(w), w, create_graph=True)


w = Tensor(np.zeros(3), requires_grad=True)
hessian = tinylm.jacobian(gradient_of, w).numpy()
print(hessian.round(4))
np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12)  # ∂²/∂a∂b = ∂²/∂b∂a

# %% [markdown]
# ## Newton's method
#
# The gradient says which way is down. The Hessian says how far: if the loss were exactly
# quadratic, w - H⁻¹ g would be its minimum. Near the minimum the number of right digits doubles
# with each step. Gradient descent gains a fixed factor per step.

# %%
newton, descent = Tensor(np.zeros(3), requires_grad=True), Tensor(np.zeros(3), requires_grad=True)
print("step   |gradient|, Newton   |gradient|, descent")
sizes = []
for step in range(7):
    slopes = [gradient_of(each).numpy() for each in (newton, descent)]
    sizes.append([np.linalg.norm(g) for g in slopes])
    print(f"{step:4}   {sizes[-1][0]:18.1e}   {sizes[-1][1]:19.1e}")
    matrix = tinylm.jacobian(gradient_of, newton).numpy()
    newton = Tensor(newton.numpy() - np.linalg.solve(matrix, slopes[0]), requires_grad=True)
    descent = Tensor(descent.numpy() - 1.0 * slopes[1], requires_grad=True)
assert sizes[-1][0] < 1e-12 < 1e-3 < sizes[-1][1]

# %% [markdown]
# ## The Hessian times a vector, without the Hessian
#
# A model with a million parameters has a Hessian of 10¹² numbers. Often only its product with a
# vector is needed, and that costs two backward passes: H v is the gradient of the number (∂f/∂w)ᵀ
# v (Pearlmutter 1994).

# %%
v = np.array([1.0, -1.0, 2.0])
product = tinylm.grad((gradient_of(w) * v).sum(), w).numpy()
print(product)
np.testing.assert_allclose(product, hessian @ v, rtol=1e-12)
ready_made = tinylm.hvp(loss_of, w, v).numpy()
np.testing.assert_allclose(product, ready_made, rtol=1e-12)

# %% [markdown]
# ## A loss that contains a gradient
#
# Some losses contain a gradient: a *gradient penalty* asks that a model's output change slowly
# with its input. `backward` then goes through the gradient to the weights. The finite difference
# along one weight confirms it.

# %%
tinylm.manual_seed(0)
layer = tinylm.nn.Linear(3, 4).to(dtype=np.float64)
inputs = Tensor(rng.standard_normal((5, 3)), requires_grad=True)


def penalty():
    y = tinylm.tanh(layer(inputs)).sum()
    return (tinylm.grad(y, inputs, create_graph=True) ** 2).sum()


penalty().backward()
here, step = layer.weight.data[1, 2], 1e-5
values = []
for moved in (here + step, here - step):
    layer.weight.data[1, 2] = moved
    values.append(penalty().item())
layer.weight.data[1, 2] = here
print(layer.weight.grad[1, 2], "measured", (values[0] - values[1]) / (2 * step))
assert np.isclose(layer.weight.grad[1, 2], (values[0] - values[1]) / (2 * step), rtol=1e-7)

# %% [markdown]
# ## What it costs
#
# The gradient's tape holds the forward pass, its bodies run again, and their vjps. Each further
# order multiplies the number of nodes, so the third or fourth order of a large model is out of
# reach, while the second is everyday work.

# %%
y = tinylm.tanh(x) * tinylm.exp(x)
for order in range(5):
    print(f"order {order}: {len(nodes(y)):5} nodes")
    y = tinylm.grad(y, x, create_graph=True)

# %% [markdown]
# ## What to take along
#
# - `grad(..., create_graph=True)` returns a tensor with a graph of its own.
# - It works because a body takes its functions from `array_module`: run on tensors, it records what its vjp computes.
# - What a body computes outside of it is a constant, and the second derivative is wrong; `gradcheck(order=2)` finds it.
# - A Hessian is the Jacobian of a gradient; its product with a vector costs two backward passes.
#
# In the library: `record_vjp` in `tinylm/engine/op.py`, and `tinylm/engine/derivatives.py`. Next:
# `3_randomness.ipynb`.
