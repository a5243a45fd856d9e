"""A few rows at once in numba: the heads of a node, one beside the other.

How many is the length of ``few``, a tuple, which is a number known to the compiler. One number of each row makes a
short vector; a line of each, a tuple of vectors, here called lines. Rows are ``step`` numbers apart. One load, one
comparison and one product then serve what belongs to all rows of an edge; sums of their lines are made together.
"""

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils

from gnnlib.kernels.compile import intrinsic
from gnnlib.kernels.vectors import Vector, address, below, call, inlined, lanes, splat, suffix


def _halves(builder, a, b, size):
    """In blocks of ``size`` numbers, the first halves of a's and b's blocks plus the second halves."""
    half, kind = size // 2, ir.VectorType(ir.IntType(32), a.type.count)
    blocks = [start for vector in (0, a.type.count) for start in range(vector, vector + a.type.count, size)]
    first = [start + i for start in blocks for i in range(half)]
    parts = [builder.shuffle_vector(a, b, ir.Constant(kind, [i + by for i in first])) for by in (0, half)]
    return builder.fadd(*parts)


@intrinsic
def few_totals(typingctx, lines):
    """The sum of each line, as a short vector. Lines are halved two by two, so that few registers stay half empty."""
    kind = lines.dtype

    def codegen(context, builder, signature, args):
        vectors, size = cgutils.unpack_tuple(builder, args[0]), kind.count
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

    return Vector(kind.dtype, len(lines))(lines), codegen


@intrinsic
def few_numbers(typingctx, array, i, few):
    """array[i], array[i + 1], ..., one for each row."""
    kind = Vector(array.dtype, len(few))

    def codegen(context, builder, signature, args):
        place = address(context, builder, array, args[0], args[1], context.get_value_type(kind))
        return builder.load(place, align=array.dtype.bitwidth // 8)

    return kind(array, types.int64, few), codegen


@intrinsic
def few_alike(typingctx, array, number, few):
    """One number, of the array's type, for all rows."""
    kind = Vector(array.dtype, len(few))

    def codegen(context, builder, signature, args):
        return splat(builder, args[1], context.get_value_type(kind))

    return kind(array, array.dtype, few), codegen


def _lines(array, few):
    return types.UniTuple(Vector(array.dtype), len(few))


def _places(context, builder, array, args, count):
    """Where the lines of ``count`` rows are, as pointers: of args (array, i, step, ...)."""
    type_ = context.get_value_type(Vector(array.dtype))
    steps = [builder.mul(args[2], ir.IntType(64)(k)) for k in range(count)]
    return [address(context, builder, array, args[0], builder.add(args[1], step), type_) for step in steps], type_


@intrinsic
def few_zero(typingctx, array, few):
    kind = _lines(array, few)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(kind), None)

    return kind(array, few), codegen


@intrinsic
def few_load(typingctx, array, i, step, few):
    kind = _lines(array, few)

    def codegen(context, builder, signature, args):
        places, _ = _places(context, builder, array, args, len(few))
        align = array.dtype.bitwidth // 8
        return context.make_tuple(builder, kind, [builder.load(place, align=align) for place in places])

    return kind(array, types.int64, types.int64, few), codegen


@intrinsic
def few_load_first(typingctx, array, i, step, n, few):
    """The first n numbers of each line, then zeros."""
    kind = _lines(array, few)

    def codegen(context, builder, signature, args):
        places, type_ = _places(context, builder, array, args, len(few))
        mask, align = below(builder, args[3], type_.count), ir.IntType(32)(array.dtype.bitwidth // 8)
        name, none = f"llvm.masked.load.{suffix(type_)}.p0", ir.Constant(type_, None)
        vectors = [call(builder, name, type_, [place, align, mask, none]) for place in places]
        return context.make_tuple(builder, kind, vectors)

    return kind(array, types.int64, types.int64, types.int64, few), codegen


@intrinsic
def few_store(typingctx, array, i, step, lines):
    def codegen(context, builder, signature, args):
        places, _ = _places(context, builder, array, args, len(lines))
        for place, vector in zip(places, cgutils.unpack_tuple(builder, args[3]), strict=True):
            builder.store(vector, place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, lines), codegen


@intrinsic
def few_store_first(typingctx, array, i, step, lines, n):
    def codegen(context, builder, signature, args):
        places, type_ = _places(context, builder, array, args, len(lines))
        mask, align = below(builder, args[4], type_.count), ir.IntType(32)(array.dtype.bitwidth // 8)
        name = f"llvm.masked.store.{suffix(type_)}.p0"
        for place, vector in zip(places, cgutils.unpack_tuple(builder, args[3]), strict=True):
            call(builder, name, ir.VoidType(), [vector, place, align, mask])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, lines, types.int64), codegen


@intrinsic
def few_scaled(typingctx, factors, lines, onto):
    """factor * line + line of onto, for each row; factors are a short vector, or lines."""

    def codegen(context, builder, signature, args):
        vectors, others = (cgutils.unpack_tuple(builder, value) for value in args[1:])
        type_ = vectors[0].type
        if isinstance(factors, types.BaseTuple):
            by = cgutils.unpack_tuple(builder, args[0])
        else:
            numbers = [builder.extract_element(args[0], ir.IntType(32)(k)) for k in range(len(vectors))]
            by = [splat(builder, number, type_) for number in numbers]
        name = f"llvm.fma.{suffix(type_)}"
        done = [call(builder, name, type_, [*three]) for three in zip(by, vectors, others, strict=True)]
        return context.make_tuple(builder, onto, done)

    return onto(factors, lines, onto), codegen


@inlined
def few_get(x, i, step, left, few):
    return few_load(x, i, step, few) if left >= lanes(x) else few_load_first(x, i, step, left, few)


@inlined
def few_put(y, o, step, lines, left):
    if left >= lanes(y):
        few_store(y, o, step, lines)
    else:
        few_store_first(y, o, step, lines, left)


# ---------------------------------------------------------------- arithmetic on short vectors


def _elementwise(operation: str):
    @intrinsic
    def both(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, operation)(*args)

        return a(a, b), codegen

    return both


def _function(name: str):
    @intrinsic
    def each(typingctx, vector):
        def codegen(context, builder, signature, args):
            return call(builder, f"llvm.{name}.{suffix(args[0].type)}", args[0].type, [args[0]])

        return vector(vector), codegen

    return each


plus, minus, times, over = map(_elementwise, ("fadd", "fsub", "fmul", "fdiv"))
few_exp, few_log = map(_function, ("exp", "log"))
