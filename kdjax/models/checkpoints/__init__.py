"""Public checkpoints: Hugging Face folders in and out, GGUF files in. Nothing that can execute code is ever read."""

from kdjax.models.checkpoints.checkpoint import Checkpoint as Checkpoint
from kdjax.models.checkpoints.gguf import gguf_config as gguf_config
from kdjax.models.checkpoints.gguf import read_gguf as read_gguf
from kdjax.models.checkpoints.huggingface import read_checkpoint as read_checkpoint
from kdjax.models.checkpoints.huggingface import write_checkpoint as write_checkpoint
from kdjax.models.checkpoints.loading import load as load
