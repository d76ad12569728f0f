"""What holds for all tests."""

import os
import signal

# Torch reads these when it is loaded, here and in what tests start. Tensors are tiny: on a machine
# with several tests at work a second thread only waits for its turn, and by default at full speed,
# which made such tests four times as expensive. Tests of threads set their number themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell has what it starts in the background ignore Ctrl-C, and `nohup` a terminal that is closed;
# some tests send both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
