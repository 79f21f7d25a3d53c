"""Writes a tiny TFDS data set in array_record format without TensorFlow."""

import io
from pathlib import Path

import numpy as np

CLASSES = ('red', 'green', 'blue')


def write(
    root: Path, splits: dict[str, int], *, name='tiny_colours', version='1.0.0', labels=None, config=None
):
    """Example i of a split has label i mod 3 (or labels[split][i]), that colour, and i in its top left pixel.

    Returns the folder of the version.
    """
    import tensorflow_datasets as tfds

    examples = {}
    for split, count in splits.items():
        chosen = labels[split] if labels else np.arange(count) % len(CLASSES)
        examples[split] = [{'image': _png(picture(i, int(y))), 'label': int(y)} for i, y in enumerate(chosen)]
    features = {
        'image': tfds.features.Image(shape=(8, 8, 3), encoding_format='png'),
        'label': tfds.features.ClassLabel(names=CLASSES),
    }
    return _write(root / name / (config or '') / version, name, version, config, features, examples)


def write_texts(root: Path, splits: dict[str, list[str]]):
    """The data set `tiny_texts`, of which every example is a text and its length."""
    import tensorflow_datasets as tfds

    features = {'text': tfds.features.Text(), 'length': tfds.features.Scalar(np.int32)}
    examples = {split: [{'text': text, 'length': len(text)} for text in texts] for split, texts in splits.items()}
    return _write(root / 'tiny_texts' / '1.0.0', 'tiny_texts', '1.0.0', None, features, examples)


def _write(folder: Path, name, version, config, features, examples):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity
    from tensorflow_datasets.core.sequential_writer import SequentialWriter

    folder.mkdir(parents=True)
    identity = DatasetIdentity(
        name=name,
        version=tfds.core.Version(version),
        data_dir=str(folder),
        module_name='tests',
        config_name=config,
    )
    info = tfds.core.DatasetInfo(
        builder=identity, features=tfds.features.FeaturesDict(features), description='tiny', license='CC0-1.0'
    )
    writer = SequentialWriter(info, max_examples_per_shard=20, file_format='array_record')
    writer.initialize_splits(list(examples))
    for split, found in examples.items():
        writer.add_examples({split: found})
    writer.close_all()
    return folder


def picture(i: int, label: int) -> np.ndarray:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :, label] = 200
    image[0, 0] = i % 256
    return image


def _png(image: np.ndarray) -> io.BytesIO:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, 'png')
    file.seek(0)
    return file
