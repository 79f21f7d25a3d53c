"""Sources of images -> deterministic, step-indexed batches."""

from kdjax.data.batches import batch_indices, evaluation_batches, evaluation_indices, host_batches
from kdjax.data.dataset import ArraySource, Batch, Dataset, ImageDataset, Source
from kdjax.data.loading import load

__all__ = [
    'ArraySource',
    'Batch',
    'Dataset',
    'ImageDataset',
    'Source',
    'batch_indices',
    'evaluation_batches',
    'evaluation_indices',
    'host_batches',
    'load',
]
