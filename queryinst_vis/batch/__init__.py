"""Many videos: found, tracked by workers on this machine or on Ray, and written as one data set."""
