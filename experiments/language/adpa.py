"""ADPA: an aligned teacher tells a small student at every token by how much it has come to prefer each word.

Gao et al., Advantage-Guided Distillation for Preference Alignment in Small Language Models (arXiv 2502.17927); losses
as in the authors' code (run_distill_dpo.py). r is the teacher that read the language, p the same after DPO on pairs
(y_w, y_l), s the student, y one text that the student wrote after each prompt before it began:

    kd       NLL(y_w) + a KL(p || s) on y_w                  dckd   kd + a KL(p || s) on y_l
    adpa     NLL(y_w) - g sum_v s_v A_v on y,   A = log p - log r;   adpa_plus the same, begun by dckd's student
    clamped  A held within 1e-8 and 1 - 1e-8, as the code loads it;   sampled  A of the words in y alone
    dpo      DPO of the student on the pairs;   labels  NLL(y_w)

The language is a Markov chain; a word has a worth, a text the mean of its words', and of two texts the one of more
worth is y_w. `reward` is the mean worth of what the student writes after held-out prompts. On validation a was chosen
from 0.1, 1, 3, g from 0.8, 1.6, 3.2 and the student's beta from 0.03, 0.1, 0.3, by the reward of one seed; a and g lie
at the end of their grids.

`kdjax verify adpa`: eight minutes on 2 busy cores. Five seeds, test split. As claimed, adpa - dckd +0.137
[+0.128, +0.145] of reward, dckd - kd +0.034 [+0.030, +0.039] of reward, adpa - dpo +0.094 [+0.069, +0.118] of reward,
and clamping loses most of it, adpa - clamped +0.191 [+0.181, +0.200] of reward. The sum over all words shows no gain
over the words drawn, adpa - sampled +0.011 [-0.030, +0.051] of reward, nor a start from dckd, which is trained twice as
long, adpa_plus - adpa -0.012 [-0.031, +0.007] of reward. Reward is bought with the language, adpa - dckd +1.24 [+0.99,
+1.49] of kl_truth. An earlier run on this split, a = 1 and g = 1.6, had the same verdicts.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.experiment import Experiment
from kdjax.objectives import term
from kdjax.tasks.preferred_lm import PreferredLM, answered, preference
from kdjax.tasks.task import Trained


@dataclasses.dataclass(frozen=True)
class ADPA(PreferredLM):
    alpha: float = 3.0
    gamma: float = 3.2
    student_beta: float = 0.1


def sampled(student, teacher, reference, label, behaviour, *, where):
    """A of the word that was drawn, by its ratio to who drew it: the same mean as the sum over all words."""
    log_s, log_p, log_r = (-losses.cross_entropy(z, label, where=where) for z in (student, teacher, reference))
    return losses.policy_gradient(log_s, log_p - log_r, jax.lax.stop_gradient(behaviour), where=where)


def arms(task: ADPA):
    teacher, reference = task.live_teacher(task.preferring), task.live_teacher(name='reference')
    both = {'teacher': teacher, 'reference': reference}
    begun = task.live_teacher(Trained(task.model(task.student), task.warm), name='begun')
    likely = term(losses.cross_entropy, 'student', 'batch.label', where='batch.chosen', name='likely')

    def kl(where):
        return task.alpha * term(losses.kl_forward, 'student', 'teacher', where=f'batch.{where}', name=f'kl_{where}')

    def arm(objective, bound=None, begin=None, **options):
        player = task.player(objective, start='start')
        return task.play({'student': player}, bound, inputs=begin or {'start': task.warm}, **options)

    def advantage(loss, begin, *more, **options):
        reads = ('student', 'teacher', 'reference', *more)
        gained = task.gamma * term(loss, *reads, where='batch.other', name='advantage', **options)
        return arm(likely + gained, both, begin, rollout=answered())

    dckd = likely + kl('chosen') + kl('other')
    first = arm(dckd, {'teacher': teacher}, name='dckd_student')['variables']['student']
    warm = {'start': task.warm, 'answers': task.answers('answers', task.warm)}
    plus = {'start': first, 'answers': task.answers('plus_answers', first)}
    expected = losses.advantage_expectation
    return {
        'labels': arm(likely),
        'dpo': arm(preference(task.student_beta, reference='begun'), {'begun': begun}),
        'kd': arm(likely + kl('chosen'), {'teacher': teacher}),
        'dckd': arm(dckd, {'teacher': teacher}),
        'adpa': advantage(expected, warm),
        'adpa_plus': advantage(expected, plus),
        'clamped': advantage(expected, warm, clamped=True),
        'sampled': advantage(sampled, warm, 'batch.label', 'batch.behaviour'),
    }


experiment = Experiment(
    title='ADPA: the advantage of an aligned teacher, word by word',
    systems=(114,),
    config=ADPA(),
    arms=arms,
    claims=(
        'adpa_plus > adpa on reward',
        'adpa > dckd on reward',
        'dckd > kd on reward',
        'adpa > dpo on reward',
        'adpa > clamped on reward',
        'adpa > sampled on reward',
    ),
)
