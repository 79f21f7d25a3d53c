"""The register: a loss enters the contract suite by one entry here and one identity in `loss_identities`."""

import dataclasses
import functools
import math
from collections.abc import Callable

import loss_references as references
import numpy as np

from kdjax import losses

EXAMPLES, CLASSES = 4, 5
NOT_LOSSES = {'standardize', 'memory_scores', 'memory_log_z', 'update_memory', 'chunked'}

Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the suite has to know about a loss.

    inputs: numpy generator -> float64 (and integer) arguments.
    reference: the same arguments and options in NumPy; per example, or the scalar of a coupled loss.
    at_same: arguments -> (arguments with student = teacher, the value stated for each example there).
    extremes: arguments -> a list of arguments at which values and gradients have to be finite.
    options: those of the call; coupled: does the batch matter to a row.
    shared: arguments without a batch axis.
    class_axes: argument -> (its class or channel axis, where else to put it).
    differentiated: the arguments with a gradient.
    held: arguments -> the reference with its weights as they are there: of a loss that detaches them.
    """

    name: str
    inputs: Callable[[np.random.Generator], Arrays]
    reference: Callable
    at_same: Callable[[Arrays], tuple[Arrays, np.ndarray]]
    extremes: Callable[[Arrays], list[Arrays]]
    options: dict = dataclasses.field(default_factory=dict)
    coupled: bool = False
    shared: tuple[int, ...] = ()
    class_axes: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)
    differentiated: tuple[int, ...] = (0, 1)
    held: Callable[[Arrays], Callable] | None = None

    @property
    def loss(self):
        return getattr(losses, self.name)

    @property
    def label(self):
        return '-'.join([self.name, *(f'{k}={said(v)}' for k, v in self.options.items())])


def said(value):
    """An option within a test's name: functions by theirs, not by where they lie."""
    if isinstance(value, functools.partial):
        return f'{value.func.__name__}{value.keywords}'
    return getattr(value, '__name__', value)


def logits(rng):
    return tuple(2 * rng.normal(size=(2, EXAMPLES, CLASSES)))


def labelled_logits(rng):
    return *logits(rng), rng.integers(CLASSES, size=EXAMPLES)


def maps(rng):
    """[batch, height, width, channels]."""
    return tuple(rng.normal(size=(2, EXAMPLES, 2, 3, 4)))


def vectors(rng):
    return tuple(rng.normal(size=(2, EXAMPLES, 3)))


def zero_at_same(args):
    return (args[0], args[0], *args[2:]), np.zeros(EXAMPLES)


def same(value):
    """Student = teacher with a stated value; `value` reads the shared logits, row by row."""
    return lambda args: (
        (args[0], args[0], *args[2:]),
        np.array([value(*row) for row in zip(*args, strict=True)]),
    )


def entropy_of(z, *_):
    return references.entropy(z[None])[0]


def extreme_logits(args):
    """1e4 apart, in agreement and not; all equal; the target certain, impossible, and neither."""
    signs = np.where(np.arange(CLASSES) % 2, 1e4, -1e4) * np.ones((EXAMPLES, 1))
    peak = 1e4 * np.eye(CLASSES)[np.arange(EXAMPLES) % CLASSES]
    zero = np.zeros_like(signs)
    rest = args[2:]
    pairs = [
        (signs, -signs),
        (signs, signs),
        (peak, -peak),
        (-peak, peak),
        (zero, zero),
        (peak, zero),
        (zero, peak),
    ]
    return [(s, t, *rest) for s, t in pairs] + [(args[0] * 1e-20, args[1] * 1e-20, *rest)]


def extreme_features(args):
    """Nothing (dead units), identical rows, rows equal to the teacher's, very large and very small."""
    s, t, *rest = args
    zero, alike = np.zeros_like(s), np.broadcast_to(s[:1], s.shape)
    half = s * (np.arange(EXAMPLES) > 1).reshape((-1,) + (1,) * (s.ndim - 1))
    pairs = [
        (zero, t),
        (zero, zero),
        (alike, t),
        (alike, alike),
        (half, t),
        (s, s),
        (1e4 * s, t),
        (1e-6 * s, 1e4 * t),
    ]
    return [(a, b, *rest) for a, b in pairs]


def of_logits(name, reference, **rest):
    return Entry(
        name,
        rest.pop('inputs', logits),
        reference,
        rest.pop('at_same', zero_at_same),
        extreme_logits,
        class_axes={0: (-1, 0), 1: (-1, 0)},
        **rest,
    )


def of_features(name, reference, **rest):
    at_same = rest.pop('at_same', zero_at_same)
    return Entry(name, rest.pop('inputs', vectors), reference, at_same, extreme_features, **rest)


def soft_targets(rng):
    z, other = logits(rng)
    return z, np.array([references.softmax(row) for row in other])


def at_own_targets(args):
    targets = np.array([references.softmax(row) for row in args[0]])
    return (args[0], targets), references.entropy(args[0])


def extreme_targets(args):
    certain = np.eye(CLASSES)[np.arange(EXAMPLES) % CLASSES]
    return [(s, certain) for s, *_ in extreme_logits((*args, None))]


def hard_targets(rng):
    return rng.normal(size=(EXAMPLES, CLASSES)), rng.integers(CLASSES, size=EXAMPLES)


def at_uniform(args):
    return (np.zeros_like(args[0]), *args[1:]), np.full(EXAMPLES, math.log(CLASSES))


def plackett_luce_at_same(args):
    same = (args[0], args[0], args[2])
    return same, references.plackett_luce(*same, temperature=2.0)


def maps_with_rho(rng):
    return *maps(rng), rng.normal(size=4)


def vid_at_same(args):
    stated = 0.5 * np.mean(np.log(np.log1p(np.exp(args[2])) + 1e-5))
    return (args[0], args[0], args[2]), np.full(EXAMPLES, stated)


def extreme_vid(args):
    return [(*a[:2], rho) for a in extreme_features(args) for rho in (np.full(4, -60.0), np.full(4, 60.0))]


def all_rows_alike(args):
    """Where nothing tells the examples apart, each is as likely as the others."""
    alike = np.broadcast_to(args[0][:1], args[0].shape)
    return (alike, alike), np.full(EXAMPLES, math.log(EXAMPLES))


BANK = 7


def bank_scores(rng):
    return rng.normal(size=(EXAMPLES, 4)), np.asarray(0.3)


def even_odds(args):
    """Scores at which every slot is the positive with probability one half."""
    scores, log_z = args
    return (np.full_like(scores, log_z + math.log(3 / BANK)), log_z), np.full(EXAMPLES, 4 * math.log(2))


def embeddings_and_rows(rng):
    s, t = rng.normal(size=(2, EXAMPLES, 3))
    rows = rng.normal(size=(2, EXAMPLES, 4, 3))
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    return s, t, *rows, np.array([0.3, -0.2])


def crd_at_zero(args):
    s, t, *rows, _ = args
    return (0 * s, 0 * t, *rows, np.full(2, -math.log(3 / BANK))), np.full(EXAMPLES, 8 * math.log(2))


def head_targets(rng):
    return rng.normal(size=(EXAMPLES, 2)), rng.uniform(size=(EXAMPLES, 2))


def at_own_odds(args):
    p = 1 / (1 + np.exp(-args[0]))
    return (args[0], p), np.mean(-p * np.log(p) - (1 - p) * np.log(1 - p), axis=-1)


KNOWN = 3


def known_classes(rng):
    """A student's logits, and the likeliest classes of a teacher; the last is padding in one example."""
    student, teacher = logits(rng)
    ids = np.argsort(-teacher, axis=-1)[:, :KNOWN]
    probs = np.take_along_axis(np.array([references.softmax(row) for row in teacher]), ids, axis=-1)
    ids[1, -1] = -1
    return student, ids, probs


def known_and_entropy(rng):
    args = known_classes(rng)
    return *args, references.entropy(args[0])


def known_at_same(stated):
    """The student's own probabilities; `stated(student, ids, probs)` is the value there."""

    def at_same(args):
        student, ids, _, *rest = args
        s = np.array([references.softmax(row) for row in student])
        probs = np.take_along_axis(s, np.maximum(ids, 0), axis=-1)
        return (student, ids, probs, *rest), stated(student, ids, probs)

    return at_same


def extreme_known(args):
    """A student certain of the known classes, of an unknown one, of nothing; a teacher certain, and empty."""
    student, ids, probs, *rest = args
    known = np.array([np.isin(np.arange(CLASSES), row) for row in ids])
    students = [np.where(known, 1e4, -1e4), np.where(known, -1e4, 1e4), np.zeros_like(student), 1e-20 * student]
    certain = np.eye(KNOWN)[:1] * np.ones((EXAMPLES, 1))
    return [(s, ids, p, *rest) for s in students for p in (probs, certain, np.zeros_like(probs))]


def of_known_classes(name, reference, stated=lambda *_: np.zeros(EXAMPLES), inputs=known_classes, **options):
    return Entry(
        name, inputs, reference, known_at_same(stated), extreme_known, options=options, differentiated=(0, 2)
    )


def minus_log_known(student, ids, probs):
    return -np.log(np.sum(probs * (ids >= 0), axis=-1))


REGISTER = [
    Entry(
        'cross_entropy',
        hard_targets,
        references.cross_entropy,
        at_uniform,
        lambda args: [(s, args[1]) for s, _ in extreme_logits((*args,))],
        options={'smoothing': 0.1},
        class_axes={0: (-1, 0)},
        differentiated=(0,),
    ),
    Entry(
        'cross_entropy',
        soft_targets,
        references.cross_entropy,
        at_own_targets,
        extreme_targets,
        class_axes={0: (-1, 0), 1: (-1, 0)},
    ),
    Entry(
        'entropy',
        lambda rng: logits(rng)[:1],
        references.entropy,
        at_uniform,
        lambda args: [a[:1] for a in extreme_logits((*args, *args))],
        options={'temperature': 2.0},
        class_axes={0: (-1, 0)},
        differentiated=(0,),
    ),
    of_logits('kl_forward', references.kl_forward, options={'temperature': 4.0, 't_squared': True}),
    of_logits('kl_reverse', references.kl_reverse, options={'temperature': 2.0}),
    of_logits('jensen_shannon', references.generalized_jsd),
    of_logits('generalized_jsd', references.generalized_jsd, options={'beta': 0.9}),
    of_logits('generalized_jsd', references.generalized_jsd, options={'beta': 0.1, 'normalized': True}),
    of_logits('skew_kl', references.skew_kl),
    of_logits('skew_kl_reverse', references.skew_kl_reverse),
    of_logits('total_variation', references.total_variation),
    of_logits('negative_log_acceptance', references.negative_log_acceptance),
    of_logits(
        'hybrid_acceptance',
        references.hybrid_acceptance,
        held=lambda args: functools.partial(
            references.hybrid_acceptance, weights=references.hybrid_weights(*args)
        ),
    ),
    of_logits('alpha_divergence', references.alpha_divergence, options={'alpha': 0.3}),
    of_logits('alpha_divergence', references.alpha_divergence, options={'alpha': 0.7}),
    of_logits('mse_logits', references.mse),
    of_logits('cosine_logits', references.cosine_logits),
    of_logits('pearson', references.pearson),
    of_logits('dist', references.dist, options={'beta': 0.5, 'gamma': 2.0, 'temperature': 2.0}, coupled=True),
    of_logits('tckd', references.tckd, inputs=labelled_logits),
    of_logits('nckd', references.nckd, inputs=labelled_logits),
    of_logits('dkd', references.dkd, inputs=labelled_logits, options={'temperature': 4.0}),
    of_logits(
        'plackett_luce',
        references.plackett_luce,
        inputs=labelled_logits,
        at_same=plackett_luce_at_same,
        options={'temperature': 2.0},
        differentiated=(0,),
    ),
    of_logits('ofa', references.ofa, inputs=labelled_logits, at_same=same(entropy_of), differentiated=(0,)),
    of_logits(
        'ofa',
        references.ofa,
        inputs=labelled_logits,
        differentiated=(0,),
        options={'gamma': 1.5, 'form': 'paper'},
        at_same=lambda args: (
            (args[0], args[0], args[2]),
            references.ofa(args[0], args[0], args[2], gamma=1.5, form='paper'),
        ),
    ),
    Entry(
        'binary_cross_entropy',
        head_targets,
        references.binary_cross_entropy,
        at_own_odds,
        lambda args: [
            (np.full_like(args[1], x), t) for x in (1e4, -1e4, 0.0) for t in (0 * args[1], args[1])
        ],
        class_axes={0: (-1, 0), 1: (-1, 0)},
    ),
    of_features('hint_mse', lambda s, t: references.mse(s, t), inputs=maps),
    of_features(
        'attention_transfer', references.attention_transfer, inputs=maps, class_axes={0: (-1, 1), 1: (-1, 1)}
    ),
    of_features(
        'attention_transfer',
        references.attention_transfer,
        inputs=maps,
        options={'form': 'paper', 'power': 4},
        class_axes={0: (-1, 1), 1: (-1, 1)},
    ),
    of_features('similarity_preserving', references.similarity_preserving, coupled=True),
    of_features('rkd_distance', references.rkd_distance, coupled=True),
    of_features('rkd_angle', references.rkd_angle, coupled=True),
    of_features('pkt', references.pkt, coupled=True),
    of_features(
        'cka',
        references.cka,
        coupled=True,
        inputs=maps,
        at_same=lambda args: ((args[0], args[0]), np.zeros(EXAMPLES)),
    ),
    Entry(
        'vid',
        maps_with_rho,
        references.vid,
        vid_at_same,
        extreme_vid,
        shared=(2,),
        class_axes={0: (-1, 1), 1: (-1, 1)},
        differentiated=(0, 1, 2),
    ),
    of_features('in_batch_nce', references.in_batch_nce, coupled=True, at_same=all_rows_alike),
    of_features(
        'in_batch_nce',
        references.in_batch_nce,
        coupled=True,
        at_same=all_rows_alike,
        options={'symmetric': True, 'temperature': 0.5},
    ),
    Entry(
        'memory_nce',
        bank_scores,
        references.memory_nce,
        even_odds,
        lambda args: [(np.full_like(args[0], x), args[1]) for x in (1e4, -1e4, 0.0)],
        options={'bank_size': BANK},
        shared=(1,),
        differentiated=(0,),
    ),
    Entry(
        'crd',
        embeddings_and_rows,
        references.crd,
        crd_at_zero,
        extreme_features,
        options={'bank_size': BANK},
        shared=(4,),
    ),
    of_known_classes('sparse_cross_entropy', references.sparse_cross_entropy, references.sparse_cross_entropy),
    of_known_classes(
        'sparse_kl',
        references.sparse_kl,
        lambda s, ids, p: references.sparse_kl(s, ids, p, references.entropy(s), temperature=2.0, t_squared=True),
        inputs=known_and_entropy,
        temperature=2.0,
        t_squared=True,
    ),
    of_known_classes('truncated_kl', references.truncated_kl),
    of_known_classes('renormalized_kl', references.renormalized_kl, minus_log_known),
    of_known_classes('renormalized_kl', references.renormalized_kl, both=True),
    of_known_classes('tail_bucket_kl', references.tail_bucket_kl),
]
"""Every public loss, with the options at which it is examined."""
