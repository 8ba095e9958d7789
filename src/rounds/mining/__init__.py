"""Mining: choose hard negatives for training queries from several sources."""
