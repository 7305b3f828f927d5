"""explain.py page: the model itself as a page, to type in, look into and change."""

from dataclasses import dataclass
from pathlib import Path

from inside.readings import Reading, load
from tinylm.errors import ConfigError
from tinylm.explain.live.model_page import reading_page


@dataclass(frozen=True)
class LivePage(Reading):
    """Writes one HTML file with the model inside. Opened in a browser, also without a network, it computes whatever text is typed
    and shows every number on the way, from the embedding to the loss; heads, MLPs, units and weights can be switched off or
    scaled. A second tab is the backward pass of TEXT. A model of more than three million parameters, a translator, or a model
    whose tokens are neither characters nor words is shown as it read TEXT."""

    out: Path = Path("inside.html")
    """the page"""
    exact: bool = False
    """keep the weights in float32 instead of rounding them to float16: a file of twice the size"""


def page(arguments: LivePage) -> None:
    if arguments.precision != "float32":
        raise ConfigError(f"--precision {arguments.precision}: a page computes in float32")
    made = reading_page(load(arguments), None if arguments.dry_run else arguments.out, arguments.exact)
    print(f"{'would write' if arguments.dry_run else 'written'}: {arguments.out}, {len(made.content) / 1e6:.1f} MB")
    print(f"the page shows a recorded run: {made.problem}" if made.problem else "the page computes whatever text is typed into it")
