"""Forms of the model's modules that run faster on a CPU."""
