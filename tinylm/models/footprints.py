"""How many numbers a model holds, from its settings alone: what cannot fit into memory is refused before any of it is built.

All is exact arithmetic on integers, however large. A test compares each formula with the built model.
"""

from typing import NamedTuple

_LAYER = 4096  # bytes that the Python objects of one layer take at the very least
_POSITIONS = 5000  # of nn.PositionalEncoding


class Footprint(NamedTuple):
    """parameters, buffers: how many numbers, float32.  layers: how many layers, of all members together."""

    parameters: int
    layers: int
    buffers: int = 0

    def times(self, members: int) -> "Footprint":
        """Returns that of so many such models."""
        return Footprint(*(members * n for n in self))

    def loaded(self) -> int:
        """Returns the bytes that the model itself takes."""
        return 4 * (self.parameters + self.buffers) + _LAYER * self.layers

    def trained(self, states: int) -> int:
        """Returns the bytes with the gradients, and `states` numbers of the optimiser's per parameter."""
        return self.loaded() + 4 * self.parameters * (1 + states)


def gpt(vocab: int, block: int, layers: int, width: int, bias: bool) -> Footprint:
    """Of models.GPT."""
    each = 12 * width**2 + 2 * width + bias * 11 * width
    return Footprint((vocab + block) * width + layers * each + (1 + bias) * width, layers)


def llama(vocab: int, layers: int, width: int, heads: int, key_heads: int, hidden: int, bias: bool) -> Footprint:
    """Of models.Llama with a tied head, heads of width / heads, and the same biases in attention and feed-forward."""
    keys = width // heads * key_heads
    each = 2 * width * (width + keys) + 3 * width * hidden + 2 * width + bias * (3 * width + 2 * keys + 2 * hidden)
    return Footprint(vocab * width + layers * each + width, layers)


def _attention(width: int) -> int:
    return 4 * width**2 + 4 * width


def _transformer_layer(width: int, hidden: int, attentions: int = 1) -> int:
    norms = 2 * width * (1 + attentions)
    return attentions * _attention(width) + 2 * width * hidden + hidden + width + norms


def transformer_lm(vocab: int, layers: int, width: int, hidden: int) -> Footprint:
    """Of models.TransformerModel."""
    return Footprint(2 * vocab * width + vocab + layers * _transformer_layer(width, hidden), layers, _POSITIONS * width)


def _recurrent(gates: int, layers: int, width: int, hidden: int, directions: int = 1) -> int:
    first, other = (directions * gates * hidden * (n + hidden + 2) for n in (width, directions * hidden))
    return first + (layers - 1) * other


def rnn_lm(kind: str, vocab: int, layers: int, width: int, hidden: int) -> Footprint:
    """Of models.RNNModel with a decoder of its own; kind: rnn, lstm or gru."""
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
    return Footprint(vocab * width + _recurrent(gates, layers, width, hidden) + vocab * (hidden + 1), layers)


def linear_classifier(vocab: int, buckets: int, outputs: int = 1) -> Footprint:
    """Of models.classifier.LinearClassifier."""
    return Footprint((vocab + buckets + 1) * outputs, 1, vocab + buckets)


def bag_classifier(vocab: int, width: int, buckets: int, outputs: int = 1) -> Footprint:
    """Of models.classifier.BagClassifier."""
    return Footprint((vocab + buckets) * width + (width + 1) * outputs, 1, vocab + buckets)


def lstm_classifier(vocab: int, width: int, hidden: int, layers: int, outputs: int = 1) -> Footprint:
    """Of models.classifier.LSTMClassifier."""
    return Footprint(vocab * width + _recurrent(4, layers, width, hidden, directions=2) + (2 * hidden + 1) * outputs, layers)


def transformer_classifier(vocab: int, width: int, hidden: int, layers: int, outputs: int = 1) -> Footprint:
    """Of models.classifier.TransformerClassifier."""
    each = _transformer_layer(width, hidden)
    return Footprint(vocab * width + layers * each + 2 * width + (width + 1) * outputs, layers, _POSITIONS * width)


def translator(vocab: int, width: int, hidden: int, layers: int, longest: int) -> Footprint:
    """Of models.translator.Translator."""
    each = _transformer_layer(width, hidden) + _transformer_layer(width, hidden, attentions=2)
    return Footprint(vocab * width + layers * each + 4 * width, 2 * layers, longest * width)


def recurrent_translator(vocab: int, width: int, layers: int) -> Footprint:
    """Of models.translator.RecurrentTranslator."""
    return Footprint(vocab * width + 2 * _recurrent(4, layers, width, width), 2 * layers)
