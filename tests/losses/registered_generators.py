"""The register of the losses of generators and scores; see `registered_losses`."""

import math

import generator_references as references
import numpy as np
from registered_losses import EXAMPLES, Entry

NOT_LOSSES = {
    'boundary',
    'by_time',
    'consistency_tangent',
    'denoising_weight',
    'f_weight',
    'mean_flow_target',
    'noise_free_direction',
    'posterior_direction',
    'progressive_target',
    'score_weight',
}

SHAPE = (2, 3)


def drawn(samples, levels=0):
    """Samples `[batch, 2, 3]`, then positive numbers `[batch]`."""

    def inputs(rng):
        return (
            *rng.normal(size=(samples, EXAMPLES, *SHAPE)),
            *rng.uniform(0.2, 0.9, size=(levels, EXAMPLES)),
        )

    return inputs


def along_a_path(rng):
    """A student's signal, the signal before, the teacher's data; alpha rises and sigma falls in a step."""
    samples = rng.normal(size=(3, EXAMPLES, *SHAPE))
    alpha, sigma = rng.uniform(0.2, 0.8, size=(2, EXAMPLES))
    return *samples, alpha, sigma, alpha + 0.1, 0.5 * sigma


def extreme(samples):
    """Nothing, everything alike, far apart both ways, huge and tiny: of the first `samples` arguments."""

    def cases(args):
        own, rest = args[:samples], args[samples:]
        zero, ones = np.zeros((EXAMPLES, *SHAPE)), np.ones((EXAMPLES, *SHAPE))
        signs = [1e4 * ones, -1e4 * ones, 1e4 * ones][:samples]
        sides = [[zero] * samples, [own[0]] * samples, signs, signs[::-1], [1e-20 * a for a in own]]
        return [(*side, *rest) for side in sides]

    return cases


def equal(*same, value=0.0):
    """These arguments all as the first of them."""

    def at_same(args):
        args = list(args)
        for i in same[1:]:
            args[i] = args[same[0]]
        return tuple(args), np.full(EXAMPLES, value)

    return at_same


def nothing(value, places=1):
    """Logits of zero."""
    return lambda args: (tuple(0 * a for a in args[:places]), np.full(EXAMPLES, value))


def entry(name, samples, levels=0, *, at_same, inputs=None, differentiated=(0,), held=None, **options):
    return Entry(
        name,
        inputs or drawn(samples, levels),
        getattr(references, name),
        at_same,
        extreme(samples),
        options=options,
        differentiated=differentiated,
        held=held,
    )


def matching_held(args):
    return references.distribution_matching_held(*args)


def unnormalised_held(args):
    return references.distribution_matching_held(*args, normaliser='none')


def without_noise(args):
    generated, _, alpha, sigma = args
    return (generated, references.along(alpha, generated) * generated, alpha, sigma), np.zeros(EXAMPLES)


def still_tangent(args):
    output, tangent, w = args
    return (output, 0 * tangent, w), -w


def tangent_held(args):
    return lambda output, tangent, w: references.tangent_matching(output, args[1], w, held=args[0])


def at_ddim(args):
    """The student says what the teacher's step comes to."""
    _, signal, data, alpha, sigma, alpha_next, sigma_next = args
    step = references.along(1 - alpha * sigma_next / (sigma * alpha_next), data)
    return (signal + step * (data - signal), *args[1:]), np.zeros(EXAMPLES)


def log_weighted(rng):
    return *rng.normal(size=(2, EXAMPLES, *SHAPE)), rng.normal(size=EXAMPLES)


def held(make):
    return lambda args: make(*args)


GENERATORS = [
    *(
        entry('denoising', 2, 2, at_same=equal(0, 1), differentiated=(0, 1), unit=unit)
        for unit in ('noise', 'v', 'edm')
    ),
    entry('flow_matching', 3, at_same=lambda a: ((a[2] - a[1], *a[1:]), np.zeros(EXAMPLES)), differentiated=(0, 1)),
    entry('distribution_matching', 3, 1, at_same=equal(1, 2), held=matching_held),
    entry('distribution_matching', 3, 1, at_same=equal(1, 2), held=unnormalised_held, normaliser='none'),
    entry('em_distillation', 2, 2, at_same=without_noise),
    entry(
        'score_identity',
        3,
        at_same=equal(1, 2),
        differentiated=(0, 1, 2),
        held=held(references.score_identity_held),
    ),
    entry('score_identity', 3, at_same=equal(1, 2), differentiated=(0, 1, 2), alpha=0.5, normaliser='none'),
    *(
        entry('score_implicit_matching', 3, 1, at_same=equal(1, 2), differentiated=(0, 1, 2), distance=d)
        for d in ('pseudo_huber', 'squared')
    ),
    entry('consistency', 2, 1, at_same=equal(0, 1)),
    entry('consistency', 2, 1, at_same=equal(0, 1), distance='squared'),
    entry('tangent_matching', 2, at_same=still_tangent, inputs=log_weighted, differentiated=(0, 2), held=tangent_held),
    entry('mean_flow', 2, at_same=equal(0, 1), held=held(references.mean_flow_held)),
    entry('boot', 3, at_same=at_ddim, inputs=along_a_path),
    entry(
        'distilled_score',
        2,
        1,
        at_same=lambda a: ((a[0], 0 * a[1], a[2]), np.zeros(EXAMPLES)),
        held=held(references.distilled_score_held),
    ),
    entry('adversarial_generator', 1, at_same=nothing(math.log(2))),
    entry('adversarial_generator', 1, at_same=nothing(0.0), form='hinge'),
    entry('adversarial_discriminator', 2, at_same=nothing(2 * math.log(2), 2), differentiated=(0, 1)),
    entry('adversarial_discriminator', 2, at_same=nothing(1.0, 2), differentiated=(0, 1), form='hinge'),
]
