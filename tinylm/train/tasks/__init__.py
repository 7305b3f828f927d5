"""The tasks that a run can train: settings, data, model and loss of each."""
