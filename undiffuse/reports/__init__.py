"""The page of a run: what it learned from, how, and what came of it."""
