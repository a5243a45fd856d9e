"""SIMD vectors in numba: 64 bytes of a row at a time, in registers.

LLVM vectorises a plain loop only if it can prove or test that its arrays do not overlap, and it chooses the shape.
These intrinsics fix both: one AVX-512 register, two of AVX2 or four of NEON. Arrays are flat and
contiguous; ``i`` is the position of the first number. Nothing is checked.

numpy has no bfloat16. An array of uint16 holds bfloat16 numbers, the upper halves of float32 numbers. A read widens
them to float32 by a shift, and a write rounds float32 to nearest, ties to even. Everything between is float32.
"""

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model
from torch import Tensor

from gnnlib.kernels.cpu.compile import intrinsic, jit_callee

LINE = 64  # bytes
BFLOAT16 = types.uint16  # the numbers of an array that holds bfloat16


def computed(array):
    """The type in which the numbers of an array are computed."""
    return types.float32 if array.dtype == BFLOAT16 else array.dtype


class Vector(types.Type):
    """A vector of ``count`` numbers; None: as many as fit in 64 bytes."""

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
    """Vectors in a row of this width: the columns that a hub may be divided into."""
    return -(-width * max(like.element_size(), 4) // LINE)


def stored(context, array, count):
    """The type of ``count`` numbers of the array in memory."""
    return ir.VectorType(context.get_value_type(array.dtype), count)


def widened(builder, array, value):
    """Numbers of the array as they are computed: those of bfloat16 as float32."""
    if array.dtype != BFLOAT16:
        return value
    integer, number = _like(value, ir.IntType(32)), _like(value, ir.FloatType())
    return builder.bitcast(builder.shl(builder.zext(value, integer), _constant(integer, 16)), number)


def rounded(builder, array, value):
    """Computed numbers as the array stores them: for bfloat16 rounded to nearest, ties to even, as PyTorch does."""
    if array.dtype != BFLOAT16:
        return value
    integer, half = _like(value, ir.IntType(32)), _like(value, ir.IntType(16))
    bits, shift = builder.bitcast(value, integer), _constant(integer, 16)
    odd = builder.and_(builder.lshr(bits, shift), _constant(integer, 1))
    upper = builder.lshr(builder.add(bits, builder.add(odd, _constant(integer, 0x7FFF))), shift)
    nan = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(nan, _constant(integer, 0x7FC0), upper), half)


def _like(value, element):
    """The type of a number or of a vector, with another element."""
    return ir.VectorType(element, value.type.count) if isinstance(value.type, ir.VectorType) else element


def _constant(type_, value):
    return ir.Constant(type_, [value] * type_.count if isinstance(type_, ir.VectorType) else value)


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
    """The count of numbers in a vector of the array's numbers."""

    def codegen(context, builder, signature, args):
        return ir.IntType(64)(lanes_of(computed(array)))

    return types.int64(array), codegen


@intrinsic
def per_line(typingctx, array):
    """The count of the array's numbers in a cache line."""

    def codegen(context, builder, signature, args):
        return ir.IntType(64)(lanes_of(array.dtype))

    return types.int64(array), codegen


@intrinsic
def number(typingctx, array, value):
    """A constant in the type in which the array's numbers are computed."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], value, computed(array))

    return computed(array)(array, value), codegen


@intrinsic
def at(typingctx, array, i):
    """array[i] without numba's check for a negative i."""

    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return widened(builder, array, builder.load(builder.gep(data, [args[1]])))

    return computed(array)(array, types.int64), codegen


@intrinsic
def write(typingctx, array, i, value):
    """array[i] = value, a number in the type in which the array's numbers are computed."""

    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        builder.store(rounded(builder, array, args[2]), builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.void(array, types.int64, computed(array)), codegen


@intrinsic
def load(typingctx, array, i):
    kind = Vector(computed(array))

    def codegen(context, builder, signature, args):
        place = address(context, builder, array, args[0], args[1], stored(context, array, kind.count))
        return widened(builder, array, builder.load(place, align=array.dtype.bitwidth // 8))

    return kind(array, types.int64), codegen


@intrinsic
def load_first(typingctx, array, i, n):
    """The first n numbers, then zeros."""
    kind = Vector(computed(array))

    def codegen(context, builder, signature, args):
        place = address(context, builder, array, args[0], args[1], stored(context, array, kind.count))
        mask = lane_mask(builder, args[2], kind.count)
        return widened(builder, array, masked_load(context, builder, array, place, mask))

    return kind(array, types.int64, types.int64), codegen


def masked_load(context, builder, array, place, mask):
    """The numbers at ``place``, as they are stored; zeros outside the mask."""
    type_, align = stored(context, array, mask.type.count), ir.IntType(32)(array.dtype.bitwidth // 8)
    none = ir.Constant(type_, None)
    return call(builder, f"llvm.masked.load.{suffix(type_)}.p0", type_, [place, align, mask, none])


def masked_store(builder, array, value, place, mask):
    align = ir.IntType(32)(array.dtype.bitwidth // 8)
    call(builder, f"llvm.masked.store.{suffix(value.type)}.p0", ir.VoidType(), [value, place, align, mask])


@intrinsic
def store(typingctx, array, i, vector):
    def codegen(context, builder, signature, args):
        value = rounded(builder, array, args[2])
        place = address(context, builder, array, args[0], args[1], value.type)
        builder.store(value, place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), codegen


@intrinsic
def store_first(typingctx, array, i, vector, n):
    def codegen(context, builder, signature, args):
        value = rounded(builder, array, args[2])
        place = address(context, builder, array, args[0], args[1], value.type)
        masked_store(builder, array, value, place, lane_mask(builder, args[3], value.type.count))
        return context.get_dummy_value()

    return types.void(array, types.int64, vector, types.int64), codegen


@intrinsic
def zero(typingctx, array):
    kind = Vector(computed(array))

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(kind), None)

    return kind(array), codegen


@intrinsic
def fill(typingctx, array, number):
    """A vector of one number, of the type in which the array's numbers are computed."""
    kind = Vector(computed(array))

    def codegen(context, builder, signature, args):
        return splat(builder, args[1], context.get_value_type(kind))

    return kind(array, kind.dtype), codegen


@intrinsic
def where_above(typingctx, x, y, then, other):
    """``then`` where x > y, else ``other``, also where one of them is NaN."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return then(x, y, then, other), codegen


@intrinsic
def where_at_most(typingctx, x, y, then, other):
    """``then`` where x <= y, else ``other``, also where one of them is NaN."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("<=", args[0], args[1]), args[2], args[3])

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
