"""Tensors in, tensors out: the networks of the paper. Knows no file, dataset or video."""
