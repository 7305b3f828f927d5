"""RNNModel: a language model of recurrent layers.

The recurrent model of PyTorch's word-level language modelling example, with its names.
"""

from typing import Any

from tinylm import nn
from tinylm.checks import check_sizes
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models.language_model import LAST, LanguageModel

Hidden = Tensor | tuple[Tensor, Tensor]  # h, or (h, c) of an LSTM, each (nlayers, N, nhid)


class RNNModel(LanguageModel[Tensor]):
    """Logits of the next token at every position, and the state to go on with.

    logits = decoder(drop(rnn(input_drop(encoder(ids))))).
    rnn_type: 'rnn', 'lstm' or 'gru'; ntoken: how many tokens there are; ninp: the width of the
    embedding; nhid: hidden units per layer; nlayers: layers; dropout: between the layers and on the
    output, and on the embedding if input_dropout is None; tie_weights: the decoder's weight is the embedding itself (needs
    ninp = nhid; Press & Wolf 2016, arXiv:1608.05859); nonlinearity of an 'rnn': 'tanh', 'relu' or
    'sigmoid'. The embedding starts as N(0, 1), the decoder as U(-1/√nhid, 1/√nhid); tied, both start
    as U(-0.1, 0.1). Recurrent layers learn from inputs of that size faster than from small ones.
    """

    def __init__(
        self,
        rnn_type: str,
        ntoken: int,
        ninp: int,
        nhid: int,
        nlayers: int,
        dropout: float = 0.5,
        tie_weights: bool = False,
        nonlinearity: str = "tanh",
        input_dropout: float | None = None,
    ) -> None:
        super().__init__()
        kinds = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
        if rnn_type not in kinds:
            raise ConfigError(f"rnn_type {rnn_type!r}: expected 'rnn', 'lstm' or 'gru'")
        check_sizes(ntoken=ntoken, ninp=ninp, nhid=nhid, nlayers=nlayers)
        if tie_weights and ninp != nhid:
            raise ConfigError(f"tied weights need ninp = nhid, got {ninp} and {nhid}")
        self.vocab_size, self.block_size = ntoken, None
        self.drop = nn.Dropout(dropout)
        self.input_drop = nn.Dropout(dropout if input_dropout is None else input_dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        settings: dict[str, Any] = {"nonlinearity": nonlinearity} if rnn_type == "rnn" else {}
        self.rnn = kinds[rnn_type](ninp, nhid, nlayers, dropout=dropout, **settings)
        self.decoder = nn.Linear(nhid, ntoken)
        if tie_weights:
            self.decoder.weight = self.encoder.weight
            nn.init.fill_uniform(self.encoder.weight, 0.1)

    def forward(self, ids: Tensor, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        """ids (T, N), sequence first, and the layers' state (zeros for None) -> logits
        (T, N, ntoken) and the new state."""
        y, hidden = self._through_layers(ids, hidden)
        return self.decoder(self.drop(y)), hidden

    def _through_layers(self, ids: Tensor, hidden: Hidden | None) -> tuple[Tensor, Hidden]:
        """ids (T, N) -> the last layer's outputs (T, N, nhid) and the new state."""
        return self.rnn(self.input_drop(self.encoder(ids)), hidden)

    def advance(self, ids: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """As LanguageModel.advance; the state is [h], or [h, c] for an LSTM."""
        logits, hidden = self.forward(ids.transpose(1, 0), _hidden(state))
        return logits.transpose(1, 0, 2), _state(hidden)  # (T, N, ntoken) -> (N, T, ntoken)

    def advance_to_last(self, ids: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """As LanguageModel.advance_to_last."""
        y, hidden = self._through_layers(ids.transpose(1, 0), _hidden(state))
        return self.decoder(self.drop(y[-LAST:]))[-1], _state(hidden)

    def read(self, ids: Tensor, state: list[Tensor] | None = None) -> list[Tensor]:
        """As LanguageModel.read: through the layers only."""
        return _state(self._through_layers(ids.transpose(1, 0), _hidden(state))[1])


def _hidden(state: list[Tensor] | None) -> Hidden | None:
    """Returns the state in the form that the recurrent layers take: an LSTM's two tensors as a pair."""
    return None if state is None else state[0] if len(state) == 1 else (state[0], state[1])


def _state(hidden: Hidden) -> list[Tensor]:
    """Returns what the recurrent layers gave as a list."""
    return [hidden] if isinstance(hidden, Tensor) else list(hidden)
