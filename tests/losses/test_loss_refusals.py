"""What a loss refuses, and what it says then."""

import jax.numpy as jnp
import pytest

from kdjax import losses


def zeros(*shape):
    return jnp.zeros(shape)


IDS = jnp.zeros(4, jnp.int32)


@pytest.mark.parametrize('name', ['kl_forward', 'generalized_jsd', 'mse_logits', 'pearson', 'dist'])
def test_other_classes(name):
    with pytest.raises(ValueError, match=r'teacher has 12 classes, student 10 \(student \(4, 10\)'):
        getattr(losses, name)(zeros(4, 10), zeros(4, 12))


@pytest.mark.parametrize('name', ['dkd', 'tckd', 'nckd', 'plackett_luce', 'ofa'])
def test_other_classes_of_labelled_losses(name):
    with pytest.raises(ValueError, match='teacher has 12 classes, student 10'):
        getattr(losses, name)(zeros(4, 10), zeros(4, 12), IDS)


def test_classes_are_those_of_the_axis():
    with pytest.raises(ValueError, match='teacher has 12 classes, student 10'):
        losses.kl_forward(zeros(10, 4), zeros(12, 4), axis=0)


REFUSED = {
    'other examples': (
        lambda: losses.kl_forward(zeros(4, 5), zeros(3, 5)),
        r'differ in their examples \(student \(4, 5\), teacher \(3, 5\)\): pair them',
    ),
    'other rank': (lambda: losses.kl_forward(zeros(4, 5), zeros(4, 1, 5)), 'differ in rank .*: reshape'),
    'mask of logits': (
        lambda: losses.kl_forward(zeros(4, 5), zeros(4, 5), where=jnp.ones((4, 1), bool)),
        r'`where` has shape \(4, 1\), the examples \(4,\): give one boolean for each example',
    ),
    'mask of features': (
        lambda: losses.cka(zeros(4, 5), zeros(4, 5), where=jnp.ones(3, bool)),
        r'`where` has shape \(3,\)',
    ),
    'temperature': (
        lambda: losses.kl_reverse(zeros(4, 5), zeros(4, 5), temperature=0),
        'temperature is 0: it has',
    ),
    'smoothing': (
        lambda: losses.cross_entropy(zeros(4, 5), IDS, smoothing=1.5),
        'smoothing is 1.5: .* between 0 and 1',
    ),
    'label shape': (
        lambda: losses.cross_entropy(zeros(4, 5), IDS[:3]),
        r'labels have shape \(3,\), the examples \(4,\): give one class id',
    ),
    'soft labels of other classes': (
        lambda: losses.cross_entropy(zeros(4, 5), zeros(4, 6)),
        r'labels have shape \(4, 6\), logits \(4, 5\): they need the same shape',
    ),
    'labels of a labelled loss': (
        lambda: losses.dkd(zeros(4, 5), zeros(4, 5), IDS[:2]),
        r'labels have shape \(2,\)',
    ),
    'one class': (lambda: losses.dkd(zeros(4, 1), zeros(4, 1), IDS), 'have one class: decoupling needs'),
    'vanishing beta': (
        lambda: losses.generalized_jsd(zeros(4, 5), zeros(4, 5), beta=0),
        'beta is 0: .*normalized=True with beta 0',
    ),
    'beta without digits': (
        lambda: losses.generalized_jsd(zeros(4, 5), zeros(4, 5), beta=1e-4, normalized=True),
        'beta is 0.0001: .*loses its digits',
    ),
    'beta outside': (
        lambda: losses.generalized_jsd(zeros(4, 5), zeros(4, 5), beta=2),
        'beta is 2: .* between 0 and 1',
    ),
    'alpha outside': (lambda: losses.skew_kl(zeros(4, 5), zeros(4, 5), alpha=-1), 'alpha is -1'),
    'weights by position': (
        lambda: losses.plackett_luce(zeros(4, 5), zeros(4, 5), IDS, weights=zeros(4)),
        r'weights have shape \(4,\), classes are 5',
    ),
    'gamma': (lambda: losses.ofa(zeros(4, 5), zeros(4, 5), IDS, gamma=0), 'gamma is 0'),
    'hint shapes': (
        lambda: losses.hint_mse(zeros(4, 3), zeros(4, 6)),
        r'student features have shape \(4, 3\), teacher features \(4, 6\): put a projector',
    ),
    'batches': (
        lambda: losses.pkt(zeros(4, 3), zeros(5, 3)),
        r'\(4, 3\), teacher features \(5, 3\): both need a lead',
    ),
    'places': (
        lambda: losses.attention_transfer(zeros(4, 6, 6, 2), zeros(4, 4, 4, 2)),
        'places have to be equal or a whole multiple',
    ),
    'rank of maps': (
        lambda: losses.attention_transfer(zeros(4, 6, 6, 2), zeros(4, 6, 2)),
        'places have to be equal',
    ),
    'variances': (
        lambda: losses.vid(zeros(4, 2, 3), zeros(4, 2, 3), zeros(2)),
        r'rho has shape \(2,\), .* 3 channels',
    ),
    'no negatives': (
        lambda: losses.memory_nce(zeros(4, 1), zeros(), bank_size=9),
        'a positive and a negative slot',
    ),
    'bank rows': (
        lambda: losses.memory_scores(zeros(4, 3), zeros(4, 2, 5)),
        r'embedding has shape \(4, 3\), bank rows \(4, 2, 5\)',
    ),
    'momentum': (lambda: losses.update_memory(zeros(9, 3), IDS, zeros(4, 3), momentum=2), 'momentum is 2'),
    'one class to standardise': (lambda: losses.standardize(zeros(4, 1)), 'have one class on axis -1'),
    'head shapes': (
        lambda: losses.binary_cross_entropy(zeros(4, 2), zeros(4, 1)),
        r'targets have shape \(4, 1\), logits \(4, 2\)',
    ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused(case):
    attempt, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        attempt()
