"""Many runs: combinators of overrides, plans, trials and where they stand."""
