"""Strict modes for every test: ranks never promote, dtypes never promote, warnings are errors (see pyproject.toml)."""

import jax

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')
