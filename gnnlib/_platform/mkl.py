"""Makes PyTorch's first call of MKL's vector functions, on one thread.

PyTorch's exp, log, tanh and others are MKL's on many CPUs. The first such call in a process sets up the accuracy of all
later ones, and is not safe on several threads: of some hundred processes on a busy machine (torch 2.13) one
came out with an error of 1e-4 in one thread's share of an exp, as if half the bits had been asked for. After a first
call on one thread none did.
"""

import torch

torch.zeros(64).exp()  # too short for a second thread
