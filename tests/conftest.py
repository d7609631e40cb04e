"""For every test."""

import os
import signal

# The tests' own Ray asks nobody for a token, also where this user has one; clusters of a test have one of their own.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

# A runner that was started in the background has Ctrl-C ignored, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
