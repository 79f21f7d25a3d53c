"""Several processes of one run: joining, agreeing, stopping together."""
