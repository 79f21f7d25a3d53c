import pytest

from kdjax import catalogue
from kdjax.errors import UserError


def test_the_catalogue_has_452_systems_by_id():
    assert [s.id for s in catalogue.systems()] == list(range(452))
    assert catalogue.system(85).family == 'logits'


def test_every_system_is_described_in_one_line_of_text():
    for s in catalogue.systems():
        for text in (s.title, s.name, s.summary, s.outside or 'x'):
            assert text == ' '.join(text.split()) and text
        assert len(s.summary) <= 140, s.id
        assert s.summary.endswith('.') and (s.outside is None or s.outside.endswith('.')), s.id


def test_summaries_and_reasons_are_written_one_by_one():
    summaries = [s.summary for s in catalogue.systems()]
    reasons = [s.outside for s in catalogue.systems() if s.outside]
    assert len(set(summaries)) == len(summaries)
    assert len(set(reasons)) == len(reasons)
    assert 30 <= len(reasons) <= 60


def test_families_are_those_of_the_systems():
    assert len(catalogue.families()) == 24
    assert list(catalogue.families()) == sorted({s.family for s in catalogue.systems()})


def test_an_unknown_system_is_refused():
    with pytest.raises(UserError, match=r'no system 452: its ids run from 0 to 451'):
        catalogue.system(452)
