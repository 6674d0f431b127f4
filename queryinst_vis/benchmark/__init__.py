"""How fast a model is, from network input to written video, and how near to what the machine can.

``speed.benchmark`` is the way in.
"""
