"""File formats of annotations, results and tracks."""
