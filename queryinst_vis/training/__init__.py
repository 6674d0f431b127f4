"""Training, and testing on data sets."""
