"""What a verification keeps to look at: samples of its arms, and the teacher's from the noise that they had."""

import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.data.dataset import ArraySource
from kdjax.diffusion.solvers import DPMSolver
from kdjax.experiment import Experiment
from kdjax.objectives import term
from kdjax.record import dumps
from kdjax.run import pictures
from kdjax.run.stages import Executor
from kdjax.run.store import Store
from kdjax.run.verify import Verification, verify
from kdjax.stage import Artifact, Compute
from kdjax.tasks.mixtures_2d import Mixtures2D
from kdjax.tasks.pictures import as_seen, rows_shown
from kdjax.tasks.sprites import MultiViewSprites

TASK = Mixtures2D(rows=64, evaluation_rows=64, student='points-4-1', teacher='points-4-1', batch=8, evaluations=1)


def arms(task):
    """A student whose samples are the noise that it was given, and a sampler."""

    def drawn(inputs, *, key):
        metrics = {'kl_to_data': 1.0}
        return {'samples': {'test': np.ones((64, 2))}}, {'metrics': {'test': metrics, 'validation': metrics}}

    objective = term(losses.hint_mse, 'student', 'batch.data')
    return {
        'idle': task.arm(objective, steps=1, evaluates=lambda view: {'sample': view['batch.noise']}),
        'drawn': Compute(name='drawn', module='tiny', config={}, call=drawn, data=task.data),
    }


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp('store'))
    experiment = Experiment(title='', config=TASK, arms=arms, claims=('idle > drawn on kl_to_data',))
    record = verify(Verification('a/b', 'tiny', experiment, TASK, 1, first_seed=3), store=store)
    return store.get(pictures.address(json.loads(dumps(record))))


@pytest.mark.slow
def test_samples_of_every_arm_are_kept(kept):
    assert set(kept.arrays['arms']) == {'idle', 'drawn'}
    assert kept.arrays['arms']['idle']['sample'].shape == kept.arrays['arms']['drawn']['sample'].shape == (64, 2)
    assert kept.info == {'seed': 3, 'teacher': 'the exact score of the data, 35 evaluations'}


@pytest.mark.slow
def test_the_teacher_begins_from_the_noise_that_the_arms_had(kept):
    """Another solver, from the noise that the student has shown, ends where the teacher does."""
    noise, label = (jnp.asarray(x) for x in (kept.arrays['arms']['idle']['sample'], kept.arrays['label']))
    times = jnp.linspace(1.0, 0.0, 41)
    made = DPMSolver()(TASK.exact_denoiser(), TASK.schedule.prior(noise), times, label)
    apart = np.linalg.norm(np.asarray(made) - kept.arrays['teacher'], axis=1)
    assert np.median(apart) < 0.02


def test_pictures_are_kept_of_each_condition_and_points_as_they_come():
    assert rows_shown(np.zeros((20, 1, 1, 1)), np.tile([3, 5], 10)).tolist() == list(range(16))
    assert rows_shown(np.zeros((700, 2)), np.zeros(700)).tolist() == list(range(512))


def test_pictures_are_as_light_as_the_data():
    shades = np.array([-1.0, 1.0, 9.0, np.nan]).reshape(4, 1, 1, 1)
    assert as_seen(MultiViewSprites(), shades).ravel().tolist() == [0, 255, 255, 128]


def test_samples_of_several_steps_of_samplers_and_pictures_of_scenes_are_kept(tmp_path):
    """In a task that nobody knows, whose teacher is not asked."""
    rng = np.random.default_rng(0)
    points, scenes = rng.normal(size=(9, 2)), rng.uniform(size=(9, 2, 2, 1))
    executor, label = Executor(Store(tmp_path), module='tiny'), np.arange(9, dtype=np.int32) % 3
    task = types.SimpleNamespace(data={'test': ArraySource({'label': label})})

    def found(**arrays):
        record = {'experiment': 'a/b', 'split': 'test', 'seeds': [0], 'arms': {n: {'metrics': {}} for n in arrays}}
        pictures.keep(record, task, {n: (None, Artifact(made, {})) for n, made in arrays.items()}, executor)
        return executor.store.get(pictures.address(record))

    flat = found(
        few={'predictions': {'test': {'sample': points, 'sample_4': points}}}, heun={'samples': {'test': points}}
    )
    assert {name: set(made) for name, made in flat.arrays['arms'].items()} == {
        'few': {'sample', 'sample_4'}, 'heun': {'sample'}
    }  # fmt: skip
    np.testing.assert_allclose(flat.arrays['arms']['few']['sample_4'], points, rtol=1e-6)
    seen = found(sds={'predictions': {'test': {'picture': scenes, 'label': label}}})
    np.testing.assert_allclose(seen.arrays['arms']['sds']['sample'] / 255, scenes, atol=0.002)
    assert 'teacher' not in seen.arrays and seen.info == {'seed': 0}


def test_arms_without_points_or_pictures_keep_nothing(tmp_path):
    logits = Artifact({'predictions': {'test': {'student': np.zeros((4, 2)), 'label': np.zeros(4)}}}, {})
    store = Store(tmp_path)
    record = {'experiment': 'a/b', 'split': 'test', 'seeds': [0], 'arms': {'kd': {'metrics': {}}}}
    pictures.keep(record, None, {'kd': (None, logits)}, Executor(store, module='tiny'))
    assert not store.has(pictures.address(record))


def test_an_address_is_known_from_the_numbers_of_a_record():
    record = {'experiment': 'a/b', 'split': 'test', 'seeds': [0], 'arms': {'kd': {'metrics': {'kl': [0.1 + 0.2, 1.0]}}}}
    place = pictures.address(record)
    assert pictures.address(json.loads(dumps(record)) | {'seconds': 3.0}) == place
    record['arms']['kd']['metrics']['kl'][0] = float('nan')
    assert pictures.address(record) == pictures.address(json.loads(dumps(record))) != place
