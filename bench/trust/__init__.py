"""
Load tests of a real worker: sessions continue when keys and providers fail.

    python -m bench.trust [NAME…]

Each run starts a worker process in front of a scripted provider and prints figures; a figure that
does not meet its goal fails the run.
"""
