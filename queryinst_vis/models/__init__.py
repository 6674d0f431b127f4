"""The networks of the paper, independent of files, data sets and videos."""
