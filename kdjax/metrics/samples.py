"""How good a whole set of samples is beside held-out examples, by the features of one fixed network."""

from __future__ import annotations

from kdjax.metrics.classification import Labels, Logits, accuracy, nll
from kdjax.metrics.diversity import distance_within_classes, vendi_score
from kdjax.metrics.feature_sets import Features
from kdjax.metrics.frechet import frechet_distance
from kdjax.metrics.mmd import kid, mmd
from kdjax.metrics.neighbours import neighbourhoods


def sample_metrics(real: Features, made: Features, labels: Labels, *, k: int = 5) -> dict[str, float]:
    """frechet, kid, mmd, precision, recall, density, coverage (with k neighbours), within_class and vendi.

    labels: the class that each generated example was asked to be of. See `frechet_distance`, `kid`, `mmd`,
    `neighbourhoods`, `distance_within_classes` and `vendi_score`.
    """
    return {
        'frechet': frechet_distance(real, made),
        'kid': kid(real, made),
        'mmd': mmd(real, made),
        **neighbourhoods(real, made, k=k),
        'within_class': distance_within_classes(made, labels),
        'vendi': vendi_score(made),
    }


def asked_classes(logits: Logits, labels: Labels) -> dict[str, float]:
    """class_accuracy, in 0..1, and class_nll, in nats: what a fixed classifier says of the classes asked for."""
    return {'class_accuracy': accuracy(logits, labels), 'class_nll': nll(logits, labels)}
