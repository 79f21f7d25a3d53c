"""Strict modes for every test: ranks never promote, dtypes never promote, warnings are errors (see pyproject.toml).

Most of the time of a test is compilation, of programs that run once: LLVM optimises them little, and what one test or
worker, or a process that tests start, has compiled is kept for the others until the session ends. Most of the rest is
tracing, which makes many small objects: what is imported is left out of the search for garbage, which is rarer.
"""

import gc
import os
import signal
import tempfile

# Before jax is imported; workers and processes that tests start have it too.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
if 'PYTEST_XDIST_WORKER' not in os.environ and 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix='kdjax-compiled-')
    os.environ['JAX_COMPILATION_CACHE_DIR'] = COMPILED.name
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 5)


@pytest.fixture
def signalled(monkeypatch):
    """SIGTERM once, when the row of step 3 is written."""
    from kdjax.run.session import Session  # after the hooks that check types

    log, sent = Session._log, []

    def logged(self, step, row):
        log(self, step, row)
        if step == 3 and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGTERM))

    monkeypatch.setattr(Session, '_log', logged)
