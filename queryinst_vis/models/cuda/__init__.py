"""The model for GPUs: static shapes from frames to run lengths, without host synchronisation."""
