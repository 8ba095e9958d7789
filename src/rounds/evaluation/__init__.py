"""Evaluation: metrics, significance, result tables, ledger, parity and robustness."""
