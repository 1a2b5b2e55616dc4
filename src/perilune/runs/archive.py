"""Read and write safetensors files that contain arrays, a JSON object that describes them, and checksums.

The metadata of a file consists of four strings: ``kind``, the kind and format of the content; ``perilune``, the JSON
object; ``arrays``, the SHA-256 of all arrays; and ``sha256``, the SHA-256 of the other three strings. Any safetensors
library can read the arrays.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open

from perilune._utils.arrays import Array, Arrays
from perilune._utils.validation import from_json
from perilune.errors import ConfigError, FileFormatError
from perilune.runs import files

MOST_ARRAYS = 2_000  # of a file; the weights of hundreds of layers
DTYPES = {"float32": "F32", "float64": "F64", "int64": "I64", "uint8": "U8"}
T = TypeVar("T", bound=msgspec.Struct)


class _Metadata(msgspec.Struct):
    kind: str
    perilune: str
    arrays: str
    sha256: str


class _Header(msgspec.Struct):
    metadata: _Metadata = msgspec.field(name="__metadata__")


def write(path: Path, kind: str, content: msgspec.Struct, arrays: Arrays, largest: int) -> None:
    """Write ``content`` and ``arrays`` to ``path`` atomically, without copying the arrays. Keep an equal file.

    Raises:
        FileFormatError: the header exceeds ``largest`` bytes, the limit of ``read_content``.
    """
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # keeps every array aligned
    data = [_bytes(arrays[name]) for name in names]
    metadata = {"kind": kind, "perilune": msgspec.json.encode(content).decode(), "arrays": checksum(arrays)}
    header: dict[str, Any] = {"__metadata__": metadata | {"sha256": _seal(*metadata.values())}}
    start = 0
    for name, piece in zip(names, data, strict=True):
        array = arrays[name]
        stop = start + piece.nbytes
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": [start, stop]}
        start = stop
    encoded = msgspec.json.encode(header)
    encoded += b" " * (-len(encoded) % 8)
    files.check_json(encoded, path, largest)
    files.update(path, len(encoded).to_bytes(8, "little"), encoded, *data)


def read_content(path: Path, kind: str, cls: type[T], largest: int) -> tuple[T, str]:
    """Return the JSON object of a file as ``cls`` and the checksum of its arrays, without reading the arrays."""
    with files.opened(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= os.fstat(file.fileno()).st_size - 8:
            raise FileFormatError(f"{path} is not a safetensors file, or is incomplete")
        encoded = file.read(min(length, largest + 1))
    files.check_json(encoded, path, largest)
    try:
        arrays = len(msgspec.json.decode(encoded, type=dict[str, msgspec.Raw])) - 1
        if arrays > MOST_ARRAYS:  # even empty ones take time
            raise FileFormatError(f"{path} has {arrays:,} arrays, but at most {MOST_ARRAYS:,} are allowed")
        metadata = msgspec.json.decode(encoded, type=_Header).metadata
    except msgspec.ValidationError as error:
        raise FileFormatError(f"{path} was not saved by Perilune: {error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FileFormatError(f"{path} is not a safetensors file: {error}") from error
    if metadata.sha256 != _seal(metadata.kind, metadata.perilune, metadata.arrays):
        raise FileFormatError(f"{path} is damaged: its checksum does not match its content")
    if metadata.kind != kind:
        raise FileFormatError(f"{path} is of kind {metadata.kind[:100]!r}; this version of Perilune expects {kind!r}")
    try:
        return from_json(metadata.perilune.encode(), cls), metadata.arrays
    except (ConfigError, UnicodeEncodeError) as error:
        raise FileFormatError(f"{path} has invalid content: {error}") from error


def read_arrays(path: Path, expected: str) -> Arrays:
    """Return the arrays of a file by name, if their checksum is ``expected`` and all values are finite."""
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a dict
    except (SafetensorError, OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{path} is not a safetensors file: {error}") from error
    if checksum(arrays) != expected:
        raise FileFormatError(f"{path} is damaged: its checksum does not match its content")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FileFormatError(f"{path} is damaged: {name} has values that are not finite")
    return arrays


def checksum(arrays: Arrays) -> str:
    """Return the SHA-256 of all arrays with their names, dtypes and shapes."""
    sha256 = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        sha256.update(f"{name} {array.dtype.name} {array.shape} ".encode())
        sha256.update(_bytes(array))
    return sha256.hexdigest()


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _seal(*parts: str) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
