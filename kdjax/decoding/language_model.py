"""A decoder together with its sizes, which a cache of its keys and values is built from."""

import dataclasses

from kdjax.models.decoder_config import DecoderConfig
from kdjax.models.model import Model


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """model: `decoder(config)`, in any dtype."""

    model: Model
    config: DecoderConfig
