"""How good a trained model is: figures measured on its samples beside those of real data."""
