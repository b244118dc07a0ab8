"""Loads and stores of whole machine words, for the byte-pair kernels.

Numba indexes arrays of single elements and wraps negative indices. These four intrinsics compile to one unaligned
load or store each, without a bounds check: callers keep `buffers.PADDING` bytes behind the text and a few elements
behind the ids. They assume a little-endian machine, as all that numba supports in practice are.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Emit the address of element `index` of an array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic
def load8(typing_context: Any, array: Any, index: Any) -> Any:
    """Return byte `index` of a uint8 array, as int64 (so that arithmetic with positions stays signed)."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.zext(builder.load(address), ir.IntType(64))

    return types.int64(array, types.int64), emit


@intrinsic
def load64(typing_context: Any, array: Any, index: Any) -> Any:
    """Return the eight bytes from byte `index` of a uint8 array as one little-endian uint64."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        value = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()))
        value.align = 1
        return value

    return types.uint64(array, types.int64), emit


@intrinsic
def store_four(typing_context: Any, array: Any, index: Any, packed: Any) -> Any:
    """Store the four 16-bit values packed in a uint64, lowest first, from element `index` of a uint16 array."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], arguments[0], arguments[1])
        store = builder.store(arguments[2], builder.bitcast(address, ir.IntType(64).as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint64), emit


@intrinsic
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """Return the number of zero bits below the lowest set bit of a uint64 that is not 0."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), emit
