"""Models: the backbone, what is tuned in it, and checkpoints that rebuild themselves from their manifest."""
