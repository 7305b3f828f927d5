"""The token files of a cache: of other users, cut while they are used, and left by processes that were killed."""

import os
import signal
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from file_cases import NOBODY, TEXT, TOKENIZER, Watched, as_nobody, as_root

from tinylm.data import ShuffledBlocks, encoding, open_corpus
from tinylm.data.token_files import write_tokens
from tinylm.errors import DataError
from tinylm.files.atomic import atomic_file, remove_abandoned

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
    with pytest.raises(DataError, match="was cut"):
        ids[:]
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
