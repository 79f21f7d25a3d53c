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
    from tensorflow_datasets.core.dataset_info import DatasetIdentity
    from tensorflow_datasets.core.sequential_writer import SequentialWriter

    folder = root / name / (config or '') / version
    folder.mkdir(parents=True)
    features = {
        'image': tfds.features.Image(shape=(8, 8, 3), encoding_format='png'),
        'label': tfds.features.ClassLabel(names=CLASSES),
    }
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
    writer.initialize_splits(list(splits))
    for split, count in splits.items():
        chosen = labels[split] if labels else np.arange(count) % len(CLASSES)
        examples = [{'image': _png(picture(i, int(y))), 'label': int(y)} for i, y in enumerate(chosen)]
        writer.add_examples({split: examples})
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
