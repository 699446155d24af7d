"""Memory of freed tensors, and caches of users with and without a home."""

import ctypes
import os
import platform
import subprocess
import sys
import tempfile

import pytest

from ramengpt import host

FREE_A_LARGE_TENSOR = """
import ctypes, sys
import torch
from ramengpt import host

class Heap(ctypes.Structure):  # mallinfo2 of malloc.h
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split())]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Heap
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert host.keep_freed_memory()
tensor = torch.ones(2**23)
free_before = mallinfo().fordblks
del tensor
print(mallinfo().fordblks - free_before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is set")
def test_the_memory_of_a_freed_tensor_stays_in_the_process_for_the_next_one():
    def kept_bytes(mode: str) -> int:
        command = [sys.executable, "-c", FREE_A_LARGE_TENSOR, mode]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert kept_bytes("keep") >= 4 * 2**23
    assert kept_bytes("default") < 2**20


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.delattr(ctypes, "CDLL")
    assert host.keep_freed_memory() is False


def test_a_relative_xdg_folder_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": "cache", "HOME": str(tmp_path)})
    assert host.user_cache_folder() == tmp_path / ".cache" / "ramengpt"


def test_without_a_home_that_can_be_written_to_the_cache_is_temporary(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null/none")
    folder = host.user_cache_folder()
    assert folder.is_relative_to(tempfile.gettempdir())
    assert str(os.getuid()) in folder.name


def test_a_user_without_a_home_has_a_cache(monkeypatch):
    def no_home():
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(host.Path, "home", no_home)
    assert host.user_cache_folder().is_relative_to(tempfile.gettempdir())
