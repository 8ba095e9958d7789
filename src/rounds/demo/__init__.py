"""Demo: a page on this machine on which a typed question is ranked by a checkpoint and by its base model."""
