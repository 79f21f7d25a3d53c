"""What slow tests of training on several processes share: one folder, and the run that nobody touched."""

import pytest
from commands import STEPS, Place, last_row, result, said


@pytest.fixture(scope='session')
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp('place'))


@pytest.fixture(scope='session')
def whole(place):
    """The run that nobody touches: every rank says the same losses, to the bit."""
    zero, one = place.run(place.root / 'whole')
    assert (zero.code, one.code) == (0, 0), (zero.err, one.err)
    assert said(zero, 'row') == said(one, 'row') and last_row(zero) == STEPS
    found = result(place.root / 'whole')
    assert zero.out.rstrip().endswith(found[0]) and found[0] not in one.out, 'one rank alone speaks of the result'
    return found
