"""The files of the field: annotations, results and tracks, each format's rules written once."""
