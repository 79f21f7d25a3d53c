"""Where metrics go: a file that is the truth, and trackers that mirror it, all by one protocol."""

from __future__ import annotations

import importlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from kdjax.errors import UserError, unknown
from kdjax.record import finite


@runtime_checkable
class Writer(Protocol):
    """Takes rows of scalars. `write` may be called with any step; `close` once."""

    def write(self, step: int, row: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class Jsonl:
    """One JSON object a line, flushed line by line."""

    def __init__(self, path: pathlib.Path):
        self._file = path.open('a')

    def write(self, step: int, row: Mapping[str, float]) -> None:
        self._file.write(json.dumps(finite({'step': step, **row}), sort_keys=True) + '\n')
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Nowhere:
    """For processes that train along and leave the writing to the first one."""

    def write(self, step: int, row: Mapping[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoard:
    """Scalars in TensorBoard's event format, through tensorboardX."""

    def __init__(self, folder: pathlib.Path, config: Mapping[str, Any]):
        self._writer = _need('tensorboardX', 'tensorboard').SummaryWriter(str(folder / 'tensorboard'))

    def write(self, step: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Run:
    """Trackers with `init` and `log`: wandb and trackio share one interface."""

    def __init__(self, package: str, folder: pathlib.Path, config: Mapping[str, Any]):
        self._tracker = _need(package, package)
        self._tracker.init(project='kdjax', name=folder.name, config=dict(config))

    def write(self, step: int, row: Mapping[str, float]) -> None:
        self._tracker.log(dict(row), step=step)

    def close(self) -> None:
        self._tracker.finish()


class Mlflow:
    """Metrics and parameters in MLflow."""

    def __init__(self, folder: pathlib.Path, config: Mapping[str, Any]):
        self._mlflow = _need('mlflow', 'mlflow')
        self._mlflow.start_run(run_name=folder.name)
        self._mlflow.log_params({k: str(v) for k, v in config.items()})

    def write(self, step: int, row: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({k.replace('/', '.'): v for k, v in row.items()}, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


TRACKERS = ('tensorboard', 'wandb', 'trackio', 'mlflow')


def tracker(kind: str, folder: pathlib.Path, config: Mapping[str, Any]) -> Writer:
    """A tracker by name; `UserError` names the extra to install if its package is missing."""
    if kind == 'tensorboard':
        return TensorBoard(folder, config)
    if kind in ('wandb', 'trackio'):
        return _Run(kind, folder, config)
    if kind == 'mlflow':
        return Mlflow(folder, config)
    raise unknown('tracker', kind, TRACKERS)


def _need(package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"'{package}' is not installed: pip install 'kdjax[{extra}]'") from error
