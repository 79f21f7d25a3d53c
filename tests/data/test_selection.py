"""Choosing examples, on sets small enough to know the answer."""

import functools
import itertools

import numpy as np
import pytest

from kdjax.data import selection
from kdjax.errors import UserError

LABELS = np.arange(24) % 3
LINE = np.array([0.0, 1.0, 2.0, 3.0, 10.0])[:, None]


def blobs(seed=0, each=6):
    """Three tight clusters in the plane, one after the other."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 7.0]])
    return np.concatenate([c + 0.1 * rng.normal(size=(each, 2)) for c in centres]), centres


def test_random_rows_are_of_their_classes_without_repeats_and_follow_the_seed():
    rows = selection.random_rows(LABELS, classes=3, per_class=4, seed=1)
    assert rows.shape == (4, 3)
    np.testing.assert_array_equal(LABELS[rows], np.broadcast_to(np.arange(3), (4, 3)))
    assert len(np.unique(rows)) == 12
    np.testing.assert_array_equal(rows, selection.random_rows(LABELS, classes=3, per_class=4, seed=1))
    assert (rows != selection.random_rows(LABELS, classes=3, per_class=4, seed=2)).any()


def test_repeated_random_subsets_cover_the_data_before_anything_comes_again():
    rounds = list(selection.repeated_random(10, 4, rounds=5, seed=0))
    np.testing.assert_array_equal(np.bincount(np.concatenate(rounds), minlength=10), np.full(10, 2))
    assert all(len(set(r.tolist())) == 4 for r in rounds)
    first = np.concatenate(rounds[:3])[:10]
    assert sorted(first.tolist()) == list(range(10))


def test_with_replacement_rounds_are_drawn_anew():
    rounds = list(selection.repeated_random(10, 4, rounds=50, seed=0, replacement=True))
    assert all(len(set(r.tolist())) == 4 for r in rounds)
    assert any(set(a.tolist()) & set(b.tolist()) for a, b in itertools.pairwise(rounds))
    counts = np.bincount(np.concatenate(rounds), minlength=10)
    assert counts.min() > 8 and counts.max() < 32


def test_herding_follows_the_mean():
    """Mean 3.2: 3 is nearest; then 3 with 3.2 * 2 - 3 = 3.4, whose nearest left is 2."""
    np.testing.assert_array_equal(selection.herding(LINE, 2), [3, 2])
    x, _ = blobs()
    chosen = selection.herding(x, 6)
    assert np.linalg.norm(x[chosen].mean(0) - x.mean(0)) < 0.1
    assert len(set(chosen.tolist())) == 6


def test_k_center_takes_the_farthest():
    np.testing.assert_array_equal(selection.k_center(LINE, 3), [3, 4, 0])
    x, _ = blobs()
    assert {int(i) // 6 for i in selection.k_center(x, 3)} == {0, 1, 2}


def test_k_means_finds_clusters_and_fills_empty_ones():
    x, centres = blobs()
    found, assigned = selection.k_means(x, 3, seed=0)
    for centre in centres:
        assert np.linalg.norm(found - centre, axis=1).min() < 0.2
    assert len({tuple(assigned[i : i + 6]) for i in (0, 6, 12)}) == 3
    _, alike = selection.k_means(np.zeros((4, 2)), 3, seed=0)
    assert len(set(alike.tolist())) == 3


def test_nearest_to_centres_are_distinct_examples():
    x, _ = blobs()
    chosen = selection.nearest_to_centres(x, 3, seed=0)
    assert {int(i) // 6 for i in chosen} == {0, 1, 2}
    assert len(set(selection.nearest_to_centres(np.zeros((4, 2)), 3, seed=0).tolist())) == 3


def test_k_means_rows_choose_within_classes():
    x, _ = blobs(each=8)
    rows = selection.k_means_rows(x, LABELS, classes=3, per_class=3, seed=0)
    np.testing.assert_array_equal(LABELS[rows], np.broadcast_to(np.arange(3), (3, 3)))
    assert all({int(i) // 8 for i in rows[:, c]} == {0, 1, 2} for c in range(3))


def test_el2n_is_the_length_of_the_error():
    p = np.array([[[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    np.testing.assert_allclose(selection.el2n(p, np.array([0, 0, 0])), [0, np.sqrt(2), np.sqrt(0.5) / 2])


def test_by_score_takes_extremes_of_each_class():
    scores = np.arange(24.0)
    hard = selection.by_score(scores, LABELS, classes=3, per_class=2)
    np.testing.assert_array_equal(hard, [[21, 22, 23], [18, 19, 20]])
    easy = selection.by_score(scores, LABELS, classes=3, per_class=2, largest=False)
    np.testing.assert_array_equal(easy, [[0, 1, 2], [3, 4, 5]])


def test_graph_cut_is_the_greedy_maximum():
    """Against the function itself, evaluated for every next example."""
    x, _ = blobs(each=2)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    s = 0.5 + 0.5 * unit @ unit.T

    def value(chosen):
        return 2 * s[:, chosen].sum() - s[np.ix_(chosen, chosen)].sum()

    chosen = []
    for _ in range(4):
        chosen.append(max((i for i in range(6) if i not in chosen), key=lambda i: value([*chosen, i])))
    np.testing.assert_array_equal(selection.graph_cut(x, 4), chosen)


def test_bins_give_equally():
    x, _ = blobs()
    chosen = selection.from_bins(x, 6, bins=3, seed=0)
    assert len(set(chosen.tolist())) == 6
    first = selection.graph_cut(x, 6)
    assert len(set(first.tolist()) & set(chosen[:2].tolist())) == 2
    assert len(selection.from_bins(x, 2, bins=10)) == 2


def test_choosers_work_class_by_class():
    x = np.random.default_rng(0).normal(size=(24, 4, 4, 1))
    for choose in (selection.herding, selection.k_center, selection.graph_cut, functools.partial(selection.from_bins)):
        rows = selection.within_classes(choose, x, LABELS, classes=3, per_class=5)
        np.testing.assert_array_equal(LABELS[rows], np.broadcast_to(np.arange(3), (5, 3)))
        assert len(np.unique(rows)) == 15


def test_what_cannot_be_chosen():
    with pytest.raises(UserError, match='class 0 has 8 examples, and 9 for each class are wanted'):
        selection.random_rows(LABELS, classes=3, per_class=9, seed=0)
    with pytest.raises(UserError, match='class 3 has no examples'):
        selection.random_rows(LABELS, classes=4, per_class=1, seed=0)
    with pytest.raises(UserError, match='11 clusters of 10 examples'):
        selection.k_means(np.zeros((10, 2)), 11, seed=0)
    with pytest.raises(UserError, match='subsets of 11 out of 10 examples'):
        next(selection.repeated_random(10, 11, rounds=1, seed=0))
