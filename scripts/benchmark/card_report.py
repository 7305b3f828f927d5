"""What `first_card.py` found, in a screenful: kernels, cases, and the times of both libraries."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of JSON of a file; a line that was cut off is left out."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def wrong_files(path: Path, files: list[str]) -> list[str]:
    """Returns the files whose cases are wrong, or gave no answer."""
    right = {row["file"] for row in rows(path) if row["ok"]}
    return [name for name in files if name not in right]


def kernel_lines(out: Path) -> list[str]:
    compiled = list(rows(out / "kernels.jsonl"))
    lines = [f"kernel files compiled: {sum(row['ok'] for row in compiled)} of {len(compiled)}"]
    for row in compiled:
        lines += [f"  {row['file']}: {fault}" for fault in [*row.get("faults", ()), *filter(None, [row.get("raised")])]]
        for kernel, used in row.get("kernels", {}).items():
            if "attention" in kernel:
                lines.append(f"  {row['file']} {kernel}: {used['num_regs']} registers, {used['shared_size_bytes']} bytes of shared memory")
    cases = list(rows(out / "cases.jsonl"))
    worst = max((row["error"] for row in cases if "error" in row), default=0.0)
    lines.append(f"cases: {sum(row['ok'] for row in cases)} of {len(cases)} files right, largest relative error {worst:.1e}")
    lines += [f"  {row['file']}: {row.get('raised') or '; '.join(row['wrong'])}"[:300] for row in cases if not row["ok"]]
    return lines


def step_lines(out: Path) -> list[str]:
    """Returns the table of the workloads: milliseconds of a step on the card and on the host, and tinylm's time divided by PyTorch's."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows(out / "steps.jsonl"):
        found.setdefault(row["workload"], {})[row["side"]] = row
    lines = ["workload               tinylm ms  queued  PyTorch ms  queued  ratio  tinylm TF32  PyTorch TF32  ratio"]
    for name, sides in found.items():

        def cell(side: str, key: str, width: int, sides: dict[str, Any] = sides) -> str:
            value = sides.get(side, {}).get(key)
            return f"{'-' if value is None else format(value, '.3f'):>{width}}"

        def ratio(ours: str, theirs: str, sides: dict[str, Any] = sides) -> str:
            times = [sides.get(side, {}).get("ms") for side in (ours, theirs)]
            return f"{times[0] / times[1] if all(times) else float('nan'):7.2f}"

        lines.append(
            f"{name:22}{cell('tinylm', 'ms', 10)}{cell('tinylm', 'host_ms', 8)}{cell('torch', 'ms', 12)}{cell('torch', 'host_ms', 8)}"
            f"{ratio('tinylm', 'torch')}{cell('tinylm-tf32', 'ms', 13)}{cell('torch-tf32', 'ms', 14)}{ratio('tinylm-tf32', 'torch-tf32')}"
        )
        lines += [f"  failed: {row['side']}: {row['failed'][:200]}" for row in sides.values() if "failed" in row]
    return lines


def report(out: Path) -> str:
    return "\n".join([*kernel_lines(out), *step_lines(out)])
