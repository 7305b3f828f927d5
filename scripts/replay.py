"""Repeats the training step at which a run met a value that is not finite, and says where it came from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table
from support import console
from support.tables import screen

from tinylm.train.failures import explained
from tinylm.train.replay import replay


@dataclass(frozen=True)
class Arguments:
    """Repeats the step at which a run stopped, from the batch, the weights and the random state in its folder failure/.
    Prints the loss, the parameters whose weights or gradients are not finite, and the op, the source line and the
    inputs that produced the first such value. The exit status is 1 if the step is finite this time. In your own code
    tinylm.train.replay.failed_run(RUN) returns the run as it was before the step."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder"""


def main() -> int:
    report = replay(console.parse(Arguments).run)
    print(explained(report))
    table = Table("parameter", "size", "largest weight", "not finite", "largest gradient", "not finite", box=None)
    for name, s in report["parameters"].items():
        columns = [(f"{s[k]['largest']:.4g}", str(s[k]["not_finite"])) if s[k] else ("none", "") for k in ("weights", "gradient")]
        table.add_row(name, f"{s['size']:,}", *columns[0], *columns[1])
    screen(140).print(table)
    return 0 if isinstance(report["loss"], str) or isinstance(report["gradient_norm"], str) else 1


if __name__ == "__main__":
    console.run(main)
