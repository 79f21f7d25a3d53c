"""Runs kdjax where the machines are: `python -m launch WHERE [VERB] [options] -- kdjax run ...`, from the checkout."""
