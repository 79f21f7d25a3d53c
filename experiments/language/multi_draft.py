"""Several drafts of one token: what each way to draft allows, and what each verifier makes of it, exactly.

Hu et al., Towards Optimal Multi-draft Speculative Decoding (arXiv 2502.18779). p is the target's next-token
distribution, q the draft's; n tokens are drafted at one place. Over all verifiers that emit the law p, the greatest
probability that a draft is emitted is, with a prefix of the tokens sorted by q / p as minimiser,

    alpha* = 1 + min_H [p(H) - Q(H)],    Q(H) = Pr(all n drafts lie in H)

    single            n = 1 and ordinary verification: sum min(p, q), the optimum there
    with_replacement, without_replacement    alpha* of independent drafts, and of different ones
    greedy            the n - 1 likeliest tokens of q and one drawn from the rest: alpha*, by ordinary verification
    rrs, k_seq        verifiers of independent drafts: recursive rejection (2305.09781) and K-SEQ (2310.15141)
    rrs_without       recursive rejection of different drafts (2402.14160)

Nothing is sampled: each number is a mean of exact ones over 64 places of held-out text, one a row; a seed is a draft,
trained on the next token. `t03_n2`: both at temperature 0.3, n = 2. `alpha`: the mean over temperatures at n = 3.

`kdjax verify multi_draft`: five seeds, test split. The optima: with_replacement - single +0.178 [+0.175, +0.180] of
alpha, without_replacement - with_replacement +0.055 [+0.041, +0.069] of alpha. Below them: rrs - with_replacement
-0.038 [-0.040, -0.036] of alpha, k_seq - with_replacement -0.026 [-0.027, -0.025] of alpha, rrs_without -
without_replacement -0.044 [-0.045, -0.044] of alpha. Greedy draws reach their optimum: cold they beat the verifier of
different drafts, greedy - rrs_without +0.009 [+0.006, +0.013] of t03_n3; hot their optimum is the lower one, greedy -
without_replacement -0.043 [-0.052, -0.034] of t12_n3.
"""

import dataclasses
import functools

import jax
import numpy as np

from kdjax.data.text_batch import prepare_text
from kdjax.decoding import multi_draft, multi_draft_verifiers
from kdjax.experiment import Arm, Experiment
from kdjax.stage import Compute, Output
from kdjax.tasks.drafting import Drafting


@dataclasses.dataclass(frozen=True)
class MultiDraft(Drafting):
    contexts: int = 64
    temperatures: tuple[float, ...] = (0.3, 0.7, 1.2)
    most: int = 3


WAYS = {
    'single': lambda p, q, drafts: multi_draft.greedy(p, q, 1),
    'with_replacement': multi_draft.with_replacement,
    'rrs': multi_draft_verifiers.rrs_acceptance,
    'k_seq': multi_draft_verifiers.k_seq_acceptance,
    'without_replacement': multi_draft.without_replacement,
    'rrs_without': multi_draft_verifiers.rrs_without_replacement_acceptance,
    'greedy': multi_draft.greedy,
}


def logits(task, inputs, *, key):
    """Of target and draft at one place of each held-out row. `[contexts, vocabulary]` by split and name."""
    rows = np.arange(task.contexts)
    places = task.prompt + 37 * rows % (task.row - task.prompt)

    def said(name, spec, split):
        batch = prepare_text(task.data[split].take(rows))
        read = tuple(batch[column] for column in ('tokens', 'segment', 'position'))
        outputs, _ = task.model(spec).apply(inputs[name], read, key=key, train=False)
        return outputs.prediction[rows, places]

    models = {'target': task.teacher, 'draft': task.student}
    return {split: {n: said(n, spec, split) for n, spec in models.items()} for split in ('validation', 'test')}


def accepted(task, way, inputs, *, key):
    """Mean acceptance at every temperature and number of drafts, on each split."""

    def mean(said, temperature, drafts):
        p, q = (np.asarray(jax.nn.softmax(said[name] / temperature)) for name in ('target', 'draft'))
        return float(np.mean([way(*pair, drafts) for pair in zip(p, q, strict=True)]))

    def of(said):
        found = {(t, n): mean(said, t, n) for t in task.temperatures for n in range(2, task.most + 1)}
        alpha = np.mean([found[t, task.most] for t in task.temperatures])
        return {f't{round(10 * t):02}_n{n}': value for (t, n), value in found.items()} | {'alpha': float(alpha)}

    return {}, {'metrics': {split: of(said) for split, said in inputs['logits'].items()}}


def arms(task: MultiDraft):
    config = dataclasses.asdict(task)
    models = {'target': task.trained_teacher.variables, 'draft': task.draft}
    pairs = Compute(
        name='logits', module=__name__, config=config, inputs=models, call=functools.partial(logits, task),
        data=task.data,
    )  # fmt: skip

    def arm(name):
        return Compute(
            name=name, module=__name__, config=config, inputs={'logits': Output(pairs)}, data=task.data,
            call=functools.partial(accepted, task, WAYS[name]), shapes=lambda inputs: {},
        )  # fmt: skip

    return {name: Arm(arm(name)) for name in WAYS}


experiment = Experiment(
    title='Several drafts of one token: optima and verifiers',
    systems=(293,),
    config=MultiDraft(),
    arms=arms,
    claims=(
        'with_replacement > single on alpha',
        'rrs < with_replacement on alpha',
        'k_seq < with_replacement on alpha',
        'rrs_without < without_replacement on alpha',
        'without_replacement > with_replacement on alpha',
        'greedy > rrs_without on t03_n3',
        'greedy < without_replacement on t12_n3',
    ),
)
