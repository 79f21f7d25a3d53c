"""Sources of images and text -> deterministic, step-indexed batches."""

from kdjax.data.batches import batch_indices, evaluation_batches, evaluation_indices, host_batches
from kdjax.data.dataset import ArraySource, Batch, Dataset, ImageDataset, Source
from kdjax.data.loading import load
from kdjax.data.text import TextDataset, load_text

__all__ = [
    'ArraySource',
    'Batch',
    'Dataset',
    'ImageDataset',
    'Source',
    'TextDataset',
    'batch_indices',
    'evaluation_batches',
    'evaluation_indices',
    'host_batches',
    'load',
    'load_text',
]
