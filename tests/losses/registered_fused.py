"""The register of the fused vocabulary loss: every divergence, and every option that changes a value."""

from fused_references import DISTANCES, of_distance
from registered_losses import CLASSES, EXAMPLES, Entry

from kdjax.losses import pointwise

DIVERGENCES = {
    'kl_forward': pointwise.kl_forward,
    'kl_reverse': pointwise.kl_reverse,
    'jsd_paper': pointwise.jsd(0.1),
    'jsd_normalized': pointwise.jsd(0.9, 'normalized'),
    'jsd_continuous': pointwise.jsd(0.3, 'continuous'),
    'skew_kl': pointwise.skew_kl(0.1),
    'skew_kl_reverse': pointwise.skew_kl_reverse(0.2),
    'total_variation': pointwise.total_variation,
}
"""As in `DISTANCES`."""

WIDTH, WORDS = 3, CLASSES - 1


def taught(widths):
    """A student, labels among the words, teachers of their own widths."""

    def inputs(rng):
        label = rng.integers(WORDS, size=EXAMPLES)
        teachers = (rng.normal(size=(rows, width)) for width in widths for rows in (EXAMPLES, CLASSES))
        return rng.normal(size=(EXAMPLES, WIDTH)), rng.normal(size=(CLASSES, WIDTH)), label, *teachers

    return inputs


def extreme_hidden(args):
    """Logits all equal, far apart, certain, and hardly any; student and teacher certain of the same."""
    hidden, head, label, *teachers = args
    scales = [(0, 0), (0, 1e4), (1e4, 0), (1e4, 1e4), (-1e4, 1e4), (1e-20, 1e-20)]
    apart = [(a * hidden, head, label, *(x if i % 2 else b * x for i, x in enumerate(teachers))) for a, b in scales]
    return [*apart, (1e4 * hidden, head, label, *(1e4 * hidden, head) * (len(teachers) // 2))]


def entry(name, *, widths=(2,), **options):
    reference = of_distance(DISTANCES[name])
    of_labels = {k: v for k, v in options.items() if k in ('hard_weight', 'vocabulary', 'softcaps')}
    of_labels |= {'softcaps': options['softcaps'][:1]} if 'softcaps' in options else {}

    def at_same(args):
        """Every divergence is 0: what is left is the labels' part."""
        return (*args[:3], *args[:2] * len(widths)), reference(*args[:3], **of_labels)

    return Entry(
        'fused_divergence', taught(widths), reference, at_same, extreme_hidden,
        options={'divergence': DIVERGENCES[name], **options}, shared=(1, *range(4, 3 + 2 * len(widths), 2)),
    )  # fmt: skip


FUSED = [
    *(entry(name) for name in DIVERGENCES),
    entry('kl_forward', widths=(), hard_weight=1.0),
    entry('kl_forward', hard_weight=0.3, temperature=2.0, t_squared=True),
    entry('jsd_paper', widths=(2, 4), weights=(0.3, 0.5), chunk=3),
    entry('kl_reverse', vocabulary=WORDS, hard_weight=0.5, chunk=1),
    entry('jsd_continuous', softcaps=(2.0, 2.0), temperature=2.0, hard_weight=0.1, chunk=2),
]
