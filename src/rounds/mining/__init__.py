"""Mining: choose hard negatives for training queries from several sources, and pseudo-labels for unlabelled ones."""
