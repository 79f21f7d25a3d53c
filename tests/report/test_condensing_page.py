"""The fair table: which arms are rows, what stands in them, and the page that leads to it."""

import copy

import pytest
from made_up import record as made_up

from kdjax.metrics.condensation import label_robust_score
from kdjax.report import condensing
from kdjax.report.site import write_site

LEVELS = {
    'dm_10': 0.8,
    'random_10': 0.6,
    'dm_1': 0.5,
    'random_1': 0.4,
    'rs2_1': 0.7,
    'rs2_10': 0.9,
    'random_10_plain': 0.5,
}


@pytest.fixture(scope='module')
def record():
    made = made_up('condensation/dm', levels=LEVELS, claims=('dm_10 > random_10 on accuracy',), systems=())
    made['config'] = {'student': 'convnet-16-3', 'transfer': ['mlp-64'], 'per_class': 10}
    for name, arm in made['arms'].items():
        for other in ('soft', 'mlp', 'mlp_soft'):
            arm['metrics'][f'{other}/accuracy'] = [v - 0.1 for v in arm['metrics']['accuracy']]
        if not name.startswith('rs2'):
            arm['metrics']['stored_bytes'] = [2600.0] * 5
    return made


def test_rows_are_methods_by_size_and_all_real_images_stand_last(record):
    found = [(row.method, row.size) for row in condensing.rows(record)]
    assert found == [('dm', 1), ('random', 1), ('rs2', 1), ('dm', 10), ('random', 10), ('rs2', 10)]


def test_scores_compare_with_random_images_of_the_same_size(record):
    arms = record['arms']
    wanted = label_robust_score(
        synthetic_hard=arms['dm_1']['metrics']['accuracy'][2], full_hard=arms['rs2_1']['metrics']['accuracy'][2],
        synthetic=arms['dm_1']['metrics']['soft/accuracy'][2], random=arms['random_1']['metrics']['soft/accuracy'][2],
    )  # fmt: skip
    row = condensing.rows(record)[0]
    assert row.scores['lrs'][2] == wanted and 'ars' not in row.scores
    assert condensing.rows(record)[-1].scores == {}


def test_an_arm_that_diverged_has_neither_scores_nor_seconds(record):
    made = copy.deepcopy(record)
    dm, random = made['arms']['dm_1'], made['arms']['random_1']
    dm['metrics'], dm['cost'] = {metric: [None] * 5 for metric in dm['metrics']}, {}
    random['metrics']['soft/accuracy'][0] = random['metrics']['stored_bytes'][0] = None
    header, body = condensing.cells(made)
    first, second = (dict(zip(header, line, strict=True)) for line in body[:2])
    assert first['convnet-16-3, hard'] == first['LRS'] == '5 of 5 diverged'
    assert first['stored'] == first['seconds'] == '–'
    assert second['LRS'] == '1 of 5 diverged' and 'KiB' in second['stored']


def test_a_line_for_each_method_and_a_column_for_each_student_and_kind_of_label(record):
    text = condensing.markdown(record)
    head = '| images a class | convnet-16-3, hard | convnet-16-3, soft | mlp-64, hard | mlp-64, soft | stored |'
    assert head in text and 'LRS' in text
    (line,) = (one for one in text.splitlines() if one.startswith('| rs2 | 10 |'))
    assert '–' in line
    assert '2.54' in text and 'KiB' in text


def test_labels_of_the_set_itself_have_a_column_of_their_own(record):
    own = copy.deepcopy(record)
    own['arms']['dm_1']['metrics']['own/accuracy'] = [0.5] * 5
    header, body = condensing.cells(own)
    at = header.index('convnet-16-3, own labels, soft')
    assert [line[at] == '–' for line in body] == [False, True, True, True, True, True]


def test_the_site_has_one_page_of_all_tables(record, tmp_path):
    names = [f.name for f in write_site([record], tmp_path, experiments={}, tables=[record])]
    assert 'condensing.html' in names
    assert (tmp_path / 'condensing.html').read_text().count('<table') == 2
    assert 'condensing.html' in (tmp_path / 'index.html').read_text()
    other = made_up()
    assert 'condensing.html' not in [f.name for f in write_site([other], tmp_path / 'b', experiments={})]
