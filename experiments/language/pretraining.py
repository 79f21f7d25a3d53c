"""Pre-training distillation: which loss, which mixture with the next token, which part of the teacher's words.

Peng et al., Pre-training Distillation for Large Language Models: A Design Space Exploration (arXiv 2410.16215). Per
byte, y the next one, p and s what teacher and student say of it, z their logits:

    labels   -log s_y                labels_wsd   the same under the learning rate of `wsd`
    kd       KL(p || s)
    top      KL(p' || s), p' = p in its top 0.95, 50 at most, over its sum
    mse      mean_v (z_S - z_T)^2
    kd9      (1 - a) (-log s_y) + a KL(p || s), a = 0.9      kd9_wsd   the same under the learning rate of `wsd`
    wsd      the same with a and the learning rate alike: up (a tenth of the steps) to 0.9, there, and down (the last
             third) to 0

Students see 64 kB of Python's standard library for 300 steps, the teacher 4 MB. No code was released: the shares of the
schedule are ours. Temperature is 1.

`kdjax verify pretraining`: three minutes on one core; nothing was tuned. Five seeds, test split: distillation is worth
4 % of the loss, kd - labels -0.098 [-0.135, -0.061] of nll, +1.8 [+1.1, +2.6] points of accuracy; MSE is far worse than
no teacher, mse - labels +0.482 [+0.405, +0.559] of nll; the truncated target is as good as the full one, top - kd
-0.007 [-0.022, +0.009] of nll. Mixing in a tenth of the labels changes nothing, kd9 - kd -0.000 [-0.021, +0.020] of
nll. Half of the gain of the paper's best recipe is its learning rate, which helps labels alone by as much, labels_wsd -
labels -0.079 [-0.109, -0.048] of nll; the other half is the teacher's, wsd - labels_wsd -0.076 [-0.114, -0.037] of nll,
and none is the schedule of a: wsd - kd9_wsd +0.018 [-0.051, +0.088] of nll.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from kdjax import losses
from kdjax.experiment import Experiment
from kdjax.objectives import Objective, hard_labels, kl, term
from kdjax.tasks.byte_lm import ByteLM


@dataclasses.dataclass(frozen=True)
class Pretraining(ByteLM):
    student: str = 'llama-32-2'
    teacher: str = 'llama-64-2'
    row: int = 64
    rows: int = 1024
    batch: int = 16
    steps: int = 300
    teacher_steps: int = 1000
    evaluations: int = 1
    alpha: float = 0.9
    top_p: float = 0.95
    top_k: int = 50

    def up_stable_down(self, peak: float) -> optax.Schedule:
        up, down = self.steps // 10, self.steps // 3
        rise, fall = optax.linear_schedule(0.0, peak, up), optax.linear_schedule(peak, 0.0, down)
        return optax.join_schedules((rise, optax.constant_schedule(peak), fall), (up, self.steps - down))


def arms(task: Pretraining):
    teacher = task.cached_teacher()

    def mixed(alpha):
        weight = alpha if callable(alpha) else lambda step: alpha
        return (lambda step: 1 - weight(step)) * hard_labels() + weight * kl()

    def wsd(objective: Objective, *taught):
        rate = optax.adamw(task.up_stable_down(task.learning_rate), weight_decay=task.weight_decay)
        player = dataclasses.replace(task.player(objective), optimizer=rate)
        return task.play({'student': player}, *({'teacher': bound} for bound in taught))

    def of_likeliest(student: jax.Array, said: jax.Array, where: jax.Array) -> jax.Array:
        probs, ids = jax.lax.top_k(jax.nn.softmax(said), task.top_k)
        kept = jnp.cumsum(probs, axis=-1) - probs < task.top_p
        return losses.renormalized_kl(student, jnp.where(kept, ids, -1), jnp.where(kept, probs, 0.0), where=where)

    return {
        'labels': task.arm(hard_labels()),
        'labels_wsd': wsd(hard_labels()),
        'kd': task.arm(kl(), teacher),
        'top': task.arm(term(of_likeliest, 'student', 'teacher'), teacher),
        'mse': task.arm(term(losses.mse_logits, 'student', 'teacher'), teacher),
        'kd9': task.arm(mixed(task.alpha), teacher),
        'kd9_wsd': wsd(mixed(task.alpha), teacher),
        'wsd': wsd(mixed(task.up_stable_down(task.alpha)), teacher),
    }


experiment = Experiment(
    title='Pre-training distillation: losses, mixtures, schedules',
    systems=(183,),
    config=Pretraining(),
    arms=arms,
    claims=(
        'kd < labels on nll',
        'kd9 < kd on nll',
        'wsd < labels_wsd on nll',
        'wsd < kd9_wsd on nll',
        'wsd < kd on nll',
        'mse > labels on nll',
        'top < kd + 0.02 on nll',
    ),
)
