"""The cache's folder: from the environment, from the home folder, and an error without either."""

from pathlib import Path

import pytest

from tinylm.files.cache import cache_folder


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TINYLM_CACHE": "/cache", "XDG_CACHE_HOME": "/xdg"}, "/cache/tokens"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/tinylm/tokens"),
        ({"TINYLM_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/home/someone"}, "/home/someone/.cache/tinylm/tokens"),
    ],
)
def test_the_first_that_is_set(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TINYLM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder("tokens") == Path(expected)


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TINYLM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory.")))
    with pytest.raises(FileNotFoundError, match="home"):
        cache_folder("cpu_kernels")
