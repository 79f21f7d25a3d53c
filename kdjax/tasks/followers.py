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
    """What `fake`, `teacher` and `head` say of one noised sample for each held-out row; nothing without a follower.

    again, again_time: the noised samples and their times, with the noise and at the times of the row.
    fake, real: data predictions there. discriminator_gap: logit of a noised example less that of the noised sample.
    """
    if 'fake' not in view or 'teacher' not in view:
        return {}
    label, clear = view['batch.label'], task.schedule.time_of(-2 * jnp.log(CLEAREST))
    time = jnp.maximum(view['batch.time'], clear)
    again, noised = (task.schedule.noised(x, view['batch.other'], time) for x in (sample, view['batch.data']))
    said = {
        'again': again,
        'again_time': time,
        'fake': task.denoiser(view['fake()'], 'fake').data(again, time, label),
        'real': task.denoiser(view['teacher()'], 'teacher').data(again, time, label),
    }
    if 'head' not in view:
        return said
    logits = [judge(view['fake()'], view['head()'])(x, time, label) for x in (noised, again)]
    real, fake = (jnp.mean(logit.reshape(len(logit), -1), axis=1) for logit in logits)
    return said | {'discriminator_gap': real - fake}


def follower_health(said: Mapping[str, np.ndarray], schedule: Schedule, *, conditional: bool) -> dict[str, float]:
    """`metrics.followed.follower_metrics`, against samples of the same class if `conditional`, and the mean gap.

    Nothing where nobody follows.
    """
    found = {}
    if 'discriminator_gap' in said:
        found['discriminator_gap'] = float(np.mean(said['discriminator_gap'], dtype=np.float64))
    if 'fake' not in said:
        return found
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
    return found | follower_metrics(np.concatenate(truth), said['fake'][rows], said['real'][rows], ratio)
