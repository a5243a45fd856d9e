"""SIMD vectors in numba: 64 bytes of a row at a time, in registers.

LLVM vectorises a plain loop only if it can prove or test that its arrays do not overlap, and it chooses the shape.
These intrinsics fix both: one AVX-512 register, two of AVX2 or four of NEON. Arrays are flat and
contiguous; ``i`` is the position of the first number. Nothing is checked.
"""

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model
from torch import Tensor

from gnnlib.kernels.cpu.compile import intrinsic, jit_callee

LINE = 64  # bytes


class Vector(types.Type):
    """A vector of ``count`` numbers; None: as many as a cache line holds."""

    def __init__(self, dtype, count=None):
        self.dtype, self.count = dtype, count or lanes_of(dtype)
        super().__init__(f"Vector({dtype}, {self.count})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        number = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(number, kind.count))


def lanes_of(dtype) -> int:
    return LINE // (dtype.bitwidth // 8)


def lines(like: Tensor, width: int) -> int:
    """Cache lines in a row of this width: the columns that a hub may be divided into."""
    return -(-width * like.element_size() // LINE)


def address(context, builder, kind, array, i, type_):
    """The address of array[i], as a pointer to type_."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [i]), type_.as_pointer())


def splat(builder, value, type_):
    one = builder.insert_element(ir.Constant(type_, ir.Undefined), value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), type_.count), [0] * type_.count)
    return builder.shuffle_vector(one, ir.Constant(type_, ir.Undefined), zeros)


def lane_mask(builder, n, count):
    """The mask of the first n lanes."""
    kind = ir.VectorType(ir.IntType(64), count)
    return builder.icmp_signed("<", ir.Constant(kind, list(range(count))), splat(builder, n, kind))


def call(builder, name, result, args):
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [value.type for value in args]), name
    )
    return builder.call(function, args)


def suffix(type_) -> str:
    names = {"float": "f32", "double": "f64"}
    return f"v{type_.count}{names.get(str(type_.element), str(type_.element))}"


@intrinsic
def lanes(typingctx, array):
    """The count of numbers of the array's type in a vector."""

    def codegen(context, builder, signature, args):
        return ir.IntType(64)(lanes_of(array.dtype))

    return types.int64(array), codegen


@intrinsic
def at(typingctx, array, i):
    """array[i] without numba's check for a negative i."""

    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.int64), codegen


@intrinsic
def load(typingctx, array, i):
    kind = Vector(array.dtype)

    def codegen(context, builder, signature, args):
        type_ = context.get_value_type(kind)
        return builder.load(address(context, builder, array, args[0], args[1], type_), align=array.dtype.bitwidth // 8)

    return kind(array, types.int64), codegen


@intrinsic
def load_first(typingctx, array, i, n):
    """The first n numbers, then zeros."""
    kind = Vector(array.dtype)

    def codegen(context, builder, signature, args):
        type_ = context.get_value_type(kind)
        place = address(context, builder, array, args[0], args[1], type_)
        mask, none = lane_mask(builder, args[2], type_.count), ir.Constant(type_, None)
        align = ir.IntType(32)(array.dtype.bitwidth // 8)
        return call(builder, f"llvm.masked.load.{suffix(type_)}.p0", type_, [place, align, mask, none])

    return kind(array, types.int64, types.int64), codegen


@intrinsic
def store(typingctx, array, i, vector):
    def codegen(context, builder, signature, args):
        place = address(context, builder, array, args[0], args[1], args[2].type)
        builder.store(args[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), codegen


@intrinsic
def store_first(typingctx, array, i, vector, n):
    def codegen(context, builder, signature, args):
        place = address(context, builder, array, args[0], args[1], args[2].type)
        mask = lane_mask(builder, args[3], args[2].type.count)
        align = ir.IntType(32)(array.dtype.bitwidth // 8)
        call(builder, f"llvm.masked.store.{suffix(args[2].type)}.p0", ir.VoidType(), [args[2], place, align, mask])
        return context.get_dummy_value()

    return types.void(array, types.int64, vector, types.int64), codegen


@intrinsic
def zero(typingctx, array):
    kind = Vector(array.dtype)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(kind), None)

    return kind(array), codegen


@intrinsic
def fill(typingctx, array, number):
    """A vector of one number, of the array's type."""
    kind = Vector(array.dtype)

    def codegen(context, builder, signature, args):
        return splat(builder, args[1], context.get_value_type(kind))

    return kind(array, array.dtype), codegen


@intrinsic
def where_above(typingctx, x, y, then, other):
    """``then`` where x > y, else ``other``, also where one of them is NaN."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return then(x, y, then, other), codegen


@intrinsic
def where_equal(typingctx, x, y, then, other):
    """``then`` where the integers x and y are equal, else ``other``."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.icmp_signed("==", args[0], args[1]), args[2], args[3])

    return then(x, y, then, other), codegen


@intrinsic
def scaled(typingctx, factor, vector, onto):
    """factor * vector + onto, rounded once; factor is a number or a vector."""

    def codegen(context, builder, signature, args):
        type_ = args[1].type
        by = args[0] if args[0].type == type_ else splat(builder, args[0], type_)
        return call(builder, f"llvm.fma.{suffix(type_)}", type_, [by, args[1], args[2]])

    kind = factor if isinstance(factor, Vector) else vector.dtype
    return vector(kind, vector, vector), codegen


@intrinsic
def total(typingctx, vector):
    """The sum of the lanes, in halves."""

    def codegen(context, builder, signature, args):
        value, count = args[0], args[0].type.count
        while count > 1:
            count //= 2
            half = ir.VectorType(ir.IntType(32), count)
            none = ir.Constant(value.type, ir.Undefined)
            low = builder.shuffle_vector(value, none, ir.Constant(half, list(range(count))))
            high = builder.shuffle_vector(value, none, ir.Constant(half, list(range(count, 2 * count))))
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.IntType(32)(0))

    return vector.dtype(vector), codegen


@intrinsic
def prefetch(typingctx, array, i):
    """Prefetches the line of array[i] into the second-level cache: the first has too few buffers for pending lines.

    An address outside the array is harmless.
    """

    def codegen(context, builder, signature, args):
        byte, int32 = ir.IntType(8), ir.IntType(32)
        place = address(context, builder, array, args[0], args[1], byte)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte.as_pointer()], ir.FunctionType(ir.VoidType(), [byte.as_pointer(), *[int32] * 3])
        )
        builder.call(function, [place, int32(0), int32(2), int32(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


# ---------------------------------------------------------------- rows, whose last vector may be incomplete
# `remaining`: the count of numbers from the position to the end of the row.


def inlined(function):
    return jit_callee(function, _nrt=False, forceinline=True)


@inlined
def get(x, i, remaining):
    return load(x, i) if remaining >= lanes(x) else load_first(x, i, remaining)


@inlined
def put(y, o, vector, remaining):
    if remaining >= lanes(y):
        store(y, o, vector)
    else:
        store_first(y, o, vector, remaining)
