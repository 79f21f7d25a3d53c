"""Every shipped experiment: its arms trace from end to end (fast), and each takes two real steps (slow)."""

import dataclasses

import jax
import numpy as np
import pytest
from abstract_stages import Abstract, traced_once

from kdjax import data
from kdjax.data.assemble import from_splits
from kdjax.data.dataset import ImageDataset, Origin
from kdjax.run.find import find, names
from kdjax.run.fit import Events, fit
from kdjax.run.program import Program
from kdjax.stage import Train, graph

NAMES = names()
STAND_INS = {
    'digits': ((8, 8, 1), 1000),
    'mnist5k': ((28, 28, 1), 3500),
    'fashion_mnist': ((28, 28, 1), 5000),
    'photo_crops': ((32, 32, 3), 3000),
}
TOKENS = {'nll', 'hit', 'confidence', 'where'}
"""What is at least evaluated of a language model."""
FEWER = {'language/constrained': {'grid': (0.01, 3.0)}}
"""Settings that make as many arms, alike but for a number: two of them say it all."""
real_load = data.load


def stand_in(spec: str, *, train_examples: int | None = None, **where) -> ImageDataset:
    """Noise in the shape of a data set, so that no test needs it on this machine."""
    if spec not in STAND_INS:
        return real_load(spec, train_examples=train_examples, **where)
    shape, train = STAND_INS[spec]
    rng = np.random.default_rng(0)

    def split(size):
        return rng.integers(0, 256, (size, *shape), np.uint8), (np.arange(size) % 10).astype(np.int32)

    splits = {'train': split(train_examples or train), 'validation': split(20), 'test': split(20)}
    return from_splits(
        spec,
        splits,
        class_names=tuple('0123456789'),
        flip_ok=False,
        crop_padding=2,
        origin=Origin('noise', '', ''),
    )


@pytest.fixture
def resolved(request, monkeypatch):
    """The arms of an experiment on stand-in data, from a configuration that shares no cached property."""
    monkeypatch.setattr(data, 'load', stand_in)
    traced_once(monkeypatch)
    experiment = find(request.param).experiment
    config = dataclasses.replace(experiment.config, **FEWER.get(request.param, {}))
    return experiment, experiment.resolve(config)


def test_there_are_experiments():
    assert 'logits/quickstart' in NAMES


@pytest.mark.parametrize('resolved', NAMES, indirect=True)
def test_every_arm_traces_from_end_to_end(resolved):
    experiment, arms = resolved
    abstract = Abstract()
    assert len(arms) > 1
    for name, arm in arms.items():
        if not isinstance(arm.stage, Train):
            abstract.arrays(arm.stage)
            continue
        arrays, metrics = abstract.train(arm.stage)
        said = arrays['predictions']['test']
        assert {'student', 'sample', 'picture'} & set(said) or set(said) >= TOKENS, (
            f'{name} evaluates neither samples, pictures nor tokens'
        )
        assert {m.shape for m in metrics.values()} == {()}, f'{name} logs something that is no scalar'
        if arm.stage.reference is not None:
            reference = abstract.read(arm.stage.reference)
            if 'student' in said:
                assert reference['test'].shape == said['student'].shape
    for claim in experiment.read_claims():
        assert {claim.left, claim.right} <= set(arms)


@pytest.mark.parametrize('name', NAMES)
def test_every_experiment_is_a_lab_note(name):
    found = find(name)
    assert found.experiment.title
    assert found.experiment.claims
    assert found.about.count('\n') > 2, 'the docstring gives the source, the loss as maths and the arms'
    assert found.experiment.seeds >= 5
    assert dataclasses.is_dataclass(found.experiment.config)
    assert len(found.path.read_text().splitlines()) <= 200


@pytest.mark.slow
@pytest.mark.parametrize('resolved', NAMES, indirect=True)
def test_every_arm_takes_two_real_steps(resolved):
    """On noise, with inputs drawn at random in the shapes that the stages before would leave."""
    _, arms = resolved
    abstract = Abstract()
    for stages in graph(*(arm.stage for arm in arms.values())).values():
        for stage in stages:
            if isinstance(stage, Train):
                two_steps(stage, abstract)


def two_steps(stage: Train, abstract: Abstract) -> None:
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        """Weights of either sign, as networks have them; anything else may be a variance."""
        if not np.issubdtype(leaf.dtype, np.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        made = 0.1 * rng.standard_normal(leaf.shape)
        weight = 'params' in jax.tree_util.keystr(path)
        return (made if weight else np.abs(made)).astype(leaf.dtype)

    frozen = jax.tree_util.tree_map_with_path(drawn, abstract.frozen(stage))
    rows = []
    events = Events(log_every=1, on_log=lambda step, row: rows.append(row))
    fitted = fit(
        Program(stage.algorithm, chunk=1),
        stage.data['train'],
        batch=stage.batch,
        steps=2,
        seed=0,
        frozen=frozen,
        events=events,
    )
    assert fitted.state['step'] == 2
    assert len(rows) == 2
    assert stage.cost()['forward_flops'] > 0
