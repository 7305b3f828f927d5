"""Says where and how a gradient is wrong, for an error of which no cause is known."""

import numpy as np

from tinylm.verify.diagnosis.entries import Entries
from tinylm.verify.diagnosis.evidence import Evidence
from tinylm.verify.diagnosis.places import wrong_elements

_FEW = 4


def observed(e: Evidence) -> str:
    """Returns which elements are wrong, whether they have the right sign and size, and what reaches elements that it should not."""
    wrong = wrong_elements(e)
    if not wrong.any():
        return ""
    size = wrong.size
    indices = [[int(n) for n in np.unravel_index(j, e.point.shape)] for j in np.flatnonzero(wrong)[:_FEW].tolist()]
    which = ", ".join(map(str, indices)) + (", ..." if wrong.sum() > _FEW else "")
    said = [f"all {size} elements wrong" if wrong.all() else f"{int(wrong.sum())} of {size} elements wrong: {which}"]
    entries = Entries.of(e)
    if entries is not None and e.taped is not None:
        for places, text in (
            (entries.invented, "{n} of {all} entries of the Jacobian are not zero although that output does not depend on that element"),
            (entries.lost, "{n} of {all} entries of the Jacobian are zero although that output depends on that element"),
        ):
            if places.any():
                said.append(text.format(n=int(places.sum()), all=places.size))
        w, j = (g[entries.other] for g in (e.taped, e.measured))
        if w.size:
            ratios = w / j
            signs = int((ratios < 0).sum())
            turned = "of the wrong sign" if signs == w.size else f"{signs} of them of the wrong sign" if signs else "of the right sign"
            low, high = (f"{n:.3g}" for n in (np.abs(ratios).min(), np.abs(ratios).max()))
            times = low if low == high else f"{low} to {high}"
            count = "1 entry has" if w.size == 1 else f"{w.size} entries have"
            said.append(f"{count} another value, {turned}, {times} times as large")
    return "; ".join(said)
