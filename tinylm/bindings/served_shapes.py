"""What the kernels of both devices ask of their arguments; all else is the references'."""


def cross_entropy_fits(logits, targets, reduction):
    """Whether there is a target for each row of logits, and at least one class."""
    return (
        logits.ndim > 0
        and logits.shape[-1] > 0
        and targets.shape == logits.shape[:-1]
        and targets.dtype.kind in "iu"
        and reduction in ("mean", "sum", "none")
    )


def attention_fits(q, k, v):
    """Whether the shapes fit, with the same one or two leading axes or none; or (N, heads, ...), several heads of q for one of k and v."""
    if not 2 <= q.ndim == k.ndim <= 4 or k.shape[:-1] != v.shape[:-1] or q.shape[-1] != k.shape[-1]:
        return False
    if q.shape[:-2] != k.shape[:-2] and not grouped_heads(q, k):
        return False
    return k.shape[-2] > 0 and q.shape[-1] > 0 and v.shape[-1] > 0


def grouped_heads(q, k):
    """Whether q (N, H, T, D) and k (N, K, S, D) have several heads of q for one of k."""
    return q.ndim == 4 and q.shape[0] == k.shape[0] and 0 < k.shape[1] < q.shape[1] and q.shape[1] % k.shape[1] == 0


def attention_mask_fits(mask, q, k):
    """Whether there is no mask, or a boolean one that broadcasts to the weights. A floating one has a
    gradient, which is a (T, S) matrix at least."""
    if mask is None:
        return True
    full = (*q.shape[:-1], k.shape[-2])
    return mask.dtype.kind == "b" and mask.ndim <= q.ndim and all(n in (1, m) for n, m in zip(mask.shape[::-1], full[::-1], strict=False))


def four_axes(x):
    """x (T, D), (N, T, D) or (N, heads, T, D) as the last, a view."""
    return x if x.ndim == 4 else x[:, None] if x.ndim == 3 else x[None, None]
