"""Set losses: matching, the criterion of the image model, and the track loss."""
