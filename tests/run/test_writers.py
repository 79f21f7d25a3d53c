"""metrics.jsonl and the trackers that mirror it, by one protocol."""

import json
import sys
import types

import pytest

from kdjax.errors import UserError
from kdjax.run.writers import Jsonl, tracker


class Calls:
    """Stands for a tracker's package, and remembers what it was told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.told.append((name, args, kwargs))
            return self

        return call


def package(monkeypatch, name):
    calls = Calls()
    module = types.ModuleType(name)
    module.__getattr__ = lambda attribute: getattr(calls, attribute)
    monkeypatch.setitem(sys.modules, name, module)
    return calls


def test_jsonl_holds_a_row_a_line_and_no_nan(tmp_path):
    writer = Jsonl(tmp_path / 'metrics.jsonl')
    writer.write(1, {'loss': 0.5})
    writer.write(2, {'loss': float('nan')})
    assert [json.loads(x) for x in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == [
        {'step': 1, 'loss': 0.5},
        {'step': 2, 'loss': None},
    ]
    writer.close()


@pytest.mark.parametrize(
    ('kind', 'module', 'expected'),
    [
        ('tensorboard', 'tensorboardX', ('add_scalar', ('student/loss', 0.5, 3), {})),
        ('wandb', 'wandb', ('log', ({'student/loss': 0.5},), {'step': 3})),
        ('trackio', 'trackio', ('log', ({'student/loss': 0.5},), {'step': 3})),
        ('mlflow', 'mlflow', ('log_metrics', ({'student.loss': 0.5},), {'step': 3})),
    ],
)
def test_every_tracker_gets_the_row(monkeypatch, tmp_path, kind, module, expected):
    calls = package(monkeypatch, module)
    writer = tracker(kind, tmp_path, {'steps': 5})
    writer.write(3, {'student/loss': 0.5})
    assert calls.told[-1] == expected
    writer.close()
    assert calls.told[-1][0] in ('close', 'finish', 'end_run')


def test_a_missing_package_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(UserError, match=r"'wandb' is not installed: pip install 'kdjax\[wandb\]'"):
        tracker('wandb', tmp_path, {})


def test_an_unknown_tracker_is_named(tmp_path):
    with pytest.raises(UserError, match="unknown tracker 'tensorbord'; did you mean 'tensorboard'"):
        tracker('tensorbord', tmp_path, {})
