"""Triton kernels, each beside the plain PyTorch that defines it."""
