"""transformers, or a skip where it is not installed."""

import contextlib
import importlib
import sys
import warnings

import pytest


def transformers():
    """The library. A torchvision of another build than torch fails when imported; nothing needs it here: hidden."""
    with warnings.catch_warnings(), _without('torchvision'):
        warnings.simplefilter('ignore')
        pytest.importorskip('torch')
        found = pytest.importorskip('transformers')
        found.utils.is_torchvision_available()
    return found


@contextlib.contextmanager
def _without(package):
    """Hidden if it is broken; what asks then whether it is there remembers that it is not."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            importlib.import_module(package)
        except (ImportError, RuntimeError):
            patch.setitem(sys.modules, package, None)
        yield
