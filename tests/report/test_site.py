import copy
import html.parser
import pathlib
import urllib.parse

import numpy as np
import pytest
from made_up import ABOUT, images, record

from kdjax.errors import UserError
from kdjax.report.markup import VOID
from kdjax.report.site import write_site

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
LOADS = {'script': 'src', 'link': 'href', 'img': 'src', 'iframe': 'src', 'source': 'src', 'use': 'href'}


class Parsed(html.parser.HTMLParser):
    """Tags that close in order, every id once, and what is linked and loaded."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ''
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        self.ids += [values['id']] if 'id' in values else []
        self.links += [values['href']] if tag == 'a' else []
        self.loads += [values[LOADS[tag]]] if LOADS.get(tag) in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp('site')
    second = record(
        'self/ps_kd', levels={'labels': 0.9, 'ps_kd': 0.85}, claims=('ps_kd > labels on accuracy',)
    )
    second['systems'] = [445]
    files = write_site([record(), second], out, experiments=ABOUT, images=images)
    return out, files


@pytest.fixture(scope='module')
def pages(site):
    _, files = site
    return {f: Parsed(f.read_text()) for f in files if f.suffix == '.html'}


def test_the_files_are_what_was_promised(site):
    out, files = site
    names = {f.relative_to(out).as_posix() for f in files}
    assert names == {
        'index.html', 'atlas.html', 'site.css', 'experiments/logits/kd.html', 'experiments/self/ps_kd.html',
    }  # fmt: skip
    assert all(f.is_file() for f in files)


def test_every_internal_link_leads_somewhere(pages):
    for file, page in pages.items():
        for link in page.links:
            if link.startswith('https://arxiv.org/'):
                continue
            path, _, anchor = link.partition('#')
            target = (file.parent / urllib.parse.unquote(path)).resolve() if path else file
            assert target in pages, f'{file}: {link}'
            assert not anchor or anchor in pages[target].ids, f'{file}: {link}'


def test_ids_are_unique_and_nothing_is_loaded_from_a_network(pages, site):
    for page in pages.values():
        assert len(page.ids) == len(set(page.ids))
        for address in page.loads:
            assert address.startswith('data:') or not urllib.parse.urlparse(address).scheme, address
        assert not any(name.startswith('on') for _, values in page.tags for name in values)
    style = (site[0] / 'site.css').read_text()
    assert 'http' not in style and '@import' not in style and 'url(' not in style


def test_the_atlas_holds_every_system_with_family_and_status(pages, site):
    atlas = pages[site[0] / 'atlas.html']
    rows = {v['id']: v for t, v in atlas.tags if t == 'li' and v.get('id', '').startswith('s')}
    assert set(rows) == {f's{i}' for i in range(452)}
    assert {v['data-family'] for v in rows.values()} >= {'logits', 'diffusion', 'speech'}
    assert rows['s85']['data-status'] == 'reproduced'
    assert rows['s445']['data-status'] == 'contrary'
    assert rows['s86']['data-status'] == 'pending'
    assert rows['s79']['data-status'] == 'outside'
    assert {'experiments/logits/kd.html', 'experiments/self/ps_kd.html'} <= set(atlas.links)
    options = [v['value'] for t, v in atlas.tags if t == 'option']
    assert {'', 'logits', 'reproduced', 'contrary', 'pending', 'outside'} <= set(options)


def test_the_first_page_shows_every_verdict_and_what_waits(pages, site):
    index = pages[site[0] / 'index.html']
    assert '2 experiments verified: 1 reproduced, 1 contrary' in index.text.replace('\N{NO-BREAK SPACE}', ' ')
    assert 'kd > labels on accuracy' in index.text
    assert 'kdjax verify waiting' in index.text
    assert 'atlas.html' in index.links


def test_an_experiment_page_has_all_its_parts(pages, site):
    page = pages[site[0] / 'experiments' / 'logits' / 'kd.html']
    assert {
        'claims',
        'results',
        'curves',
        'calibration',
        'disagreements',
        'cost',
        'repeat',
        'identity',
    } <= set(page.ids)
    assert '../../atlas.html#s85' in page.links
    assert sum(t == 'img' for t, _ in page.tags) == 12
    for said in ('kdjax verify kd', 'a' * 64, '0.10.2', 'GFLOP', 'ECE'):
        assert said in page.text


def test_parts_without_data_are_left_out(tmp_path):
    bare = record()
    for key in ('disagreements', 'seconds'):
        del bare[key]
    for arm in bare['arms'].values():
        arm |= {'curves': None, 'calibration': None, 'cost': None, 'description': ''}
        arm['metrics']['nll'][2] = None
    write_site([bare], tmp_path, experiments={}, images=None)
    page = Parsed((tmp_path / 'experiments' / 'logits' / 'kd.html').read_text())
    assert not {'curves', 'calibration', 'disagreements', 'cost'} & set(page.ids)
    assert '1 of 5 diverged' in page.text.replace('\N{NO-BREAK SPACE}', ' ')
    assert 'kdjax verify kd' in page.text


def test_images_that_are_not_here_are_left_out(tmp_path):
    write_site([record()], tmp_path, experiments=ABOUT, images=lambda dataset, indices: None)
    page = Parsed((tmp_path / 'experiments' / 'logits' / 'kd.html').read_text())
    assert 'disagreements' not in page.ids


def test_hostile_text_stays_text(tmp_path):
    bad = record(title=HOSTILE)
    bad['arms'][HOSTILE] = copy.deepcopy(bad['arms'].pop('kd'))
    bad['arms'][HOSTILE]['description'] = HOSTILE
    bad['arms'][HOSTILE]['metrics'][HOSTILE] = [0.1] * 5
    bad['claims'][0] |= {'text': HOSTILE, 'left': HOSTILE, 'metric': HOSTILE, 'verdict': HOSTILE}
    bad['config'] = {HOSTILE: HOSTILE}
    bad['dataset'] = bad['identity']['device'] = HOSTILE
    bad['disagreements'][0] |= {'students': {HOSTILE: HOSTILE}, 'label': HOSTILE}
    about = {'logits/kd': {'docstring': f'{HOSTILE}\n\n    {HOSTILE}', 'systems': (85,), 'command': HOSTILE}}
    files = write_site([bad], tmp_path, experiments=about, images=images)
    clean = {f: Parsed(f.read_text()) for f in files if f.suffix == '.html'}
    for file, page in clean.items():
        assert sum(t == 'script' for t, _ in page.tags) == (file.name == 'atlas.html')
        assert not any('onerror' in values or values.get('src') == 'x' for _, values in page.tags)
    assert HOSTILE in clean[tmp_path / 'experiments' / 'logits' / 'kd.html'].text


def test_the_same_records_give_the_same_bytes(site, tmp_path):
    out, files = site
    second = record(
        'self/ps_kd', levels={'labels': 0.9, 'ps_kd': 0.85}, claims=('ps_kd > labels on accuracy',)
    )
    second['systems'] = [445]
    write_site([second, record()], tmp_path, experiments=ABOUT, images=images)
    for file in files:
        assert file.read_bytes() == (tmp_path / file.relative_to(out)).read_bytes()


def test_without_records_the_atlas_is_still_there(tmp_path):
    write_site([], tmp_path, experiments={}, images=None)
    assert 'No experiment has been verified yet' in (tmp_path / 'index.html').read_text()
    assert (tmp_path / 'atlas.html').is_file()


@pytest.mark.parametrize(
    'change, message',
    [
        ({'version': 2}, r"record of 'logits/kd' has version 2, this kdjax reads version 1: write it anew"),
        ({'experiment': '../../outside'}, r"'../../outside' cannot be shown: call it family/name"),
        ({'experiment': 'kd'}, r"'kd' cannot be shown: call it family/name"),
        ({'experiment': 'logits/new', 'systems': [999]}, r'no system 999: its ids run from 0 to 451'),
    ],
)
def test_records_that_cannot_be_shown_are_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        write_site([record() | change], tmp_path, experiments=ABOUT, images=None)
    assert list(pathlib.Path(tmp_path).iterdir()) == []


def test_images_of_any_range_are_shown():
    from kdjax.report.images import picture, scaled

    shown = scaled(np.array([[[[-1.0], [3.0]]], [[[1.0], [np.nan]]]]))
    assert shown.dtype == np.uint8 and shown.ravel().tolist() == [0, 255, 128, 64]
    assert scaled(np.full((1, 2, 2, 3), 0.5)).max() == 128
    assert 'class="pixels"' in picture(shown[0], 'a')
    assert 'class' not in picture(np.zeros((80, 80, 3), np.uint8), 'a')
