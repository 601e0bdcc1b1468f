"""What the models of the exporter consist of, and what a model that is read may."""

from __future__ import annotations

# Operators of opset 17 of the default domain. The tests show that the exporter emits each, and no other.
OPERATORS = frozenset(
    {
        "Abs",
        "Add",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "DepthToSpace",
        "Div",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "Greater",
        "Identity",
        "Less",
        "LessOrEqual",
        "MatMul",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Pad",
        "ReduceMax",
        "ReduceSum",
        "Reshape",
        "Round",
        "Scan",
        "Shape",
        "Slice",
        "Split",
        "Sub",
        "Transpose",
        "Where",
    }
)
