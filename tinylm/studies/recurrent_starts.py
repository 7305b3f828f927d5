"""Initial weights of a plain recurrent layer with which its state lasts longer than with PyTorch's.

identity: Le, Jaitly & Hinton 2015, arXiv:1504.00941, section 2; orthogonal: Saxe, McClelland & Ganguli 2014, arXiv:1312.6120.
"""

import numpy as np

from tinylm.engine.random_keys import current
from tinylm.errors import ConfigError
from tinylm.models import RNNModel
from tinylm.nn import RNN, Parameter

STARTS = ("uniform", "identity", "orthogonal")
INPUT_STD = 0.001  # of the weights of the input, as Le, Jaitly & Hinton have it: at first the state hardly changes


def start_recurrent(model: RNNModel, start: str) -> None:
    """Draws the weights of the model's plain recurrent layers anew; 'uniform' leaves them as they are.

    With Q the identity, or an orthogonal matrix drawn at random, W_ih from N(0, 0.001²), and biases of zero unless they are named:
        tanh:     W_hh = Q, so that a state near zero keeps its norm;
        relu:     W_hh = I, or √2 Q, since half of its units pass nothing on (He et al. 2015, arXiv:1502.01852, eq. 10);
        sigmoid:  W_hh = 4 Q, b_hh = -2 Q 1 and twice the W_ih: with h = (1 + g) / 2 and σ(z) = (1 + tanh(z/2)) / 2 these are the
                  weights above of a tanh layer with the state g, except that h starts at 0, which is g = -1.
    Raises ConfigError for another start, and for a model without plain recurrent layers.
    """
    if start not in STARTS:
        raise ConfigError(f"start is {start!r:.60}: expected one of {', '.join(STARTS)}")
    rnn = model.rnn
    if not isinstance(rnn, RNN):
        raise ConfigError(f"start is {start!r}: expected plain recurrent layers, not {type(rnn).__name__}")
    if start == "uniform":
        return
    nonlinearity, parameters = rnn.settings["nonlinearity"], dict(rnn.named_parameters())
    for layer in range(rnn.num_layers):
        q = np.eye(rnn.hidden_size) if start == "identity" else orthogonal(rnn.hidden_size)
        w_ih, w_hh, b_ih, b_hh = (parameters[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        inputs = current.generator.numpy().standard_normal(w_ih.shape) * INPUT_STD
        if nonlinearity == "sigmoid":
            _set(w_ih, 2 * inputs)
            _set(w_hh, 4 * q)
            _set(b_hh, -2 * q.sum(axis=1))
        else:
            _set(w_ih, inputs)
            _set(w_hh, np.sqrt(2) * q if (start, nonlinearity) == ("orthogonal", "relu") else q)
            _set(b_hh, 0)
        _set(b_ih, 0)


def orthogonal(size: int) -> np.ndarray:
    """Returns a random orthogonal matrix, (size, size) float64, each as likely as any other: Q of a normal matrix's QR
    decomposition, with the signs that make R's diagonal positive (Mezzadri 2007, arXiv:math-ph/0609050, section 5)."""
    q, r = np.linalg.qr(current.generator.numpy().standard_normal((size, size)))
    return q * np.sign(np.diag(r))


def _set(parameter: Parameter, values: np.ndarray | int) -> None:
    parameter.data[...] = values
    parameter.bump_version()
