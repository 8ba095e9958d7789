"""Training: datasets, collators, losses and the trainer of a round."""
