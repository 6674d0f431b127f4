"""QueryInst and QueryInst-VIS: instances as queries, tracked through video."""
