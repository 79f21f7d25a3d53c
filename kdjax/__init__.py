"""kdjax: distillation in JAX. Pure losses, one loop, and an honest verdict for every method."""
