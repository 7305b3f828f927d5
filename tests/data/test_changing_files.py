"""Texts that change while they are used, and what cannot be read."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from file_cases import TEXT, TOKENIZER, Watched, as_nobody, as_root

from tinylm.data import encoding, load_text, open_corpus
from tinylm.data.corpora import read_text
from tinylm.data.labelled import load_labelled
from tinylm.data.pairs import load_pairs
from tinylm.data.reading import open_file
from tinylm.errors import DataError
from tinylm.train import Run, TrainConfig

# ---------------------------------------------------------------- texts that change


@pytest.mark.parametrize("edit", [TEXT.replace("fox", "dog"), TEXT + "Q", TEXT[:-500], TEXT[::-1]])
@pytest.mark.parametrize("piece", [1, 9])
def test_an_edit_during_tokenization_leaves_no_file(edit: str, piece: int, cache: Path, text: Path) -> None:
    part = open_corpus(text).train
    with pytest.raises(DataError, match=r"a\.txt was changed while it was being read"):
        encoding.token_ids(part, Watched(piece, lambda: text.write_text(edit, encoding="utf-8")))  # type: ignore[arg-type]
    assert list(cache.iterdir()) == []
    text.write_text(TEXT, encoding="utf-8")
    np.testing.assert_array_equal(encoding.token_ids(part, TOKENIZER), TOKENIZER.encode("".join(part)))


def test_an_edit_of_the_same_size_and_time_is_found(cache: Path, text: Path) -> None:
    before = text.stat()

    def edit() -> None:
        text.write_text(TEXT.replace("fox", "dog"), encoding="utf-8")
        os.utime(text, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(DataError, match="was changed"):
        encoding.token_ids(open_corpus(text).train, Watched(1, edit))  # type: ignore[arg-type]


def test_an_edit_before_a_run_in_memory(text: Path, tmp_path: Path) -> None:
    corpus = open_corpus(text)
    text.write_text(TEXT.replace("fox", "dog"), encoding="utf-8")
    with pytest.raises(DataError, match="was changed"):
        Run(TrainConfig(steps=1, n_layer=1, n_embd=16), tmp_path / "run", corpus)
    assert not (tmp_path / "run" / "config.json").exists()


# ---------------------------------------------------------------- what is no readable file


def test_devices_pipes_and_sockets_are_no_data(tmp_path: Path) -> None:
    pipe, path = tmp_path / "pipe.txt", tmp_path / "socket.txt"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        found = [(pipe, "a pipe"), (path, "a socket"), (Path("/dev/zero"), "a device"), (Path("/dev/full"), "a device")]
        for source, what in found:
            for load in (open_corpus, load_text, load_labelled, load_pairs):
                with pytest.raises(DataError, match=f"{source.name} is {what}, expected "):
                    load(source)
            with pytest.raises(DataError, match=r"(is (a pipe|a device), expected a text file|cannot read)"):
                read_text(source)
        (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
        (tmp_path / "gone.txt").symlink_to("nowhere")
        (tmp_path / "loop.txt").symlink_to("loop.txt")
        (tmp_path / "link").symlink_to(tmp_path)
        skipped = dict(open_corpus(tmp_path).skipped)
    assert skipped == {
        "pipe.txt": "a pipe", "socket.txt": "a socket", "gone.txt": "a link that leads nowhere", "loop.txt": "a link that leads nowhere",
        "link": "a link to a folder",
    }  # fmt: skip
    with pytest.raises(DataError, match="is a folder, expected a text file"):
        load_pairs(tmp_path)
    for name in ("a" * 300, "a.txt/b", "x\0y"):
        with pytest.raises(DataError, match=r"no such data|File name too long"):
            open_corpus(tmp_path / name)


def test_a_file_on_standard_input_may_be_a_pipe() -> None:
    program = "from pathlib import Path; from tinylm.data.corpora import read_text; print(read_text(Path('/dev/stdin')))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], input="héllo\n", capture_output=True, encoding="utf-8", env=environment)
    assert (done.stdout, done.stderr) == ("héllo\n\n", "")


def test_reading_waits_for_a_slow_writer() -> None:
    """Opening does not wait, reading does."""
    out, into = os.pipe()
    try:
        with open_file(Path(f"/dev/fd/{out}")) as file:
            assert os.get_blocking(file.fileno())
    finally:
        os.close(out)
        os.close(into)


@as_root
def test_what_another_user_may_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    for name in ("open", "closed", ".hidden"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.txt").write_text(name + TEXT, encoding="utf-8")
    as_nobody(lambda: None, folder / "open")
    (folder / ".hidden").chmod(0o700)
    for mode, message in [
        (0o700, f"DataError: cannot read the folder {folder}/closed: Permission denied"),
        (0o744, f"DataError: cannot read {folder}/closed/a.txt: Permission denied"),
        (0o755, ""),
    ]:
        (folder / "closed").chmod(mode)
        for load in (open_corpus, load_text):
            assert as_nobody(lambda load=load: load(folder)) == message
    (folder / "closed" / "a.txt").chmod(0o600)
    assert as_nobody(lambda: open_corpus(folder)) == f"DataError: cannot read {folder}/closed/a.txt: Permission denied"
    (folder / "closed").chmod(0o700)
    assert as_nobody(lambda: open_corpus(folder / "closed" / "a.txt")).endswith("a.txt': Permission denied")
    assert as_nobody(lambda: load_pairs(folder / "closed" / "a.txt")).startswith("DataError: cannot read")
