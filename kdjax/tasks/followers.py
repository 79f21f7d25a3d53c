"""What is looked at in evaluation where a fake score follows the generator, and a head tells samples from data."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.algorithms.generators import judge
from kdjax.diffusion.schedules import Schedule
from kdjax.metrics.followed import expected_of_samples, follower_metrics
from kdjax.tasks.generating import Generating
from kdjax.view import View

CLEAREST = 0.1
"""The least sigma / alpha at which a follower is compared with samples, which lie too far apart for less."""

ROWS = 2000
"""That are compared; all samples are compared with."""


def followed(task: Generating, view: View, sample: jax.Array) -> dict[str, jax.Array]:
    """What `fake` and `teacher` say of one noised sample for each held-out row; nothing without a follower.

    again, again_time: the noised samples and their times, with the noise and at the times of the row. fake, real: data
    predictions there.
    """
    if 'fake' not in view or 'teacher' not in view:
        return {}
    label, time = view['batch.label'], _clear(task, view)
    again = task.schedule.noised(sample, view['batch.other'], time)
    networks = {'fake': 'fake', 'real': 'teacher'}
    said = {n: task.denoiser(view[f'{who}()'], who).data(again, time, label) for n, who in networks.items()}
    return said | {'again': again, 'again_time': time}


def judged(task: Generating, view: View, sample: jax.Array) -> dict[str, jax.Array]:
    """discriminator_gap: the judge's logit of each held-out example less that of the sample, both noised alike.

    Nothing without a `head` on the features of `fake`.
    """
    if 'fake' not in view or 'head' not in view:
        return {}
    label, time, said = view['batch.label'], _clear(task, view), judge(view['fake()'], view['head()'])
    pair = (task.schedule.noised(x, view['batch.other'], time) for x in (view['batch.data'], sample))
    real, fake = (jnp.mean(said(x, time, label).reshape(len(x), -1), axis=1) for x in pair)
    return {'discriminator_gap': real - fake}


def _clear(task: Generating, view: View) -> jax.Array:
    """The times of the rows, none with less noise than the clearest."""
    return jnp.maximum(view['batch.time'], task.schedule.time_of(-2 * jnp.log(CLEAREST)))


def follower_health(said: Mapping[str, np.ndarray], schedule: Schedule, *, conditional: bool) -> dict[str, float]:
    """`metrics.followed.follower_metrics` of `followed`, against samples of the same class if `conditional`.

    Nothing where nobody follows.
    """
    if 'fake' not in said:
        return {}
    alpha, sigma = (np.asarray(level, np.float64) for level in schedule.levels(jnp.asarray(said['again_time'])))
    label = np.asarray(said['label']) if conditional else np.zeros(len(alpha), int)
    kept, truth = [], []
    for one in np.unique(label):
        mine = np.flatnonzero(label == one)
        rows = mine[mine < ROWS]
        kept.append(rows)
        truth.append(expected_of_samples(said['again'][rows], alpha[rows], sigma[rows], said['sample'][mine]))
    rows = np.concatenate(kept)
    ratio = (sigma / alpha)[rows]
    return follower_metrics(np.concatenate(truth), said['fake'][rows], said['real'][rows], ratio)


def mean_gap(said: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean `discriminator_gap`, where there is a judge."""
    name = 'discriminator_gap'
    return {name: float(np.mean(said[name], dtype=np.float64))} if name in said else {}
