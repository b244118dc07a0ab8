"""Pointers, and loads and stores of whole machine words, for the byte-pair kernels.

Numba counts the references of an array (atomically) at each call it is passed to, and tests each index for being
negative: with arrays in tuples the encoder was several times slower. So an entry point takes arrays and hands on
pointers, which numba indexes as plain memory. A pointer keeps nothing alive: point only into arrays that the Python
caller holds, never into one made in compiled code, which numba frees after the last mention of its name.

Callers keep `buffers.PADDING` bytes behind a text and a few elements behind ids. A little-endian machine is assumed,
as all are for which numba is built.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _compiled(emitter: Any) -> Any:
    """Mark an intrinsic. Its arguments are those after the typing context, which a type checker cannot know."""
    return intrinsic(emitter)


@_compiled
def pointer(typing_context: Any, array: Any) -> Any:
    """Return a pointer to the first element of a contiguous array; `pointer(a)[i]` is element i."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), emit


@_compiled
def load8(typing_context: Any, bytes_: Any, index: Any) -> Any:
    """Return byte `index` as int64, so that arithmetic with positions stays signed."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.load(builder.gep(arguments[0], [arguments[1]])), ir.IntType(64))

    return types.int64(types.CPointer(types.uint8), types.int64), emit


@_compiled
def load64(typing_context: Any, bytes_: Any, index: Any) -> Any:
    """Return the eight bytes from byte `index` as one little-endian uint64."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = builder.gep(arguments[0], [arguments[1]])
        value = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()))
        value.align = 1
        return value

    return types.uint64(types.CPointer(types.uint8), types.int64), emit


@_compiled
def store_four(typing_context: Any, values: Any, index: Any, packed: Any) -> Any:
    """Store the four 16-bit values packed in a uint64, lowest first, from element `index` on."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = builder.gep(arguments[0], [arguments[1]])
        store = builder.store(arguments[2], builder.bitcast(address, ir.IntType(64).as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    return types.void(types.CPointer(types.uint16), types.int64, types.uint64), emit


@_compiled
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """Return the number of zero bits below the lowest set bit of a uint64 that is not 0."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), emit
