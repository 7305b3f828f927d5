"""The metrics of a run in TensorBoard's event format."""

from pathlib import Path
from typing import Any

from tinylm.errors import ConfigError


def summary_writer() -> Any:
    """Returns tensorboardX's class. Raises ConfigError if it is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ConfigError("records for TensorBoard need tensorboardX, which is missing: pip install 'tinylm[tensorboard]'") from error
    return SummaryWriter


class TensorBoardLog:
    """Takes the records that metrics.jsonl gets: every number becomes a curve over the steps, as does each of a
    group under group/name, and samples are texts. Records of steps after `resume_at` that an earlier part of the run left are hidden.

    Raises ConfigError as `summary_writer` does.
    """

    def __init__(self, folder: Path, resume_at: int = 0) -> None:
        self.writer = summary_writer()(str(folder), purge_step=resume_at + 1, flush_secs=10)

    def __call__(self, record: dict[str, Any]) -> None:
        if "sample" in record:
            self.writer.add_text("sample", record["sample"], record["step"])
            return
        for name, value in record.items():
            for path, number in ((f"{name}/{part}", n) for part, n in value.items()) if isinstance(value, dict) else ((name, value),):
                if path != "step":
                    self.writer.add_scalar(path, number, record["step"])

    def __enter__(self) -> "TensorBoardLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()
