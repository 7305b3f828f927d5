"""What mypy knows about a call of a module: the parameters and the result of its forward."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = """
from tinylm import nn
from tinylm.engine.tensor import Tensor
from tinylm.models import GPT, GPTConfig

class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))

    def forward(self, x: Tensor, times: int = 1) -> Tensor:
        for layer in self.layers:
            x = layer(x, actvation="gelu")
        return x

def use(x: Tensor, model: GPT) -> None:
    reveal_type(nn.Linear(2, 3)(x))
    reveal_type(nn.LSTM(2, 3)(x))
    reveal_type(Net().eval())
    reveal_type(model.blocks()[0](x))
    reveal_type(model.advance(x)[1])
    Net()(x, tmies=2)
    nn.LSTM(2, 3)(x, length=[1])
    model.loss(x)
"""


def test_mypy_sees_the_types_and_the_mistakes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), "--follow-imports=silent"]
    command.append(f"--cache-dir={root / '.mypy_cache' / 'modules'}")  # that of `mypy` is for other options
    done = subprocess.run([*command, str(tmp_path / "script.py")], cwd=root, capture_output=True, text=True, timeout=300)
    tensor = "tinylm.engine.tensor.Tensor"
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert revealed == [
        tensor, f"tuple[{tensor}, tuple[{tensor}, {tensor}]]", "script.Net", tensor, "list[tinylm.nn.key_value_cache.KeyValueCache]",
    ]  # fmt: skip
    mistakes = re.findall(r"error: (.*?)(?: for | in )", done.stdout)
    assert mistakes == [
        'Unexpected keyword argument "actvation"', 'Unexpected keyword argument "tmies"', 'Unexpected keyword argument "length"',
        'Missing positional argument "targets"',
    ]  # fmt: skip
