"""Recurrent layers over a whole sequence, one op each, with backpropagation through time derived by hand.

Time is the first axis: x (T, N, in), states (N, H). The loop over the steps does only what depends on the
previous step: the input products of all steps are one matrix product before it, and each weight's
gradient is one product over all T N rows after it. The formulas of one step are in
`recurrent_cells.py`; Goodfellow et al. 2016, section 10.2.2, derives backpropagation through time.
"""

from typing import Any

from tinylm.engine.arrays import Array, of_one_dtype
from tinylm.engine.op import op
from tinylm.errors import ConfigError
from tinylm.ops.recurrent_cells import gru_steps, lstm_steps, rnn_steps
from tinylm.ops.recurrent_scan import Scan, check_shapes, gradients, input_products


def _blocks(z: Array, hidden: int) -> list[Array]:
    """Returns the gates in z (N, gates H), as views."""
    return [z[:, k : k + hidden] for k in range(0, z.shape[1], hidden)]


def _sigmoid(xp: Any, z: Array, half: Any = 0.5, shift: Any = 0.5) -> None:
    """Computes σ(z) = (1 + tanh(z/2)) / 2 in place: NumPy's tanh is several times as fast as SciPy's σ.
    Where half is 1 and shift is 0 it computes tanh(z)."""
    z *= half
    xp.tanh(z, out=z)
    z *= half
    z += shift


def check_nonlinearity(nonlinearity: str) -> None:
    """Raises ConfigError unless `rnn` has this nonlinearity."""
    if nonlinearity not in ("tanh", "relu", "sigmoid"):
        raise ConfigError(f"nonlinearity {nonlinearity!r}: expected 'tanh', 'relu' or 'sigmoid'")


def _activate(xp: Any, z: Array, nonlinearity: str) -> None:
    """Computes φ(z) in place."""
    if nonlinearity == "relu":
        xp.maximum(z, 0, out=z)
    elif nonlinearity == "tanh":
        xp.tanh(z, out=z)
    else:
        _sigmoid(xp, z)


def _slope(xp: Any, h: Array, nonlinearity: str) -> Array:
    """Returns φ'(z) from h = φ(z)."""
    if nonlinearity == "relu":
        return (h > 0).astype(h.dtype)
    return 1 - h * h if nonlinearity == "tanh" else h - h * h


@op(composed=rnn_steps)
def rnn(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, nonlinearity="tanh", reverse=False, lengths=None):
    """h_t = φ(z_t), z_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh, with φ 'tanh', 'relu' or 'sigmoid'.

    x (T, N, in), weight_ih (H, in), weight_hh (H, H), biases (H,), h0 (N, H), zeros if None
    -> (y, h_n): y (T, N, H) all h_t, h_n (N, H) the last.  Elman 1990, Cognitive Science 14.
    reverse: from the last step to the first. lengths: N integers from 1 to T; sequence n ends (or, in
    reverse, starts) at its last step; beyond it y is 0 and x is not read.
    Backward, from the last step to the first; dh is the gradient from later steps, at first dh_n:
        dz_t = (dh + dy_t) φ'(z_t),  then dh = dz_t W_hh, in the end dh0;
        φ' = 1 - h², [h > 0] or h (1 - h) in the order above;
        dx_t = dz_t W_ih,  dW_ih = Σ dz_tᵀ x_t,  dW_hh = Σ dz_tᵀ h_{t-1},  db = Σ dz_t.
    """
    check_nonlinearity(nonlinearity)
    check_shapes("rnn", 1, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0,))
    x, weight_ih, weight_hh, bias_ih, bias_hh, h0 = of_one_dtype(
        "rnn", x=x, weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh, h0=h0
    )  # fmt: skip
    scan = Scan(x, weight_hh.shape[1], reverse, lengths)
    xp, matmul, x = scan.xp, scan.matmul, scan.sorted(x)
    z = input_products(scan, x, weight_ih, bias_ih, bias_hh)
    h_before, h = scan.states(h0, z)
    w_hh = xp.ascontiguousarray(weight_hh.T)
    for t, n in scan.steps:
        h_t = matmul(h_before[t, :n], w_hh, out=h[t, :n])
        h_t += z[t, :n]
        _activate(xp, h_t, nonlinearity)
        h[t, n:] = h_before[t, n:]

    def vjp(dy, dh_n):
        dy, dh, dz = scan.sorted(dy), xp.array(scan.sorted(dh_n)), xp.empty_like(z)
        for t, n in reversed(scan.steps):
            dh[:n] += dy[t, :n]
            xp.multiply(dh[:n], _slope(xp, h[t, :n], nonlinearity), out=dz[t, :n])
            matmul(dz[t, :n], weight_hh, out=dh[:n])
            dz[t, n:] = 0
        states = [None if h0 is None else dh]
        return gradients(scan, x, h_before, dz, dz, weight_ih, (bias_ih, bias_hh), states)

    return (scan.restored(h), scan.final(h)), vjp


@op(composed=lstm_steps)
def lstm(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, c0=None, /, *, reverse=False, lengths=None):
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t), with i, f, o = σ and g = tanh of the four blocks, in
    the order i, f, g, o, of z_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh.

    x (T, N, in), weight_ih (4H, in), weight_hh (4H, H), biases (4H,), h0 and c0 (N, H), zeros if None
    -> (y, h_n, c_n): y (T, N, H) all h_t, h_n and c_n (N, H) the last; reverse and lengths as in `rnn`.
    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, doi 10.1162/089976600300015015.
    Backward, against the order of the steps; dh and dc are what later steps hand back, at first dh_n and dc_n:
        dh += dy_t,  dc += dh o (1 - tanh² c_t),
        di = dc g,  df = dc c_{t-1},  dg = dc i,  do = dh tanh c_t,
        dz_t = (di i (1 - i), df f (1 - f), dg (1 - g²), do o (1 - o)),
        then dc = dc f and dh = dz_t W_hh, in the end dc0 and dh0;
        dx_t = dz_t W_ih,  dW_ih = Σ dz_tᵀ x_t,  dW_hh = Σ dz_tᵀ h_{t-1},  db = Σ dz_t.
    """
    check_shapes("lstm", 4, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0, c0))
    x, weight_ih, weight_hh, bias_ih, bias_hh, h0, c0 = of_one_dtype(
        "lstm", x=x, weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh, h0=h0, c0=c0
    )  # fmt: skip
    hidden = weight_hh.shape[1]
    scan = Scan(x, hidden, reverse, lengths)
    xp, matmul, x = scan.xp, scan.matmul, scan.sorted(x)
    gates = input_products(scan, x, weight_ih, bias_ih, bias_hh)  # z_t, then in its place i, f, g, o
    h_before, h = scan.states(h0, gates)
    c_before, c = scan.states(c0, gates)
    w_hh = xp.ascontiguousarray(weight_hh.T)
    product, work = xp.empty_like(gates[0]), xp.empty_like(c[0])
    half = xp.full(4 * hidden, 0.5, gates.dtype)
    shift = half.copy()
    half[2 * hidden : 3 * hidden], shift[2 * hidden : 3 * hidden] = 1, 0
    for t, n in scan.steps:
        z = gates[t, :n]
        z += matmul(h_before[t, :n], w_hh, out=product[:n])
        _sigmoid(xp, z, half, shift)
        i, f, g, o = _blocks(z, hidden)
        c_t = xp.multiply(f, c_before[t, :n], out=c[t, :n])
        c_t += xp.multiply(i, g, out=work[:n])
        xp.multiply(o, xp.tanh(c_t, out=work[:n]), out=h[t, :n])
        h[t, n:], c[t, n:] = h_before[t, n:], c_before[t, n:]

    def vjp(dy, dh_n, dc_n):
        dy, dh, dc = scan.sorted(dy), xp.array(scan.sorted(dh_n)), xp.array(scan.sorted(dc_n))
        dz = xp.empty_like(gates)
        slope, work = xp.empty_like(gates[0]), xp.empty_like(c[0])
        for t, n in reversed(scan.steps):
            z, dz_t, dh_t, dc_t, slope_t, work_t = gates[t, :n], dz[t, :n], dh[:n], dc[:n], slope[:n], work[:n]
            i, f, g, o = _blocks(z, hidden)
            di, df, dg, do = _blocks(dz_t, hidden)
            dh_t += dy[t, :n]
            xp.tanh(c[t, :n], out=work_t)  # computed again: saves a (T, N, H) buffer
            xp.multiply(dh_t, work_t, out=do)
            work_t *= work_t
            xp.subtract(1, work_t, out=work_t)
            work_t *= o
            work_t *= dh_t
            dc_t += work_t
            xp.multiply(dc_t, g, out=di)
            xp.multiply(dc_t, c_before[t, :n], out=df)
            xp.multiply(dc_t, i, out=dg)
            xp.multiply(z, z, out=slope_t)
            xp.subtract(z, slope_t, out=slope_t)  # y - y², the slope of σ
            _blocks(slope_t, hidden)[2] += xp.subtract(1, g, out=work_t)  # 1 - g², that of tanh
            dz_t *= slope_t
            dc_t *= f
            matmul(dz_t, weight_hh, out=dh_t)
            dz[t, n:] = 0
        states = [None if h0 is None else dh, None if c0 is None else dc]
        return gradients(scan, x, h_before, dz, dz, weight_ih, (bias_ih, bias_hh), states)

    return (scan.restored(h), scan.final(h), scan.final(c)), vjp


@op(composed=gru_steps)
def gru(x, weight_ih, weight_hh, bias_ih=None, bias_hh=None, h0=None, /, *, reverse=False, lengths=None):
    """h_t = (1 - z) n + z h_{t-1}, with, in the blocks' order r, z, n of a = W_ih x_t + b_ih and
    s = W_hh h_{t-1} + b_hh:  r = σ(a_r + s_r), z = σ(a_z + s_z), n = tanh(a_n + r s_n).

    x (T, N, in), weight_ih (3H, in), weight_hh (3H, H), biases (3H,), h0 (N, H), zeros if None
    -> (y, h_n): y (T, N, H) all h_t, h_n (N, H) the last; reverse and lengths as in `rnn`.
    Cho et al. 2014, arXiv:1406.1078, with r after the product as in its v1 and in PyTorch.
    Backward, from the last step to the first; dh is the gradient from later steps, at first dh_n:
        dh += dy_t,  da_z = dh (h_{t-1} - n) z (1 - z),  da_n = dh (1 - z) (1 - n²),
        da_r = da_n s_n r (1 - r),  ds = (da_r, da_z, r da_n),
        then dh = dh z + ds W_hh, in the end dh0;
        dx_t = da W_ih,  dW_ih = Σ daᵀ x_t,  db_ih = Σ da,  dW_hh = Σ dsᵀ h_{t-1},  db_hh = Σ ds.
    """
    check_shapes("gru", 3, x, weight_ih, weight_hh, (bias_ih, bias_hh), (h0,))
    x, weight_ih, weight_hh, bias_ih, bias_hh, h0 = of_one_dtype(
        "gru", x=x, weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh, h0=h0
    )  # fmt: skip
    hidden = weight_hh.shape[1]
    scan = Scan(x, hidden, reverse, lengths)
    xp, matmul, x = scan.xp, scan.matmul, scan.sorted(x)
    gates = input_products(scan, x, weight_ih, bias_ih)  # a, then in its place r, z, n
    h_before, h = scan.states(h0, gates)
    s_n = xp.empty_like(h)
    w_hh = xp.ascontiguousarray(weight_hh.T)
    product = xp.empty_like(gates[0])
    for t, n in scan.steps:
        s = matmul(h_before[t, :n], w_hh, out=product[:n])
        if bias_hh is not None:
            s += bias_hh
        r_and_z, new = gates[t, :n, : 2 * hidden], gates[t, :n, 2 * hidden :]
        r_and_z += s[:, : 2 * hidden]
        _sigmoid(xp, r_and_z)
        r, z = _blocks(r_and_z, hidden)
        s_n[t, :n] = s[:, 2 * hidden :]
        new += xp.multiply(r, s_n[t, :n], out=h[t, :n])
        xp.tanh(new, out=new)
        h_t = xp.subtract(h_before[t, :n], new, out=h[t, :n])  # n + z (h_{t-1} - n)
        h_t *= z
        h_t += new
        h[t, n:] = h_before[t, n:]

    def vjp(dy, dh_n):
        dy, dh = scan.sorted(dy), xp.array(scan.sorted(dh_n))
        da, ds = xp.empty_like(gates), xp.empty_like(gates)
        slope, product = xp.empty_like(gates[0]), xp.empty_like(h[0])
        for t, n in reversed(scan.steps):
            y, dh_t, slope_t, r_and_z = gates[t, :n], dh[:n], slope[:n], slice(2 * hidden)
            r, z, new = _blocks(y, hidden)
            da_r, da_z, da_n = _blocks(da[t, :n], hidden)
            dh_t += dy[t, :n]
            xp.multiply(y, y, out=slope_t)
            xp.subtract(y[:, r_and_z], slope_t[:, r_and_z], out=slope_t[:, r_and_z])  # y - y², the slope of σ
            slope_n = slope_t[:, 2 * hidden :]
            xp.subtract(1, slope_n, out=slope_n)  # 1 - n², that of tanh
            xp.subtract(1, z, out=da_n)
            da_n *= dh_t
            da_n *= slope_n
            xp.subtract(h_before[t, :n], new, out=da_z)
            da_z *= dh_t
            xp.multiply(da_n, s_n[t, :n], out=da_r)
            da[t, :n, r_and_z] *= slope_t[:, r_and_z]
            ds[t, :n, r_and_z] = da[t, :n, r_and_z]
            xp.multiply(da_n, r, out=ds[t, :n, 2 * hidden :])
            dh_t *= z
            dh_t += matmul(ds[t, :n], weight_hh, out=product[:n])
            da[t, n:], ds[t, n:] = 0, 0
        states = [None if h0 is None else dh]
        return gradients(scan, x, h_before, da, ds, weight_ih, (bias_ih, bias_hh), states)

    return (scan.restored(h), scan.final(h)), vjp
