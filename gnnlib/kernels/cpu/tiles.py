"""Tiles of vectors in numba: a tile rows at once, such as the heads of a node.

The number of rows is the length of ``tile``, a tuple of tuples, each as long as a row has lines. Both are `static`: the
loops over them are unrolled, and sums stay in registers. One number per row makes a short vector; the lines of
all rows, a tuple of vectors, are called lines here. Rows are ``step`` numbers apart. One load, one comparison and one
product serve all rows of an edge; sums of their lines are computed together.
"""

import math
from functools import reduce

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils

from gnnlib.kernels.cpu.compile import intrinsic
from gnnlib.kernels.cpu.vectors import (
    Vector,
    address,
    call,
    computed,
    inlined,
    lane_mask,
    lanes,
    masked_load,
    masked_store,
    rounded,
    splat,
    stored,
    suffix,
    widened,
)


def _halves(builder, a, b, size):
    """In blocks of ``size`` numbers: the first halves of the blocks of a and b plus the second halves."""
    half, kind = size // 2, ir.VectorType(ir.IntType(32), a.type.count)
    blocks = [start for vector in (0, a.type.count) for start in range(vector, vector + a.type.count, size)]
    first = [start + i for start in blocks for i in range(half)]
    parts = [builder.shuffle_vector(a, b, ir.Constant(kind, [i + by for i in first])) for by in (0, half)]
    return builder.fadd(*parts)


@intrinsic
def tile_totals(typingctx, lines, tile):
    """The sum of each row, as a short vector. Lines are halved in pairs, so that registers stay full."""
    kind, per_row = lines.dtype, tile.dtype.count

    def codegen(context, builder, signature, args):
        parts, size = cgutils.unpack_tuple(builder, args[0]), kind.count
        vectors = [reduce(builder.fadd, parts[start : start + per_row]) for start in range(0, len(parts), per_row)]
        while len(vectors) > 1:  # the blocks of a vector come from as many lines
            vectors = [_halves(builder, a, b, size) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
            size //= 2
        vector, count = vectors[0], kind.count
        while size > 1:
            none, index = ir.Constant(vector.type, ir.Undefined), ir.VectorType(ir.IntType(32), count // 2)
            size //= 2
            starts = [start + i for start in range(0, count, 2 * size) for i in range(size)]
            parts = [
                builder.shuffle_vector(vector, none, ir.Constant(index, [i + by for i in starts])) for by in (0, size)
            ]
            vector, count = builder.fadd(*parts), count // 2
        return vector

    return Vector(kind.dtype, len(tile))(lines, tile), codegen


@intrinsic
def tile_numbers(typingctx, array, i, tile):
    """array[i], array[i + 1], ..., one for each row."""
    kind = Vector(computed(array), len(tile))

    def codegen(context, builder, signature, args):
        place = address(context, builder, array, args[0], args[1], stored(context, array, kind.count))
        return widened(builder, array, builder.load(place, align=array.dtype.bitwidth // 8))

    return kind(array, types.int64, tile), codegen


@intrinsic
def tile_fill(typingctx, array, number, tile):
    """One number, of the type in which the array's numbers are computed, for all rows."""
    kind = Vector(computed(array), len(tile))

    def codegen(context, builder, signature, args):
        return splat(builder, args[1], context.get_value_type(kind))

    return kind(array, kind.dtype, tile), codegen


def _lines(array, tile):
    return types.UniTuple(Vector(computed(array)), len(tile) * tile.dtype.count)


def _places(context, builder, array, args, tile):
    """Pointers to the lines of all rows, from args (array, i, step, ...)."""
    count = Vector(computed(array)).count
    starts = [builder.add(args[1], builder.mul(args[2], ir.IntType(64)(row))) for row in range(len(tile))]
    offsets = [ir.IntType(64)(line * count) for line in range(tile.dtype.count)]
    places = [builder.add(start, offset) for start in starts for offset in offsets]
    return [address(context, builder, array, args[0], place, stored(context, array, count)) for place in places]


def _masks(builder, n, array, tile):
    """The masks of the lines of all rows that select the first n numbers of a row."""
    count = Vector(computed(array)).count
    offsets = [ir.IntType(64)(line * count) for line in range(tile.dtype.count)]
    return [lane_mask(builder, builder.sub(n, offset), count) for offset in offsets] * len(tile)


@intrinsic
def tile_zero(typingctx, array, tile):
    kind = _lines(array, tile)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(kind), None)

    return kind(array, tile), codegen


@intrinsic
def tile_load(typingctx, array, i, step, tile):
    kind = _lines(array, tile)

    def codegen(context, builder, signature, args):
        places, align = _places(context, builder, array, args, tile), array.dtype.bitwidth // 8
        vectors = [widened(builder, array, builder.load(place, align=align)) for place in places]
        return context.make_tuple(builder, kind, vectors)

    return kind(array, types.int64, types.int64, tile), codegen


@intrinsic
def tile_load_first(typingctx, array, i, step, n, tile):
    """The first n numbers of each row, then zeros."""
    kind = _lines(array, tile)

    def codegen(context, builder, signature, args):
        places, masks = _places(context, builder, array, args, tile), _masks(builder, args[3], array, tile)
        vectors = [
            widened(builder, array, masked_load(context, builder, array, place, mask))
            for place, mask in zip(places, masks, strict=True)
        ]
        return context.make_tuple(builder, kind, vectors)

    return kind(array, types.int64, types.int64, types.int64, tile), codegen


@intrinsic
def tile_store(typingctx, array, i, step, lines, tile):
    def codegen(context, builder, signature, args):
        places = _places(context, builder, array, args, tile)
        for place, vector in zip(places, cgutils.unpack_tuple(builder, args[3]), strict=True):
            builder.store(rounded(builder, array, vector), place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, lines, tile), codegen


@intrinsic
def tile_store_first(typingctx, array, i, step, lines, n, tile):
    def codegen(context, builder, signature, args):
        places, masks = _places(context, builder, array, args, tile), _masks(builder, args[4], array, tile)
        for place, vector, mask in zip(places, cgutils.unpack_tuple(builder, args[3]), masks, strict=True):
            masked_store(builder, array, rounded(builder, array, vector), place, mask)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, lines, types.int64, tile), codegen


@intrinsic
def tile_scaled(typingctx, factors, lines, onto):
    """factor * line + line of onto, for each row and line; factors are a short vector, one for each row, or lines."""

    def codegen(context, builder, signature, args):
        vectors, addends = (cgutils.unpack_tuple(builder, value) for value in args[1:])
        type_ = vectors[0].type
        if isinstance(factors, types.BaseTuple):
            by = cgutils.unpack_tuple(builder, args[0])
        else:
            numbers = [builder.extract_element(args[0], ir.IntType(32)(k)) for k in range(factors.count)]
            by = [splat(builder, number, type_) for number in numbers for _ in range(len(vectors) // factors.count)]
        name = f"llvm.fma.{suffix(type_)}"
        done = [call(builder, name, type_, [*three]) for three in zip(by, vectors, addends, strict=True)]
        return context.make_tuple(builder, onto, done)

    return onto(factors, lines, onto), codegen


@inlined
def tile_get(x, i, step, remaining, tile):
    return (
        tile_load(x, i, step, tile)
        if remaining >= len(tile[0]) * lanes(x)
        else tile_load_first(x, i, step, remaining, tile)
    )


@inlined
def tile_put(y, o, step, lines, remaining, tile):
    if remaining >= len(tile[0]) * lanes(y):
        tile_store(y, o, step, lines, tile)
    else:
        tile_store_first(y, o, step, lines, remaining, tile)


@inlined
def tile_add(y, o, step, factors, lines, remaining, tile):
    """Adds factor * line to each line of y."""
    tile_put(y, o, step, tile_scaled(factors, lines, tile_get(y, o, step, remaining, tile)), remaining, tile)


# ---------------------------------------------------------------- arithmetic on short vectors


def _elementwise(operation: str):
    @intrinsic
    def both(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, operation)(*args)

        return a(a, b), codegen

    return both


@intrinsic
def tile_log(typingctx, vector):
    def codegen(context, builder, signature, args):
        return call(builder, f"llvm.log.{suffix(args[0].type)}", args[0].type, args)

    return vector(vector), codegen


plus, minus, times, over = map(_elementwise, ("fadd", "fsub", "fmul", "fdiv"))

# For each type: its bits, the bits of its fraction, the bias of the exponent, the logarithm of the smallest normal
# number, and the number of terms of the series of exp, whose error is below two units in the last place within half a
# power of 2. LN2 has two parts; the first has few digits, so that its multiples are exact.
LN2 = {
    types.float32: (0.693359375, -2.12194440054690583e-4),
    types.float64: (0.693147180369123816490, 1.90821492927058770e-10),
}
EXP = {types.float32: (32, 23, 127, -87.3, 8), types.float64: (64, 52, 1023, -708.3, 14)}


@intrinsic
def tile_exp(typingctx, vector):
    """exp of numbers up to 88 (float64: 708). LLVM's intrinsic would call the C library for each number. Results less
    than the smallest normal number are 0."""
    bits, fraction, bias, least, terms = EXP[vector.dtype]

    def codegen(context, builder, signature, args):
        (x,), type_ = args, args[0].type
        integer, name = ir.VectorType(ir.IntType(bits), type_.count), suffix(type_)

        def constant(value, kind=type_):
            return ir.Constant(kind, [value] * type_.count)

        def fma(a, b, c):
            return call(builder, f"llvm.fma.{name}", type_, [a, b, c])

        # x = n ln 2 + rest, exp(x) = 2^n exp(rest)
        n = call(builder, f"llvm.rint.{name}", type_, [builder.fmul(x, constant(1 / math.log(2)))])
        rest = x
        for part in LN2[vector.dtype]:
            rest = fma(n, constant(-part), rest)
        series = constant(1 / math.factorial(terms - 1))
        for k in reversed(range(terms - 1)):
            series = fma(series, rest, constant(1 / math.factorial(k)))
        n = call(builder, f"llvm.fptosi.sat.v{type_.count}i{bits}.{name}", integer, [n])  # of NaN: 0
        power = builder.shl(builder.add(n, constant(bias, integer)), constant(fraction, integer))
        result = builder.fmul(series, builder.bitcast(power, type_))
        return builder.select(builder.fcmp_ordered("<", x, constant(least)), constant(0.0), result)

    return vector(vector), codegen
