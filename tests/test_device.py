"""ramengpt/device.py with faked cards."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ramengpt import device
from ramengpt.device import Profile

KIB = 1024


def card(
    capability: tuple[int, int] = (9, 0), shared_kib: int = 227, memory_gib: float = 24
) -> Profile:
    return Profile(
        device.architecture_of(capability),
        "a card",
        capability,
        shared_kib * KIB,
        int(memory_gib * 2**30),
        bfloat16=capability[0] >= 8,
    )


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), "unknown"),
        ((7, 0), "volta"),
        ((7, 5), "turing"),
        ((8, 0), "ampere"),
        ((8, 6), "ampere"),
        ((8, 9), "ada"),
        ((9, 0), "hopper"),
        ((10, 0), "blackwell"),
        ((12, 0), "blackwell"),
        ((13, 0), "unknown"),
    ],
)
def test_architecture_follows_from_the_capability(capability, expected):
    assert device.architecture_of(capability) == expected


def test_profile_reads_what_cuda_reports(monkeypatch):
    properties = SimpleNamespace(
        major=12,
        minor=0,
        name="NVIDIA GeForce RTX 5090",
        shared_memory_per_block_optin=99 * KIB,
        total_memory=32 * 2**30,
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    found = device.profile(torch.device("cuda"))
    assert (found.architecture, found.shared_memory_bytes) == ("blackwell", 99 * KIB)
    assert found.bfloat16
    assert found.memory_bytes == 32 * 2**30


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_multiplies_it(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    cpu = device.profile(torch.device("cpu"))
    assert cpu.architecture == "none"
    assert device.choose_dtype("auto", cpu) == expected
    assert device.choose_dtype("bfloat16", cpu) == torch.bfloat16


def test_auto_precision_is_bfloat16_where_the_card_has_it():
    assert device.choose_dtype("auto", card((8, 6))) == torch.bfloat16
    assert device.choose_dtype("auto", card((7, 5))) == torch.float16
    assert device.choose_dtype("auto", card((7, 0))) == torch.float16
    assert device.choose_dtype("auto", card((6, 1))) == torch.float32
    assert device.choose_dtype("float16", card()) == torch.float16
    assert device.choose_dtype("float32", card()) == torch.float32
    with pytest.raises(ValueError, match="precision: a card has no bfloat16"):
        device.choose_dtype("bfloat16", card((7, 5)))


@pytest.mark.parametrize("shared_kib", [48, 99, 163, 227])
@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_flex_tiles_fit_shared_memory(shared_kib, head_dim, dtype):
    options = device.flex_kernel_options(card((8, 9), shared_kib), head_dim, dtype)
    queries, keys, stages = options.values() if options else (128, 64, 3)
    needed = (queries + 2 * stages * keys) * head_dim * dtype.itemsize
    assert needed <= shared_kib * KIB


def test_flex_keeps_pytorch_tiles_where_they_fit_and_says_when_none_does():
    assert device.flex_kernel_options(card((8, 0)), 128, torch.bfloat16) == {}
    assert "fwd_BLOCK_M" in device.flex_kernel_options(card((8, 9), 99), 128, torch.bfloat16)
    with pytest.raises(ValueError, match="use sdpa"):
        device.flex_kernel_options(card((8, 9), 32), 256, torch.float32)


def test_flex_has_tiles_of_its_own_on_hopper():
    narrow = device.flex_kernel_options(card(), 64, torch.bfloat16)
    wide = device.flex_kernel_options(card(), 128, torch.bfloat16)
    assert narrow["fwd_BLOCK_M"] == wide["fwd_BLOCK_M"] == 64
    assert [name for name in narrow if name not in wide] == [
        *("bwd_BLOCK_M1", "bwd_BLOCK_N1", "bwd_BLOCK_M2", "bwd_BLOCK_N2"),
        *("bwd_num_warps", "bwd_num_stages"),
    ]
    assert "fwd_num_warps" not in device.flex_kernel_options(card(), 64, torch.float32)


@pytest.mark.parametrize(
    ("capability", "reported_kib", "patched"),
    [((12, 0), 48, True), ((12, 0), 99, False), ((9, 0), 48, False), ((8, 9), 48, False)],
)
def test_shared_memory_is_patched_only_on_consumer_blackwell_that_reports_too_little(
    capability, reported_kib, patched
):
    def reported(index: int) -> dict[str, int]:
        return {"max_shared_mem": reported_kib * KIB, "warpSize": 32, "index": index}

    utilities = SimpleNamespace(get_device_properties=reported)
    assert device.patch_triton_shared_memory(card(capability, 99), utilities) is patched
    assert (utilities.get_device_properties is not reported) is patched
    found = utilities.get_device_properties(3)
    expected = 99 if patched else reported_kib
    assert found == {"max_shared_mem": expected * KIB, "warpSize": 32, "index": 3}
    assert device.patch_triton_shared_memory(card(capability, 99), utilities) is False


def test_the_patch_reaches_what_triton_asks():
    triton = pytest.importorskip("triton")
    source = Path(triton.__file__).with_name("compiler") / "compiler.py"
    assert 'driver.active.utils.get_device_properties(device)["max_shared_mem"]' in (
        source.read_text()
    )


def test_configure_puts_the_compile_cache_under_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": str(tmp_path)})
    device.configure(torch.device("cpu"))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "ramengpt" / "inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "other")
    device.configure(torch.device("cpu"))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "other"


def test_inductor_reads_the_cache_variable_by_that_name(monkeypatch, tmp_path):
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    assert cache_dir() == str(tmp_path / "inductor")


def test_a_part_of_the_cards_memory_stays_free():
    assert 0.8 * 24 < device.usable_memory_bytes(card(memory_gib=24)) / 2**30 < 0.9 * 24
