"""RNNModel: a language model out of recurrent layers.

The recurrent model of PyTorch's word-level language modelling example, with its names.
"""

from collections.abc import Sequence
from typing import Any

from tinylm import nn
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models.language_model import LanguageModel


class RNNModel(LanguageModel):
    """Logits of the next token at every position, and the state to go on with.

    logits = decoder(drop(rnn(input_drop(encoder(ids))))).
    rnn_type: 'rnn', 'lstm' or 'gru'; ntoken: how many tokens there are; ninp: the width of the
    embedding; nhid: hidden units a layer; nlayers: layers; dropout: between the layers and on the
    output, and on the embedding where input_dropout is not given; tie_weights: the decoder's weight is the embedding itself (needs
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
        for name, value in (("ntoken", ntoken), ("ninp", ninp), ("nhid", nhid), ("nlayers", nlayers)):
            if value < 1:
                raise ConfigError(f"{name} is {value}: expected at least 1")
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

    def forward(self, ids: Tensor, hidden: Any = None) -> tuple[Tensor, Any]:
        """ids (T, N), sequence first, and the layers' state (zeros for None) -> logits
        (T, N, ntoken) and the new state: h (nlayers, N, nhid), or (h, c) for an LSTM."""
        y, hidden = self._through_layers(ids, hidden)
        return self.decoder(self.drop(y)), hidden

    def _through_layers(self, ids: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        return self.rnn(self.input_drop(self.encoder(ids)), hidden)

    def advance(self, ids: Tensor, state: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """As LanguageModel.advance; the state is [h], or [h, c] for an LSTM."""
        logits, hidden = self.forward(ids.transpose(1, 0), self._hidden(state))
        return logits.transpose(1, 0, 2), self._state(hidden)

    def read(self, ids: Tensor, state: Sequence[Tensor] | None = None) -> list[Tensor]:
        """As LanguageModel.read: through the layers only."""
        return self._state(self._through_layers(ids.transpose(1, 0), self._hidden(state))[1])

    def _hidden(self, state: Sequence[Tensor] | None) -> Any:
        """A state as the layers take it."""
        return None if state is None else tuple(state) if isinstance(self.rnn, nn.LSTM) else state[0]

    def _state(self, hidden: Any) -> list[Tensor]:
        """And back."""
        return list(hidden) if isinstance(self.rnn, nn.LSTM) else [hidden]
