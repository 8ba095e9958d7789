"""Kaggle: client, submission file, offline bundle, notebook and private leaderboard."""
