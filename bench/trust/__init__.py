"""
Load against a real worker, to see that keys and providers may fail and sessions do not.

    python -m bench.trust [NAME…]

Each run starts a worker process before a scripted provider, does what its row of the gateway's
rules says (G2, G7, G10 …), and tells figures; a figure that misses its goal fails the run.
"""
