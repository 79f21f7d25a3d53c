"""The algebra of sweeps: sizes, order, neutral elements, associativity, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdjax.errors import UserError
from kdjax.run.sweeps.combinators import chain, fields, prefix, product, values, zipped

A = values('a', 1, 2)
B = values('b', 'x', 'y', 'z')
C = values('c', 0.5, 0.25)


def sweep_of(names: str):
    """Any sweep whose points name some of these fields."""
    return st.lists(st.dictionaries(st.sampled_from(names), st.integers(0, 3), max_size=2), max_size=4)


SWEEPS = sweep_of('abc')


def test_the_last_field_of_a_product_runs_fastest():
    assert product(A, C) == [{'a': 1, 'c': 0.5}, {'a': 1, 'c': 0.25}, {'a': 2, 'c': 0.5}, {'a': 2, 'c': 0.25}]


def test_a_chain_keeps_the_order_and_a_zip_goes_in_step():
    assert chain(A, C) == [{'a': 1}, {'a': 2}, {'c': 0.5}, {'c': 0.25}]
    assert zipped(A, C) == [{'a': 1, 'c': 0.5}, {'a': 2, 'c': 0.25}]


@given(SWEEPS, SWEEPS, SWEEPS)
def test_chain_is_associative_with_no_points_as_its_neutral(p, q, r):
    assert chain(p, chain(q, r)) == chain(chain(p, q), r) == chain(p, q, r)
    assert chain(p, chain()) == chain(chain(), p) == p
    assert len(chain(p, q)) == len(p) + len(q)


@given(sweep_of('ab'), sweep_of('cd'), sweep_of('ef'))
def test_product_is_associative_with_one_empty_point_as_its_neutral(p, q, r):
    assert product(p, product(q, r)) == product(product(p, q), r) == product(p, q, r)
    assert product(p, product()) == product(product(), p) == p
    assert len(product(p, q, r)) == len(p) * len(q) * len(r)
    assert product(p, chain()) == []


@given(sweep_of('ab'), sweep_of('ab'), sweep_of('cd'))
def test_product_distributes_over_chain_on_its_left(p, q, r):
    assert product(chain(p, q), r) == chain(product(p, r), product(q, r))


@given(sweep_of('ab'), sweep_of('cd'))
def test_prefix_goes_through_the_others_and_composes(p, q):
    def deep(sweep):
        return prefix('o', sweep)

    assert deep(product(p, q)) == product(deep(p), deep(q))
    assert deep(chain(p, q)) == chain(deep(p), deep(q))
    assert deep(zipped(p, p[:0] + [{} for _ in p])) == zipped(deep(p), [{} for _ in p])
    assert prefix('a', prefix('b', p)) == prefix('a.b', p)


def test_a_prefix_names_the_nested_field():
    assert prefix('optimizer', values('rate', 1e-3)) == [{'optimizer.rate': 1e-3}]


def test_fields_in_order_of_appearance():
    assert fields(chain(B, product(A, C))) == ['b', 'a', 'c']


def test_what_comes_out_is_a_copy():
    first = chain(A)
    first[0]['a'] = 9
    product(A)[0]['a'] = 9
    assert A == [{'a': 1}, {'a': 2}]


def test_a_zip_of_unequal_lengths_names_both():
    with pytest.raises(UserError) as error:
        zipped(product(A, C), B)
    assert str(error.value) == (
        "zip: 'a', 'c' has 4 points, 'b' has 3: give both as many, or take their product"
    )


@pytest.mark.parametrize('combine', [product, zipped])
def test_a_field_in_two_sweeps_is_refused(combine):
    with pytest.raises(UserError, match=r"'a' is in two of its sweeps: give its values once, or chain the sweeps"):
        combine(A, product(values('a', 3, 4)))
