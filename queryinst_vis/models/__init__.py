"""The networks of the paper. Independent of files, data sets and videos."""
