"""Results of papers, computed again."""
