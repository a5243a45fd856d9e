"""Initialises MKL's vector functions by a first call on one thread.

PyTorch's exp, log, tanh and others are MKL's on many CPUs. The first such call in a process sets the accuracy of all
later calls, and is not thread-safe: in about one of several hundred processes on a busy machine (torch 2.13), one
thread's part of an exp had an error of 1e-4, as in MKL's low-accuracy mode. After a first call on one thread this did
not occur.
"""

import torch

torch.zeros(64).exp()  # too short for a second thread
