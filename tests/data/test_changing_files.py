"""Files that change, vanish or cannot be read while they are used, caches of other users, and tokenizations that are killed."""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylm.data import CharTokenizer, ShuffledBlocks, encoding, load_text, open_corpus, reading
from tinylm.data.corpora import read_text
from tinylm.data.labelled import load_labelled
from tinylm.data.pairs import load_pairs
from tinylm.data.token_files import write_tokens
from tinylm.errors import DataError
from tinylm.files.atomic import atomic_file, remove_abandoned
from tinylm.train import Run, TrainConfig

TEXT = "".join(f"Line {i}, the quick brown fox jumps over {i * i} dogs;\n" for i in range(400))
TOKENIZER = CharTokenizer(TEXT + "Q")
NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes texts of more than 100 characters be kept in files, read in small pieces; returns their folder."""
    monkeypatch.setattr(reading, "BYTES", 1000)
    monkeypatch.setattr(encoding, "IN_MEMORY", 100)
    monkeypatch.setenv("TINYLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


class Watched:
    """A tokenizer that does something before it encodes its n-th piece."""

    def __init__(self, number: int, then: Callable[[], Any]) -> None:
        self.left, self.then = number, then

    def __getattr__(self, name: str) -> Any:
        return getattr(TOKENIZER, name)

    def encode(self, piece: str) -> np.ndarray:
        self.left -= 1
        if self.left == 0:
            self.then()
        return TOKENIZER.encode(piece)


def as_nobody(task: Callable[[], Any], *reachable: Path) -> str:
    """Runs a task as another user; returns the error's type and message, or "". The parents of these paths are opened for it."""
    for path in reachable:
        for parent in (path, *path.parents):
            if parent != Path("/tmp") and Path("/tmp") in parent.parents and parent.is_dir():
                parent.chmod(parent.stat().st_mode | 0o055)
    reading_end, writing_end = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            task()
        except BaseException as error:
            os.write(writing_end, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing_end)
    os.waitpid(child, 0)
    with os.fdopen(reading_end, "rb") as file:
        return file.read().decode()


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


# ---------------------------------------------------------------- the cache


def damaged_by_another(path: Path) -> None:
    """Writes a sound token file of another text, as another user who may write here would."""
    path.unlink()
    write_tokens(path, [TEXT[::-1]], TOKENIZER)


@pytest.mark.parametrize("kind", ["owner", "mode", "link"])
def test_a_token_file_that_others_can_write_is_made_again(kind: str, cache: Path, text: Path, tmp_path: Path) -> None:
    part = open_corpus(text).train
    expected = TOKENIZER.encode("".join(part))
    encoding.token_ids(part, TOKENIZER)
    (path,) = cache.iterdir()
    damaged_by_another(path)
    if kind == "mode":
        path.chmod(0o666)
    elif os.getuid() != 0:
        pytest.skip("needs root, to give a file away")
    elif kind == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        os.chown(tmp_path / "elsewhere", NOBODY, -1)
    else:
        os.chown(path, NOBODY, -1)
    np.testing.assert_array_equal(encoding.token_ids(part, TOKENIZER), expected)
    (path,) = cache.iterdir()
    found = path.lstat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.getuid(), 0o600)


def test_a_folder_that_others_could_write_is_emptied(cache: Path, text: Path) -> None:
    """They may have exchanged one sound file for another."""
    part = open_corpus(text).train
    expected = TOKENIZER.encode("".join(part))
    encoding.token_ids(part, TOKENIZER)
    (path,) = cache.iterdir()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    damaged_by_another(path)
    (cache / "other.tokens").write_bytes(b"x")
    for mode in (0o777, 0o770):
        cache.chmod(mode)
        np.testing.assert_array_equal(encoding.token_ids(part, TOKENIZER), expected)
        assert list(cache.iterdir()) == [path]
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_a_cache_may_be_a_link_of_ones_own(cache: Path, text: Path, tmp_path: Path) -> None:
    cache.parent.mkdir()
    cache.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    encoding.token_ids(open_corpus(text).train, TOKENIZER)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


@as_root
@pytest.mark.parametrize("variable", ["TINYLM_CACHE", "XDG_CACHE_HOME", "HOME"])
def test_a_folder_of_another_user_is_refused(
    variable: str, cache: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TINYLM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "place"))
    below = {"TINYLM_CACHE": "tokens", "XDG_CACHE_HOME": "tinylm/tokens", "HOME": ".cache/tinylm/tokens"}[variable]
    folder = tmp_path / "place" / below
    folder.mkdir(parents=True)
    part = open_corpus(text).train
    os.chown(folder, NOBODY, -1)
    with pytest.raises(DataError, match=r"tokens belongs to another user\): set TINYLM_CACHE to a folder of your own"):
        encoding.token_ids(part, TOKENIZER)
    folder.rmdir()
    (tmp_path / "mine").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "mine")
    os.chown(folder, NOBODY, -1, follow_symlinks=False)
    with pytest.raises(DataError, match="belongs to another user"):
        encoding.token_ids(part, TOKENIZER)
    folder.unlink()
    folder.parent.chmod(0o700)
    said = as_nobody(lambda: encoding.token_ids(part, TOKENIZER), text)
    assert said.startswith("DataError: no place for token files")
    assert "Permission denied" in said


def test_a_file_that_is_cut_while_it_is_used(cache: Path, text: Path) -> None:
    """Reading on would end the process with a bus error."""
    ids = encoding.token_ids(open_corpus(text).train, TOKENIZER)
    batches = ShuffledBlocks(ids, 16, 4, 0)
    x, _ = batches[0]
    assert type(x) is type(ids[:3]) is np.ndarray
    (path,) = cache.iterdir()
    os.truncate(path, 128)
    with pytest.raises(DataError, match=r"\.tokens was cut while it was in use: 128 bytes, expected"):
        batches[1]
    with pytest.raises(DataError, match="was cut"):
        ids[0]
    np.testing.assert_array_equal(encoding.token_ids(open_corpus(text).train, TOKENIZER)[:9], TOKENIZER.encode(TEXT[:9]))


# ---------------------------------------------------------------- killed


def tokenize_and_die(part: Any, where: str) -> None:
    """Tokenizes in a process that is killed at the piece of that number, or when it calls the function of that name."""
    if (child := os.fork()) == 0:
        kill = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        if where == "flock":
            encoding.remove_abandoned = lambda folder: None  # it locks too
        module = {"mkstemp": "tempfile", "flock": "fcntl"}.get(where, "os")
        if where.isdigit():
            encoding.token_ids(part, Watched(int(where), kill))  # type: ignore[arg-type]
        else:
            setattr(sys.modules[module], where, kill)
            encoding.token_ids(part, TOKENIZER)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("where", ["mkstemp", "flock", "1", "5", "fsync", "replace"])
def test_what_a_killed_tokenization_leaves_is_removed(where: str, cache: Path, text: Path) -> None:
    part = open_corpus(text).train
    tokenize_and_die(part, where)
    left = list(cache.iterdir())
    assert len(left) == (where != "mkstemp")
    assert all(path.name.endswith(".partial") for path in left)
    np.testing.assert_array_equal(encoding.token_ids(part, TOKENIZER), TOKENIZER.encode("".join(part)))
    assert [path.suffix for path in cache.iterdir()] == [".tokens"]


def test_the_file_of_a_living_process_stays(tmp_path: Path) -> None:
    """Two processes may tokenize at the same time."""
    reading_end, writing_end = os.pipe()
    if (child := os.fork()) == 0:
        with atomic_file(tmp_path / "a.tokens") as file:
            file.write(b"half")
            file.flush()
            os.write(writing_end, b"x")
            time.sleep(60)
        os._exit(0)
    try:
        os.read(reading_end, 1)
        remove_abandoned(tmp_path)
        assert len(os.listdir(tmp_path)) == 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading_end)
        os.close(writing_end)
    remove_abandoned(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_taken_for_abandoned_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its making and its lock, another process may remove it."""
    make, made = tempfile.mkstemp, []

    def removed_at_once(**settings: Any) -> tuple[int, str]:
        handle, path = make(**settings)
        made.append(path)
        if len(made) < 3:
            os.unlink(path)
        return handle, path

    monkeypatch.setattr(tempfile, "mkstemp", removed_at_once)
    with atomic_file(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert len(made) == 3
