"""The register of the losses of the language-model literature; see `registered_losses`."""

import itertools
import math

import language_references as references
import numpy as np
from registered_losses import (
    CLASSES,
    EXAMPLES,
    Entry,
    entropy_of,
    extreme_logits,
    logits,
    of_logits,
    same,
    zero_at_same,
)
from registered_losses import labelled_logits as labelled

NOT_LOSSES = {
    'TaidState',
    'boundary_log_probs',
    'chunk_log_probs',
    'cross_attention',
    'first_of_chunks',
    'group_advantages',
    'last_of_chunks',
    'log_mixture',
    'merged_chunks',
    'recalibrated',
    'rewards_to_go',
    'select_tokens',
    'shared_vocabulary',
    'spread',
    'taid_start',
    'taid_step',
}

TOP = 3


def drawn(count):
    """Log-probabilities of drawn tokens, or sums of them."""
    return lambda rng: tuple(-rng.exponential(size=(count, EXAMPLES)))


def extreme_log_probs(args):
    """Sure, hopeless, and alike; ratios stay within what float32 can hold."""
    sides = itertools.product([0.0, -30.0, -1e-20], repeat=len(args))
    return [tuple(np.full(EXAMPLES, x) for x in values) for values in sides]


def extreme_chunks(args):
    sides = [0.0, 1e-3, -1e4, -1e-20]
    return [(np.full(EXAMPLES, a), np.full(EXAMPLES, b)) for a in sides for b in sides]


def log_probs_and_advantage(rng):
    return -rng.exponential(size=EXAMPLES), rng.normal(size=EXAMPLES)


def with_behaviour(rng):
    log_probs, advantage = log_probs_and_advantage(rng)
    return log_probs, advantage, log_probs + 0.4 * rng.normal(size=EXAMPLES)


def own_draws(args):
    return (args[0], args[1], args[0]), -args[1]


def three_logits(rng):
    return *logits(rng), logits(rng)[0]


def minus_kl_to_reference(args):
    value = [-references.kl(*(references.softmax(z) for z in pair)) for pair in zip(args[0], args[2], strict=True)]
    return (args[0], args[0], args[2]), np.array(value)


def extreme_three(args):
    return [(*pair, other) for pair in extreme_logits(args[:2]) for other in pair]


def interpolated(rng):
    return *logits(rng), np.asarray(0.3)


def top_classes(rng):
    student, teacher = logits(rng)
    ids = np.argsort(-teacher, axis=-1)[:, :TOP]
    probs = np.array([references.softmax(row) for row in teacher])
    return student, ids, np.take_along_axis(probs, ids, axis=-1)


def own_top(args):
    s = np.array([references.softmax(row) for row in args[0]])
    return (args[0], args[1], np.take_along_axis(s, args[1], axis=-1)), np.zeros(EXAMPLES)


def own_top_linear(args):
    """The student is compared as it is, the teacher is corrected."""
    own, _ = own_top(args)
    return own, references.calibrated_top_k(*own, form='linear')


def extreme_top(args):
    _, ids, probs = args
    certain = np.eye(TOP)[:1] * np.ones((EXAMPLES, 1))
    return [(s, ids, p) for s, *_ in extreme_logits((args[0], args[0])) for p in (probs, certain, 0 * probs)]


def other_vocabulary(rng):
    return 2 * rng.normal(size=(EXAMPLES, CLASSES)), 2 * rng.normal(size=(EXAMPLES, CLASSES + 3))


def projected_at_same(args):
    return (args[0], args[0], args[2]), references.student_space(args[0], args[0], args[2])


def heads_of_tokens(count):
    """A sequence of as many tokens as there are examples, `[time, heads, width]`."""
    return lambda rng: tuple(rng.normal(size=(count, EXAMPLES, 2, 3)))


def other_heads(rng):
    return rng.normal(size=(EXAMPLES, 2, 3)), rng.normal(size=(EXAMPLES, 4, 6))


def both_the_same(args):
    half = args[: len(args) // 2]
    return (*half, *half), np.zeros(EXAMPLES)


def extreme_heads(args):
    half = len(args) // 2
    scales = [(0, 1), (1, 0), (1, 1), (1e3, 1), (1, 1e3)]
    return [(*(a * s for s in [student] for a in args[:half]), *(a * t for t in [teacher] for a in args[half:]))
            for student, teacher in scales]  # fmt: skip


def of_log_probs(name, reference, inputs, **rest):
    rest = {'extremes': extreme_log_probs} | rest
    return Entry(name, inputs, reference, **rest)


def of_three_logits(name, reference, at_same, **rest):
    axes = dict.fromkeys(range(3), (-1, 0))
    return Entry(name, three_logits, reference, at_same, extreme_three, class_axes=axes, **rest)


def equal_draws(args):
    return (args[0], args[0]), np.zeros(EXAMPLES)


def own_preferences(args):
    return (*args[:2], *args[:2]), np.full(EXAMPLES, math.log(2))


LANGUAGE = [
    *(
        of_log_probs('kl_estimate', references.kl_estimate, drawn(2), at_same=equal_draws, options={'form': form})
        for form in ('k1', 'k2', 'k3')
    ),
    of_log_probs(
        'policy_gradient',
        references.policy_gradient,
        log_probs_and_advantage,
        at_same=lambda args: ((args[0], args[1]), -args[1] * args[0]),
        differentiated=(0,),
    ),
    of_log_probs(
        'policy_gradient',
        references.policy_gradient,
        with_behaviour,
        at_same=own_draws,
        options={'clip': 0.2},
        differentiated=(0,),
    ),
    of_log_probs(
        'dpo',
        references.dpo,
        drawn(4),
        at_same=own_preferences,
        options={'beta': 0.5},
        differentiated=(0, 1, 2, 3),
    ),
    *(
        of_three_logits(
            'advantage_expectation',
            references.advantage_expectation,
            at_same,
            differentiated=(0,),
            options={'clamped': clamped},
        )
        for clamped, at_same in (
            (False, minus_kl_to_reference),
            (True, lambda args: ((args[0],) * 3, np.full(EXAMPLES, -1e-8))),
        )
    ),
    of_logits(
        'taid',
        references.taid,
        inputs=interpolated,
        at_same=lambda args: ((args[0], args[0], args[2]), same(entropy_of)(args[:2])[1]),
        shared=(2,),
        differentiated=(),
    ),
    of_logits('adaptive_kl', references.adaptive_kl, options={'mu': 0.6}, differentiated=()),
    of_three_logits('adaspec', references.adaspec, zero_at_same, options={'keep': 0.6}, coupled=True),
    Entry('calibrated_top_k', top_classes, references.calibrated_top_k, own_top, extreme_top, differentiated=(0,)),
    Entry(
        'calibrated_top_k',
        top_classes,
        references.calibrated_top_k,
        own_top_linear,
        extreme_top,
        options={'form': 'linear'},
        differentiated=(0,),
    ),
    Entry('alm', drawn(2), references.alm, equal_draws, extreme_chunks, differentiated=(0,)),
    Entry(
        'alm',
        drawn(2),
        references.alm,
        equal_draws,
        extreme_chunks,
        options={'temperature': 2.0},
        differentiated=(0,),
    ),
    of_logits('uld', references.uld, inputs=other_vocabulary, options={'temperature': 2.0}),
    Entry(
        'student_space',
        labelled,
        references.student_space,
        projected_at_same,
        extreme_logits,
        differentiated=(0,),
    ),
    Entry(
        'attention_relation',
        heads_of_tokens(4),
        references.attention_relation,
        both_the_same,
        extreme_heads,
        options={'causal': True},
        coupled=True,
        differentiated=(0, 1, 2, 3),
    ),
    Entry(
        'value_relation',
        other_heads,
        references.value_relation,
        both_the_same,
        extreme_heads,
        options={'heads': 3},
        coupled=True,
    ),
]
"""Every public loss of the language-model literature, with the options at which it is examined."""
