"""AdaSPEC: a draft learns where a reference shows that it still can, and leaves out the rest.

Hu et al. (arXiv 2510.19779). A reference R is distilled from the target p, from the same first weights as the draft q.
Then q learns from the share k = 0.4 of a batch's tokens on which its loss exceeds the reference's by most:

    L = mean_i [i kept] KL(p_i || q_i),    kept: the top k of KL(p_i || q_i) - KL(p_i || R_i)

The released runs take batches of 16 / k = 40 rows: as many tokens are learned from as in 16 rows without selection, at
2.5 times the passes and the cost of R. Ours choose among the 40 rows at once, theirs among the 5 of a device. All arms
take the same number of steps on the text of the data:

    kl_16, kl_40     KL(p || q) on all tokens of 16 rows (the paper's baseline, and how R is trained), of 40
    random, hardest  on 40 % of the tokens of 40 rows: any; those with the largest KL(p || q)
    adaspec

30 % of the bytes of all texts are random ones, which neither target nor draft can foresee. `overlap` and
`block_length` as in `distill_spec`.

`kdjax verify ada_spec`: about four minutes on 2 cores. Five seeds, test split: the selection is not seen to do more
than a random one, adaspec - random -0.2 [-0.6, +0.1] points of overlap, nor than all tokens of as many as it keeps,
adaspec - kl_16 -0.1 [-0.3, +0.1] points of overlap, and loses to all tokens of the batch that it reads, adaspec -
kl_40 -0.6 [-1.0, -0.1] points of overlap. The reference does help against choosing by loss alone, adaspec - hardest
+1.4 [+1.0, +1.8] points of overlap. In blocks: adaspec - kl_16 -0.03 [-0.08, +0.01] of block_length. Noise, share and
learning rate are as first written, no other was tried.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.experiment import Experiment
from kdjax.objectives import term
from kdjax.streams import stream
from kdjax.tasks.drafting import Drafting
from kdjax.tasks.language import prepare
from kdjax.tasks.task import Trained


@dataclasses.dataclass(frozen=True)
class AdaSpec(Drafting):
    pretraining_steps: int = 1500
    few: int = 16
    many: int = 40
    keep: float = 0.4
    noise: float = 0.3

    def prepared(self):
        def chosen(batch, *, key, train):
            read = prepare(batch, key=key, train=train)
            kept = jax.random.bernoulli(stream(key, 'chosen'), self.keep, read['where'].shape)
            return read | {'chosen': read['where'] & kept}

        return chosen


def hardest(student, teacher, *, keep, where):
    """KL(p || s) on the tokens where it is largest."""
    values = losses.kl_forward(student, teacher, where=where)
    return jnp.where(losses.select_tokens(values, keep=keep, where=where), values, 0.0)


def arms(task: AdaSpec):
    corpus = task.cached_teacher()
    kl = functools.partial(term, losses.kl_forward, 'student', 'teacher')
    few = task.arm(kl(), corpus, batch=task.few, name='reference')
    learned = Trained(task.model(task.student), few['variables']['student'])
    reference = task.live_teacher(learned, name='reference')

    def on_many(objective, **others):
        player = {'student': task.player(objective, start='start')}
        return task.play(player, {'teacher': corpus, **others}, inputs={'start': task.draft}, batch=task.many)

    selective = term(losses.adaspec, 'student', 'teacher', 'reference', keep=task.keep)
    return {
        'kl_16': task.arm(kl(), corpus, batch=task.few),
        'kl_40': on_many(kl()),
        'random': on_many(kl(where='batch.chosen')),
        'hardest': on_many(term(hardest, 'student', 'teacher', keep=task.keep)),
        'adaspec': on_many(selective, reference=reference),
    }


experiment = Experiment(
    title='AdaSPEC: drafts that learn the tokens they can',
    systems=(182,),
    config=AdaSpec(),
    arms=arms,
    claims=(
        'adaspec > kl_16 on overlap',
        'adaspec > random on overlap',
        'adaspec > hardest on overlap',
        'adaspec > kl_40 on overlap',
        'adaspec > kl_16 on block_length',
    ),
)
