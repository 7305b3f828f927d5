"""Every activation of a model under one name: read in a forward pass, or changed.

A context counts for the thread that enters it, as `no_grad` does; what other threads compute with the model is neither kept nor changed.
Modules are instrumented for as long as a context lasts: their forward pass runs written out (`explain/forward/`), as far as
somebody asks for what is inside. Fused ops and kernels are used for all the rest, and for everything outside the contexts.
"""

import contextlib
import difflib
import fnmatch
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn

from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, listed
from tinylm.explain.forward.points import Site, in_order, sites
from tinylm.explain.forward.taps import Collector, Instrumented, Replacement, Replacer, Watcher
from tinylm.nn import Module

_ONE_AT_A_TIME = threading.Lock()  # threads that enter or leave a context


class Activations(dict[str, Tensor]):
    """Activations by name, in the order in which the forward pass made them."""

    def __missing__(self, name: str) -> NoReturn:
        known = f"there are {listed(list(self), 300)}" if self else "no forward pass has run within the context"
        raise ConfigError(f"no activation {name!r:.80} was kept: {known}")

    def __repr__(self) -> str:
        return (
            f"Activations({', '.join(f'{name} {value.shape}' for name, value in list(self.items())[:8])}{', ...' if len(self) > 8 else ''})"
        )


def names(model: Module) -> list[str]:
    """Returns the names of all activations of a model, in the order of the computation.

    All shapes have the batch first: N texts, T positions, C width, H heads of width D, V tokens.

    - embed (N, T, C), pos_embed (T, C) of GPT; at the end norm_f (N, T, C), pooled (N, C) of a classifier, and logits.
    - Layer i of a Transformer, h.i.: resid_pre (N, T, C), the residual stream that enters; norm_1; attn.q, attn.k, attn.v (N, H, T, D),
      after any rotation; attn.scores (N, H, T, S), before the mask; attn.pattern, their softmax; attn.z (N, H, T, D), pattern times
      v; attn.head_out (N, H, T, C), what each head adds to the stream; attn.out, their sum; resid_mid; norm_2; mlp.pre (or mlp.gate and
      mlp.up); mlp.hidden; mlp.out; resid_post. With norms after the branches, resid_mid and resid_post are what comes after them.
    - Layer i of a recurrent model, rnn.i.: h (N, T, H), and the gates and states input, forget, candidate, output, c of an LSTM, or reset,
      update, candidate of a GRU; rnn.i.reverse. in the other direction.
    - A module at two paths, as in a model that shares its layers, has the names of the first: they stand for all that it computes.
    - encoder. and decoder. precede the names of a translator, whose cross-attention is decoder.h.i.cross.; members.i. those of an ensemble.
    """
    return in_order([name for site in sites(model) for name in site.names()])


@contextlib.contextmanager
def cache(model: Module, wanted: str | Iterable[str] = "*") -> Iterator[Activations]:
    """Keeps activations of the forward passes within the context: `with cache(model, "h.*.attn.pattern") as seen: model(ids)`.

    wanted: names, or patterns as in file names. The tensors have their tape, so they can be differentiated, and `grad` of a loss can
    be taken with respect to them (not to the gates and states of recurrent layers, which are steps put side by side). A later
    forward pass takes the place of an earlier one. They agree with what the fused ops compute to rounding.
    Raises ConfigError for a name that the model does not have.
    """
    seen = Activations()
    found = _sites_of(model, [wanted] if isinstance(wanted, str) else list(wanted))
    with _watched(model, found, Collector(set(found), seen)):
        yield seen


@contextlib.contextmanager
def replace(model: Module, replacements: Mapping[str, Replacement]) -> Iterator[None]:
    """Puts other values in the place of activations: `with replace(model, {"h.0.attn.head_out": f}): model(ids)`.

    replacements: by name or pattern, a tensor, array or number of the activation's shape (or one that broadcasts to it), or a function
    from the activation to such a value. The gradient goes through the function or into the given tensor. A function for a gate or
    state of a recurrent layer is called at each time step with its value (N, H) and the step; what it returns is what the
    next step starts from. Contexts can be nested: the inner one sees what the outer one put there, so a cache must be entered after a
    replace to keep what it puts.
    Raises ConfigError for a name that the model does not have, ShapeError for a value that does not fit.
    """
    by_name = {name: value for pattern, value in replacements.items() for name in _sites_of(model, [pattern])}
    with _watched(model, _sites_of(model, list(replacements)), Replacer(by_name)):
        yield


def _sites_of(model: Module, patterns: list[str]) -> dict[str, Site]:
    """Returns the activations that the patterns name, each with the module that makes it."""
    known = {name: site for site in sites(model) for name in site.names()}
    found: dict[str, Site] = {}
    for pattern in patterns:
        matching = [name for name in known if name == pattern or fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            raise _unknown(model, pattern, list(known))
        found |= {name: known[name] for name in matching}
    return found


def _unknown(model: Module, pattern: str, known: list[str]) -> ConfigError:
    if not known:
        return ConfigError(f"{type(model).__name__} has no activations with names: expected a model with Transformer or recurrent layers")
    close = difflib.get_close_matches(pattern, known, 3) or known[:3]
    return ConfigError(
        f"{type(model).__name__} has no activation {pattern!r:.80}: expected one of {len(known)}, such as {', '.join(close)}"
    )


@contextlib.contextmanager
def _watched(model: Module, found: Mapping[str, Site], watcher: Watcher) -> Iterator[None]:
    """Has a watcher see the activations of the modules at these sites, and leaves the model as it was."""
    instrumented = list({id(site.module): site for site in found.values()}.values())
    with _everything_stored(model):
        with _ONE_AT_A_TIME:
            for site in instrumented:
                own = vars(site.module).get("forward")
                if not isinstance(own, Instrumented):
                    own = vars(site.module)["forward"] = Instrumented(site, own)
                own.watchers.append(watcher)
        try:
            yield
        finally:
            with _ONE_AT_A_TIME:
                for site in instrumented:
                    own = vars(site.module)["forward"]
                    own.watchers.remove(watcher)
                    if not own.watchers:
                        own.leave()


@contextlib.contextmanager
def _everything_stored(model: Module) -> Iterator[None]:
    """Switches off recomputation, which would run a layer again in the backward pass, after the context."""
    changed = [module for module in model.modules() if getattr(module, "checkpoint_activations", False)]
    before = [vars(module).get("checkpoint_activations") for module in changed]
    for module in changed:
        vars(module)["checkpoint_activations"] = False
    try:
        yield
    finally:
        for module, value in zip(changed, before, strict=True):
            if value is None:
                del vars(module)["checkpoint_activations"]
            else:
                vars(module)["checkpoint_activations"] = value
