"""The network as one compiled graph, which the first process saves and later ones load.

PyTorch's own caches keep the generated kernels, but every process traces the network again and then
looks its graphs up. A saved graph needs neither.
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode

PACKAGE = Path(__file__).resolve().parents[1]


class SavedGraph:
    """A module's forward pass, compiled for each kind of arguments that it meets.

    Args:
        module: maps tensors, or None in place of some, to a tensor.
        settings: everything but the code that the graph depends on, the device's properties
            included; what the tensors hold is no part of it.
    """

    def __init__(self, module: nn.Module, settings: str) -> None:
        self._module = module
        self._settings = settings
        self._graphs: list[Any] = []

    def __call__(self, *arguments: Tensor | None) -> Tensor:
        """The module's output; the first call of a kind loads or compiles."""
        given = (self._module, *arguments)
        for graph in self._graphs:
            if graph.guard_check(*given):
                return graph(*given)
        graph = self._loaded(given) or self._compiled(arguments)
        graph.disable_guard_check()  # checked above, which of them fits
        self._graphs.append(graph)
        return graph(*given)

    def _loaded(self, given: tuple[Any, ...]) -> Any:
        """The saved graph; None if there is none that fits."""
        path = self._path(given[1:])
        if not path.exists():
            return None
        try:
            # Inside a tracing context, since guards of imported modules install themselves.
            with path.open("rb") as file, tracing(TracingContext(FakeTensorMode())):
                graph = torch.compiler.load_compiled_function(
                    file, f_globals=type(self._module).forward.__globals__
                )
        except Exception:  # cut short, or of another PyTorch: compiled again and replaced
            return None
        return graph if graph.guard_check(*given) else None  # type: ignore[attr-defined]

    def _compiled(self, arguments: tuple[Tensor | None, ...]) -> Any:
        torch._dynamo.config.enable_aot_compile = True  # the default from PyTorch 2.12 on
        forward = torch.compile(
            self._module.forward,
            dynamic=False,
            fullgraph=True,
            options={"guard_filter_fn": _can_be_saved},
        )
        graph = forward.aot_compile((arguments, {}))  # type: ignore[attr-defined]
        path = self._path(arguments)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")  # runs that start together save the same
        graph.save_compiled_function(str(temporary))
        temporary.replace(path)
        return graph

    def _path(self, arguments: tuple[Tensor | None, ...]) -> Path:
        """Beside PyTorch's caches, under a name that says what the graph depends on."""
        from torch._inductor import config
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        kinds = [None if x is None else (x.shape, x.dtype, x.device) for x in arguments]
        digest = hashlib.sha256(f"{torch.__version__} {self._settings} {kinds}".encode())
        digest.update(config.get_hash())
        for file in sorted(PACKAGE.rglob("*.py")):
            digest.update(file.read_bytes())
        return Path(cache_dir(), "ramengpt", f"{digest.hexdigest()}.graph")


def _can_be_saved(guards: Sequence[Any]) -> list[bool]:
    """Which of Dynamo's guards a file can hold: those of values that the module or arguments hold.

    Not of objects' identities, nor of what belongs to code, which the file's name stands for.
    """
    unsupported = torch._dynamo.guards.CheckFunctionManager.UNSUPPORTED_SERIALIZATION_GUARD_TYPES
    return [
        not guard.is_global
        and not guard.name.startswith("__import__")
        and not {guard.guard_type, *guard.derived_guard_types} & set(unsupported)
        for guard in guards
    ]


@contextmanager
def importing_compiler(*, enabled: bool) -> Iterator[None]:
    """Import PyTorch's compiler in a thread, beside a block that does not use it.

    It takes seconds of Python, while building a network takes seconds of C++.
    """
    thread = threading.Thread(target=_import_compiler)
    if enabled:
        thread.start()
    yield
    if enabled:
        thread.join()


def _import_compiler() -> None:
    import torch._dynamo.aot_compile
    import torch._inductor.codegen.triton
    import torch._inductor.compile_fx
    import torch._inductor.kernel.flex  # noqa: F401
