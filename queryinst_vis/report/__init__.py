"""Self-contained HTML pages: an evaluation, a training, a tracked video, each as one file."""
