"""The same seed gives the same numbers whatever the number of threads of NumPy's and SciPy's BLAS, and of tinylm's own."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tinylm.files.notices import warn_once
from tinylm.train.tasks import latent_semantics
from tinylm.train.tasks.latent_semantics import latent_embedding, one_blas_thread

PROGRAM = """
import hashlib
import numpy as np
from threadpoolctl import threadpool_info
from tinylm.nn import Parameter
from tinylm.optim import Muon
from tinylm.train.tasks.latent_semantics import latent_embedding

def show(name, a):
    print(name, hashlib.sha256(a.tobytes()).hexdigest())

rng = np.random.default_rng(0)
for tokens in (400, 600):  # decomposed as a whole, and by the iteration
    show(f"{tokens} tokens", latent_embedding([rng.choice(tokens, 9, replace=False) for _ in range(600)], tokens, 128))
parameters = [Parameter(rng.standard_normal(shape).astype(np.float32)) for shape in ((384, 128), (128, 384), (200, 150))]
optimizer = Muon(parameters)
for step in range(3):
    for p in parameters:
        p.grad = rng.standard_normal(p.shape).astype(np.float32)
    optimizer.step(max_norm=1.0)
for p in parameters:
    show(f"Muon {p.shape}", p.data)
print("threads", max(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"))
"""


def results(**variables: str) -> dict[str, str]:
    """Returns the digest of each result by its name, and the number of BLAS threads that the process has."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={**environment, "TINYLM_KERNELS": "auto", **variables}
    )
    assert done.returncode == 0, done.stderr
    return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())


def test_a_seed_gives_the_same_embedding_and_the_same_updates() -> None:
    one = results(OPENBLAS_NUM_THREADS="1", TINYLM_NUM_THREADS="1")
    assert len(one) == 6
    for variables in ({"OPENBLAS_NUM_THREADS": "2", "TINYLM_NUM_THREADS": "1"}, {"TINYLM_NUM_THREADS": "3"}):
        other = results(**variables)
        assert other.pop("threads")
        assert other == {k: v for k, v in one.items() if k != "threads"}


def set_blas_threads(number: int) -> None:
    """Sets it for the process. threadpoolctl lets one thread at a time do so until it ends, so another one does it here."""
    setter = threading.Thread(target=threadpool_limits, args=(number, "blas"))
    setter.start()
    setter.join()


@pytest.mark.skipif(sys.platform == "darwin", reason="Accelerate has no number of threads")
def test_the_number_of_blas_threads_is_one_inside_and_what_it_was_before_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    def numbers() -> set[int]:
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

    seen = []
    real = latent_semantics.svds
    monkeypatch.setattr(latent_semantics, "svds", lambda *args, **more: (seen.append(numbers()), real(*args, **more))[1])
    docs = [np.array([i % 3, 3 + i % 2]) for i in range(60)]
    before = max(numbers())
    set_blas_threads(2)
    try:
        callers = [threading.Thread(target=latent_embedding, args=(docs, 6, 4)) for _ in range(4)]
        for each in callers:
            each.start()
        for each in callers:
            each.join()
        assert numbers() == {2}
        with pytest.raises(ZeroDivisionError), one_blas_thread(), one_blas_thread():
            _ = 1 / 0
        assert numbers() == {2}
    finally:
        set_blas_threads(before)
    assert seen == [{1}] * 4


@pytest.mark.skipif(sys.platform == "darwin", reason="Accelerate has no number of threads")
def test_a_thread_that_cannot_set_the_number_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """From version 3.8 on, threadpoolctl does nothing while another thread has a limit."""
    warn_once.cache_clear()
    docs = [np.array([i % 3, 3 + i % 2]) for i in range(60)]
    expected = latent_embedding(docs, 6, 4)
    assert capsys.readouterr().err == ""
    found, limited = [], []

    def embed() -> None:
        found.append(latent_embedding(docs, 6, 4))
        with one_blas_thread():
            limited.append(all(each["num_threads"] == 1 for each in threadpool_info() if each["user_api"] == "blas"))

    with threadpool_limits(2, user_api="blas"):
        caller = threading.Thread(target=embed)
        caller.start()
        caller.join()
    np.testing.assert_allclose(found[0], expected, atol=1e-9)
    assert ("number of BLAS threads cannot be set" in capsys.readouterr().err) is not limited[0]
