"""Classifiers of more than two classes, and the linear one: what is asked about them is about their own probabilities."""

import json
import re
from typing import Any

import numpy as np
import pytest

from tinylm import explain
from tinylm.data.tokenizers import WordTokenizer
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError
from tinylm.explain.asked_logit import asked_logit
from tinylm.explain.plots import training_curves
from tinylm.explain.reading import ClassifierReading
from tinylm.models.classifier import BagClassifier, Ensemble, LinearClassifier, LSTMClassifier, TextClassifier, TransformerClassifier

WORDS = WordTokenizer([" soup", " film", " call", " hot", " loud"])
NAMES = ("film", "food", "phone")
IDS = np.array([1, 4, 2, 5])
TEXT = "soup hot film loud"


def log_p_of(model: Any, ids: np.ndarray = IDS) -> np.ndarray:
    z = model.eval()(Tensor(ids[None]), np.array([len(ids)])).data[0].astype(np.float64)
    return z - np.logaddexp.reduce(z)


def randomised(model: TextClassifier) -> Any:
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data[...] = 0.5 * rng.standard_normal(p.shape)
    return model.eval()


@pytest.fixture(
    scope="module",
    params=[lambda: LSTMClassifier(6, 4, 5, classes=3), lambda: TransformerClassifier(6, 8, 2, 6, 2, classes=3)],
    ids=["lstm", "transformer"],
)
def model(request: pytest.FixtureRequest) -> Any:
    return randomised(Ensemble([request.param() for _ in range(2)], calibrated=True))


def test_the_lens_ends_with_the_models_own_probabilities(model: Any) -> None:
    found = explain.lens(model, IDS, label=2, texts=NAMES.__getitem__)
    log_p = log_p_of(model)
    assert found.top[-1, 0].tolist() == np.argsort(-log_p).tolist()
    np.testing.assert_allclose(found.probabilities[-1, 0], np.sort(np.exp(log_p))[::-1], rtol=1e-4)
    np.testing.assert_allclose(found.loss[-1], [-log_p[2]], rtol=1e-4)


def test_what_a_part_is_worth_is_the_loss_of_the_label(model: Any) -> None:
    found = explain.ablate(model, IDS, label=1)
    assert found.loss == pytest.approx(-log_p_of(model)[1], rel=1e-4)
    with pytest.raises(RangeError, match="label is 3: expected 0 to 2"):
        explain.ablate(model, IDS, label=3)


def test_patching_measures_two_classes(model: Any) -> None:
    other = np.array([2, 1, 3, 5])
    found = explain.patch(model, IDS, other, labels=NAMES)
    own, theirs = log_p_of(model), log_p_of(model, other)
    said, instead = own.argmax(), theirs.argmax()
    if said == instead:
        assert found.metric == f"log-probability of {NAMES[said]!r}"
        assert (found.in_text, found.in_other) == pytest.approx((own[said], theirs[said]), rel=1e-4)
    else:
        assert found.metric == f"logit of {NAMES[said]!r} minus logit of {NAMES[instead]!r}"
        assert found.in_text == pytest.approx(own[said] - own[instead], rel=1e-4)


@pytest.mark.parametrize("kind", ["linear", "bag", "lstm"])
def test_a_reading_of_three_classes(kind: str) -> None:
    made = {
        "linear": lambda: LinearClassifier(6, 9, classes=3),
        "bag": lambda: BagClassifier(6, 4, 9, classes=3),
        "lstm": lambda: LSTMClassifier(6, 4, 5, classes=3),
    }
    model = randomised(Ensemble([made[kind]() for _ in range(2)]))
    log_p = log_p_of(model)
    assert ClassifierReading(model, WORDS, NAMES, TEXT, None, "cpu").label == NAMES[log_p.argmax()]
    read = ClassifierReading(model, WORDS, NAMES, TEXT, "phone", "cpu")
    assert read.loss().item() == pytest.approx(-log_p[2], rel=1e-4)
    logits = model(Tensor(IDS[None]), np.array([4])).data[0]
    np.testing.assert_allclose(asked_logit(read).score(3).data, [logits[2]] * 3, rtol=1e-5)
    with pytest.raises(ConfigError, match="label 'other': expected one of 'film'; 'food'; 'phone'"):
        ClassifierReading(model, WORDS, NAMES, TEXT, "other", "cpu")


def record_of(page: explain.ModelPage) -> dict[str, Any]:
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page.content.decode("utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1].replace("\\u003c", "<"))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_page_of_a_linear_model(classes: int) -> None:
    """What the words add, and b, is the logit of two classes; of three the page decides between the label and all others."""
    names = NAMES[:classes]
    model = randomised(Ensemble([LinearClassifier(6, 50, classes=classes) for _ in range(2)], calibrated=True))
    record = record_of(explain.model_page(model, WORDS, "soup hot film soup hot", labels=names))
    run = record["run"]
    assert run["formula"] == "s V"
    ids = np.array([1, 4, 2, 1, 4])
    if classes == 2:
        bias = np.mean([member.bias.data[0] for member in model.members])
        assert sum(run["adds"]) + bias == pytest.approx(run["logit"], rel=1e-4)
        assert record["labels"] == list(names)
    else:
        log_p = log_p_of(model, ids)
        said = log_p.argmax()
        assert record["labels"] == ["another label", names[said]]
        assert 1 / (1 + np.exp(-run["logit"])) == pytest.approx(np.exp(log_p[said]), rel=1e-4)
        bias = np.mean([member.bias.data[said] for member in model.members])
        logit = model(Tensor(ids[None]), np.array([5])).data[0, said]
        assert sum(run["adds"]) + bias == pytest.approx(logit, rel=1e-4)
    assert "classes apart" in record["problem"] if classes == 3 else "LinearClassifier" in record["problem"]


def test_a_linear_model_has_no_layers() -> None:
    with pytest.raises(ConfigError, match="a LinearClassifier has no layers to look into"):
        explain.lens(LinearClassifier(6, 9), IDS)


def test_the_curves_of_members_and_their_validation() -> None:
    """Dashed, in the member's colour, and named once."""
    records = [{"member": m, "step": s, "loss": 1 / s, "val_loss": 2 / s} for m in (1, 2) for s in (5, 10)]
    figure = training_curves(records)
    assert figure is not None
    lines = figure.axes[0].lines
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", "--"]
    assert [line.get_ydata().tolist() for line in lines] == [[0.2, 0.1], [0.4, 0.2]] * 2
    assert lines[1].get_color() == lines[0].get_color() != lines[2].get_color()
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["training, member 1", "validation of each", "training, member 2"]
    without = training_curves([{k: v for k, v in record.items() if k != "val_loss"} for record in records])
    assert without is not None
    assert len(without.axes[0].lines) == 2
