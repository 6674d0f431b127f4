"""Looking at annotation files, mending and cutting them: what ``queryinst-vis data`` does."""
