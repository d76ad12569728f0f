"""MuJoCo's C interface to many simulations on one thread pool, called through ctypes.

MuJoCo's own Python class for this is not used: it cannot run a function of MuJoCo on the data of
every simulation, which contact forces need.
"""

import ctypes
import weakref
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

_HANDLE, _INT, _INTS = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int)


class _Config(ctypes.Structure):
    _fields_ = (("num_threads", _INT), ("persistent", ctypes.c_bool))


# (return type, argument types) of each function of mujoco/mjbatch.h that is used here.
_SIGNATURES = {
    "mjb_defaultConfig": (None, [ctypes.POINTER(_Config)]),
    "mjb_makeBatch": (_HANDLE, [_HANDLE, _INT, ctypes.POINTER(_Config), ctypes.c_char_p, _INT]),
    "mjb_deleteBatch": (None, [_HANDLE]),
    "mjb_nstate": (_INT, [_HANDLE]),
    "mjb_stateComponent": (_HANDLE, [_HANDLE, _INT, _INTS]),
    "mjb_status": (_HANDLE, [_HANDLE]),
    "mjb_output": (_HANDLE, [_HANDLE, ctypes.c_char_p, _INTS, _INTS]),
    "mjb_expand": (_HANDLE, [_HANDLE, ctypes.c_char_p, _INTS, _INTS]),
    "mjb_setConst": (_INT, [_HANDLE, _HANDLE, _INT]),
    "mjb_step": (_INT, [_HANDLE, _HANDLE, _INT, _INT, _INT]),
    "mjb_forward": (_INT, [_HANDLE, _HANDLE, _INT, _INT]),
    "mjb_reset": (_INT, [_HANDLE, _HANDLE, _INT, _HANDLE, _INT]),
    "mjb_apply": (_INT, [_HANDLE, _HANDLE, _INT, _HANDLE, _HANDLE, _INT]),
}

NO_STAGE, ALL_STAGES = 0, 3


class _Memory:
    """Frees MuJoCo's batch when no ``SimulationBatch`` and no view of it is left."""

    def __init__(self, library: ctypes.CDLL, handle: int) -> None:
        self.handle = handle
        self._finalizer = weakref.finalize(self, library.mjb_deleteBatch, handle)
        self._finalizer.atexit = False  # the exit of the process frees its memory anyway


class SimulationBatch:
    """``B`` simulations of a copy of one model.

    Arrays that the methods return are live views of MuJoCo's memory.

    Args:
        library: A loaded library through which MuJoCo's C functions are found.
        model_address: Address of the ``mjModel``, which is copied.
        num_simulations: ``B``.
        num_threads: Threads that compute; 0 means all cores.
        persistent: Whether to keep all computed data of each simulation, not only its state.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        model_address: int,
        num_simulations: int,
        *,
        num_threads: int,
        persistent: bool,
    ) -> None:
        for name, (returned, passed) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = returned, passed
        self._library = library
        self._num = num_simulations
        config = _Config()
        library.mjb_defaultConfig(ctypes.byref(config))
        config.num_threads, config.persistent = num_threads, persistent
        reason = ctypes.create_string_buffer(1024)
        handle = library.mjb_makeBatch(
            model_address, num_simulations, ctypes.byref(config), reason, len(reason)
        )
        if not handle:
            raise RuntimeError(
                f"MuJoCo could not make a batch of {num_simulations=}: {reason.value.decode()}"
            )
        self._memory = _Memory(library, handle)
        self._status = self._view(library.mjb_status(handle), ctypes.c_int, num_simulations)

    @property
    def failed(self) -> Bool[np.ndarray, " B"]:
        """Mask of the simulations with a MuJoCo error in their last call."""
        failed: np.ndarray = self._status != 0
        return failed

    def state_component(self, bit: int) -> Float[np.ndarray, "B size"]:
        """Part of the state, for example the positions; writes take effect at the next call."""
        size = _INT()
        address = self._library.mjb_stateComponent(self._memory.handle, bit, ctypes.byref(size))
        stride = self._library.mjb_nstate(self._memory.handle)
        length = (self._num - 1) * stride + size.value
        row = self._view(address, ctypes.c_double, length)
        return np.lib.stride_tricks.as_strided(row, (self._num, size.value), (8 * stride, 8))

    def output(self, field: str) -> Float[np.ndarray, "B size"]:
        """A derived field of ``mjData``, updated after every call; zero before the first."""
        view = self._field("mjb_output", field)
        view.flags.writeable = False
        return view

    def expand(self, field: str) -> Float[np.ndarray, "B size"]:
        """Give each simulation its own value of a field of ``mjModel``."""
        return self._field("mjb_expand", field)

    def set_const(self) -> None:
        """Recompute what MuJoCo derives from the fields of its model."""
        self._library.mjb_setConst(self._memory.handle, None, self._num)

    def step(self, num_steps: int) -> None:
        """Advance every simulation by ``num_steps`` physics steps."""
        self._library.mjb_step(self._memory.handle, None, self._num, num_steps, NO_STAGE)

    def forward(self, ids: Int[np.ndarray, " K"], stage: int) -> None:
        """Compute the stages up to ``stage``, and refresh the outputs in any case."""
        rows = np.ascontiguousarray(ids, np.int32)
        self._library.mjb_forward(self._memory.handle, rows.ctypes.data, len(rows), stage)

    def reset(self, ids: Int[np.ndarray, " K"]) -> None:
        """Put simulations into the model's rest state and compute nothing."""
        rows = np.ascontiguousarray(ids, np.int32)
        self._library.mjb_reset(self._memory.handle, rows.ctypes.data, len(rows), None, NO_STAGE)

    def apply(self, ids: Int[np.ndarray, " K"], function: str) -> None:
        """Call a C function ``(model, data)`` of MuJoCo on the kept data of each simulation.

        The outputs show the result after the next call. MuJoCo passes two more arguments, which
        such a function ignores.
        """
        rows = np.ascontiguousarray(ids, np.int32)
        address = ctypes.cast(getattr(self._library, function), _HANDLE)
        self._library.mjb_apply(
            self._memory.handle, rows.ctypes.data, len(rows), address, None, False
        )

    def _field(self, function: str, field: str) -> np.ndarray:
        size, element_size = _INT(), _INT()
        address = getattr(self._library, function)(
            self._memory.handle, field.encode(), ctypes.byref(size), ctypes.byref(element_size)
        )
        if not address or element_size.value != 8:
            raise KeyError(f"MuJoCo has no field {field!r} of 64-bit numbers")
        view = self._view(address, ctypes.c_double, self._num * size.value)
        return view.reshape(self._num, size.value)

    def _view(self, address: int, kind: type[Any], length: int) -> np.ndarray:
        buffer = (kind * length).from_address(address)
        # A view keeps its buffer alive, and so the memory behind it.
        buffer.memory = self._memory
        view: np.ndarray = np.frombuffer(buffer, np.dtype(kind))
        return view
