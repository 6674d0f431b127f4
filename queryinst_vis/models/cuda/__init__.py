"""The network in a form that never waits: static shapes from the frames to the run lengths."""
