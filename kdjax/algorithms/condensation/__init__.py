"""Small sets that train well: training that is differentiated through, and what a set is matched to."""
