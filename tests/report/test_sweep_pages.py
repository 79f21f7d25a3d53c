"""The pages of sweeps: what they show, in which order, and that they are as sound as the others."""

import dataclasses
import re

import pytest
from made_up import ABOUT, images, record
from made_up_sweeps import standing
from test_site import Parsed

from kdjax.report.site import write_site
from kdjax.report.sweeps import sweep_page


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    out = tmp_path_factory.mktemp('site')
    files = write_site([record()], out, experiments=ABOUT, images=images, sweeps=[standing(), standing('other-1')])
    return {f.relative_to(out).as_posix(): Parsed(f.read_text()) for f in files if f.suffix == '.html'}


@pytest.fixture(scope='module')
def page(pages):
    return pages['sweeps/kd-temperature-student-1a2b3c4d.html']


def rows(text: str, key: str) -> list[list[str]]:
    """The cells of a section's table, without tags."""
    body = re.search(rf'<section id="{key}">.*?<tbody>(.*?)</tbody>', text, re.S)
    assert body is not None
    plain = body[1].replace('\N{NO-BREAK SPACE}', ' ')
    cells = [re.findall(r'<t[hd][ >].*?</t[hd]>', row) for row in re.findall(r'<tr>(.*?)</tr>', plain, re.S)]
    return [[re.sub('<.*?>', '', cell) for cell in row] for row in cells]


def test_every_sweep_has_its_page_and_the_first_page_leads_there(pages):
    assert {p for p in pages if p.startswith('sweeps/')} == {
        'sweeps/kd-temperature-student-1a2b3c4d.html', 'sweeps/other-1.html',
    }  # fmt: skip
    index = pages['index.html']
    assert 'sweeps/other-1.html' in index.links
    assert 'sweeps' in index.ids
    assert '47 of 48 trials done' in index.text.replace('\N{NO-BREAK SPACE}', ' ')


def test_without_sweeps_the_first_page_does_not_speak_of_them(tmp_path):
    write_site([record()], tmp_path, experiments=ABOUT, images=images)
    assert 'weeps' not in (tmp_path / 'index.html').read_text()
    assert not (tmp_path / 'sweeps').exists()


def test_the_page_is_sound(page, pages):
    assert len(page.ids) == len(set(page.ids))
    assert {'points', 'fields', 'open'} <= set(page.ids)
    assert [a for a in page.loads if not a.startswith('data:')] == ['../site.css']
    assert {link for link in page.links if '../' not in link} == set()
    assert all(link.removeprefix('../') in pages for link in page.links)
    assert 'Classic <distillation>: temperature, student' in page.text


def test_it_says_which_split_it_shows(page):
    assert 'Metrics of the validation split, on which values are chosen.' in page.text
    test = Parsed(sweep_page(dataclasses.replace(standing(), split='test')))
    assert 'Metrics of the TEST split: to look at after the choice, never to choose by.' in test.text
    assert 'validation' not in test.text


def test_the_points_keep_their_order_with_interval_and_seeds():
    shown = rows(sweep_page(standing()), 'points')
    assert len(shown) == 16
    assert shown[1] == ['labels', '1.0', 'mlp-8', '84.10 ± 0.99 %', '0.310 ± 0.025', '3/3']
    assert shown[0][-1] == '2/3'
    assert shown[-1][3] == '1 of 3 diverged'


def test_what_is_not_done_is_told_with_its_reason_escaped(page):
    text = sweep_page(standing())
    assert rows(text, 'open') == [['kd', '1.0', 'mlp-8', '2', 'failed (1): &lt;b&gt;no space&lt;/b&gt;']]
    assert 'failed (1): <b>no space</b>' in page.text


def test_a_figure_for_every_field_with_colours_of_the_page():
    text = sweep_page(standing())
    assert re.findall(r'aria-label="(accuracy of[^"]*)"', text) == [
        'accuracy of every point against temperature', 'accuracy of every point against student',
    ]  # fmt: skip
    assert 'var(--arm-0)' in text and 'var(--arm-1)' in text
    assert not re.search(r'#0[0-9a-f]{5}\b', text), 'placeholders of colours are gone'
    assert re.search(r'>mlp-64</text>', text) and re.search(r'>16</text>', text)
    assert text == sweep_page(standing()), 'the same sweep gives the same bytes'


def test_a_sweep_that_has_not_begun_has_a_table_and_no_figure():
    empty = standing()
    waiting = [dataclasses.replace(p, states=('waiting',) * 3, metrics={}) for p in empty.places]
    page = Parsed(sweep_page(dataclasses.replace(empty, places=tuple(waiting))))
    assert 'points' in page.ids and 'fields' not in page.ids
    assert '0 of 48' in page.text
    assert '48 trials waiting.' in page.text.replace('\N{NO-BREAK SPACE}', ' ')
    assert page.text.count('waiting') == 1
