"""Numbers that other stages found are recorded with the arm that names them."""

import dataclasses

import jax
import numpy as np
import optax
import tiny

from kdjax.algorithms import supervised
from kdjax.objectives import hard_labels
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.stage import Compute, graph


def find_out(inputs, *, key):
    return {'scale': np.float32(0.25), 'rank': {'validation': np.float32(0.5), 'test': np.float32(-1)}}


def test_facts_are_metrics_and_part_of_the_identity(tmp_path):
    found = Compute(name='found', module='tiny', config={}, call=find_out)
    plain = tiny.train(supervised(tiny.mlp(), hard_labels(), optax.sgd(0.1)), name='arm/one')
    told = dataclasses.replace(plain, facts={'scale': found['scale'], 'rank': found['rank']})
    executor = Executor(Store(tmp_path), module='tiny')
    with jax.numpy_dtype_promotion('standard'):
        metrics = executor.run(told, 0).info['metrics']
    assert {split: m['scale'] for split, m in metrics.items()} == {'validation': 0.25, 'test': 0.25}
    assert {split: m['rank'] for split, m in metrics.items()} == {'validation': 0.5, 'test': -1.0}
    assert executor.digest(told, 0) != executor.digest(plain, 0)
    assert list(graph(told)) == ['found', 'arm/one']
