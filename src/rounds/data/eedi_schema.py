"""Names in the competition's files, apart from the code that reads them, which imports pandas."""

FILES = ("train.csv", "test.csv", "misconception_mapping.csv", "sample_submission.csv")
