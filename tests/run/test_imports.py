"""What a module's behaviour depends on: the files behind the names that it takes, at any depth, and no others."""

import sys

import pytest

from kdjax.run.imports import closure


def test_everything_that_is_used_at_any_depth():
    used = closure('kdjax.objectives')
    assert {'kdjax.objectives', 'kdjax.losses.divergences', 'kdjax.view', 'kdjax.models.model'} <= set(used)
    assert 'kdjax.losses._categorical' in used, 'relative imports count too'
    assert 'kdjax.run.fit' not in used
    assert 'kdjax.losses.divergences' in closure('tiny')


def test_a_package_that_only_names_brings_nothing_along():
    used = closure('kdjax.objectives')
    assert 'kdjax.losses' not in used and 'kdjax.losses.contrastive' not in used
    assert 'kdjax.losses.contrastive' in closure('kdjax.losses.contrastive')
    assert 'kdjax.metrics' in closure('kdjax.tasks.small_images'), 'a package with code of its own does'


FACADE = '"""Names."""\nfrom .one import first as first\nfrom .two import second\n__all__ = ["first"]\n'
CASES = {
    'an attribute': ('from kdjax import made\nmade.first()\n', {'one'}),
    'two attributes, by another name': ('from kdjax import made as m\nm.first()\nm.second()\n', {'one', 'two'}),
    'a name': ('from kdjax.made import second\n', {'two'}),
    'a file of the package': ('from kdjax.made import one\n', {'one'}),
    'a module of it': ('from kdjax.made.two import second\n', {'two'}),
    'the package handed on': ('from kdjax import made\nprint(made)\n', {'one', 'two'}),
    'getattr': ('from kdjax import made\ngetattr(made, "fir" + "st")()\n', {'one', 'two'}),
    'import': ('import kdjax.made\n', {'one', 'two'}),
    'import as': ('import kdjax.made as m\nm.first()\n', {'one', 'two'}),
    'inside a function': ('def f():\n    from kdjax import made\n    return made.second()\n', {'two'}),
    'nothing': ('x = 1\n', set()),
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A package kdjax.made of two files and a face, and modules that use it."""
    import kdjax

    folder = tmp_path / 'made'
    folder.mkdir()
    (folder / '__init__.py').write_text(FACADE)
    (folder / 'one.py').write_text('def first():\n    return 1\n')
    (folder / 'two.py').write_text('from .deep import third\n\n\ndef second():\n    return third()\n')
    (folder / 'deep.py').write_text('def third():\n    return 3\n')
    monkeypatch.setattr(kdjax, '__path__', [*kdjax.__path__, str(tmp_path)])
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith('kdjax.made')]:
        del sys.modules[name]


@pytest.mark.parametrize('case', CASES)
def test_what_a_file_depends_on(made, case):
    text, wanted = CASES[case]
    name = f'user_{list(CASES).index(case)}'
    (made / f'{name}.py').write_text(text)
    used = {n.removeprefix('kdjax.made.') for n in closure(name) if n.startswith('kdjax.made')}
    assert used == wanted | ({'deep'} if 'two' in wanted else set())
