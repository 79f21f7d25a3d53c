"""The register of the losses of data-set distillation; see `registered_losses`."""

import condensation_references as references
import numpy as np
from registered_losses import EXAMPLES, Entry

SHAPE = (2, 3)


def drawn(samples):
    return lambda rng: tuple(rng.normal(size=(samples, EXAMPLES, *SHAPE)))


def spectra(rng):
    """Two points within the unit disc for each frequency."""
    radius, angle = rng.uniform(0.2, 0.9, (2, EXAMPLES)), rng.uniform(0, 2 * np.pi, (2, EXAMPLES))
    (a, b), (c, d) = radius * np.cos(angle), radius * np.sin(angle)
    return a, c, b, d


def extreme(args):
    """Nothing, everything alike, far apart, tiny."""
    zero, ones = [0 * a for a in args], [np.ones_like(a) for a in args]
    signs = [1e4 * (-1) ** i * a for i, a in enumerate(ones)]
    return [zero, ones, [*args[:1] * len(args)], signs, [zero[0], *args[1:]], [1e-20 * a for a in args]]


def spectral_extremes(args):
    zero = [0 * a for a in args]
    return [zero, [*args[:2], *args[:2]], [*zero[:2], *args[2:]], [*args[:2], *zero[2:]]]


CONDENSATION = [
    Entry(
        'gradient_cosine',
        drawn(2),
        references.gradient_cosine,
        lambda a: ((1e3 * a[0], 1e3 * a[0]), np.zeros(EXAMPLES)),
        extreme,
    ),
    Entry(
        'trajectory_distance',
        drawn(3),
        references.trajectory_distance,
        lambda a: ((a[0], a[0], a[2]), np.zeros(EXAMPLES)),
        extreme,
        differentiated=(0,),
    ),
    *(
        Entry(
            'characteristic_distance',
            spectra,
            references.characteristic_distance,
            lambda a: ((*a[:2], *a[:2]), np.zeros(EXAMPLES)),
            spectral_extremes,
            options=options,
            differentiated=(0, 1, 2, 3),
        )
        for options in ({}, {'amplitude': 0.9, 'phase': 0.1})
    ),
]
