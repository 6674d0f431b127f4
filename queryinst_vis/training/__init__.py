"""Training, inference and checkpoints: the rooms below put to work."""
