"""How much of a gradient comes back over a distance: the Jacobian of a late state, or output, by an early one.

Bengio, Simard & Frasconi 1994, "Learning long-term dependencies with gradient descent is difficult", IEEE Transactions on Neural
Networks 5; Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, section 2.
"""

from typing import NamedTuple

import numpy as np

from tinylm import ops
from tinylm.decode.stepping import evaluating
from tinylm.engine.grad import grad
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models import GPT, LanguageModel, RNNModel
from tinylm.nn import LSTM, RNN

_SLOPES = {"tanh": 1.0, "relu": 1.0, "sigmoid": 0.25}  # the largest slope of each


class Theory(NamedTuple):
    """What the recurrent weights W of a plain RNN of one layer tell, with γ the largest slope of its nonlinearity.

    bound: γ σ_max(W), by which the norm of a gradient grows in a step at most: ‖∂h_T/∂h_t‖ ≤ bound^(T-t) (Pascanu et al. 2013, eq. 7).
    radius: γ ρ(W), with the largest absolute eigenvalue: in a linear network gradients vanish if it is below 1.
    """

    bound: float
    radius: float


def jacobian_norms(model: LanguageModel, ids: np.ndarray) -> np.ndarray:
    """Returns how a gradient's norm changes over each distance k in a text, ids (T,) -> (T,) float64: element k is
    ‖J_k‖_F / √n, the root mean square, over all directions of n numbers, of the factor by which it changes.

    A recurrent model: J_k = ∂s_T/∂s_{T-k}, the states after the last token and after the one k tokens before: h, or h and c of an LSTM
    together, of all layers; element 0 is 1. A GPT has no state: J_k = ∂y_T/∂x_{T-k}, with y_T what the output layer reads at the
    last position and x the sum of the token's and the position's embedding. Exact: one backward pass per row of J, side by side.
    A model in float64 is needed where norms become tiny. Raises ConfigError for other models.
    """
    if not isinstance(model, GPT | RNNModel):
        raise ConfigError(f"model is a {type(model).__name__}: expected a GPT or an RNNModel")
    with evaluating(model.modules()):
        return _through_blocks(model, ids) if isinstance(model, GPT) else _through_states(model, ids)


def _through_states(model: RNNModel, ids: np.ndarray) -> np.ndarray:
    rnn, dtype = model.rnn, model.decoder.weight.dtype
    parts = 2 if isinstance(rnn, LSTM) else 1
    n = parts * rnn.num_layers * rnn.hidden_size
    zeros = np.zeros((rnn.num_layers, n, rnn.hidden_size), dtype)  # the text n times: row i of the batch is for row i of J
    state = [Tensor(zeros.copy(), requires_grad=True) for _ in range(parts)]
    states = []
    for i in ids:
        state = model.read(Tensor(np.full((n, 1), i)), state)
        states.append(state)
    unit = np.eye(n, dtype=dtype).reshape(n, parts, rnn.num_layers, rnn.hidden_size)
    y = ops.sum(ops.stack(state) * Tensor(np.moveaxis(unit, 0, 2).copy()))  # (parts, layers, n, hidden)
    found = grad(y, [s for each in states for s in each])
    squares = [0.0 if g is None else float(np.square(g.numpy()).sum()) for g in found]
    return np.sqrt(np.reshape(squares, (len(ids), parts)).sum(axis=1)[::-1] / n)


def _through_blocks(model: GPT, ids: np.ndarray) -> np.ndarray:
    trunk, n = model.transformer, model.config.n_embd
    x = (trunk.wte(Tensor(ids)) + trunk.wpe(Tensor(np.arange(len(ids))))).numpy()
    leaf = Tensor(np.repeat(x[None], n, axis=0), requires_grad=True)  # (n, T, n)
    y = trunk.ln_f(model.through_blocks(leaf, None))[:, -1]  # (n, n)
    found = grad(y, leaf, np.eye(n, dtype=x.dtype)).numpy()
    return np.sqrt(np.square(found).sum(axis=(0, 2))[::-1] / n)


def theory(model: LanguageModel) -> Theory | None:
    """Returns what the weights of a plain RNN of one layer tell of its gradients; None for any other model."""
    if not (isinstance(model, RNNModel) and isinstance(model.rnn, RNN) and model.rnn.num_layers == 1):
        return None
    weight = dict(model.rnn.named_parameters())["weight_hh_l0"].numpy()
    slope = _SLOPES[model.rnn.settings["nonlinearity"]]
    return Theory(slope * float(np.linalg.norm(weight, 2)), slope * float(np.abs(np.linalg.eigvals(weight)).max()))
