"""What a tensor of a checkpoint must be to stand in a model: dense floating-point numbers, all of them finite.

unfit        why a tensor cannot be a weight, in words
not_finite   how many of its numbers are not finite
"""

import torch

NUMBERS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
NUMBERS += [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


def unfit(value, header_only=False):
    """Why a tensor cannot be compared with weights, or None.

    header_only   it was made from a header, so that it has no values on purpose
    """
    if value.is_quantized:
        return "quantised"
    if value.is_nested or value.layout != torch.strided:
        return "sparse"
    if value.is_meta and not header_only:
        return "without values (on the device meta)"
    if value.dtype not in NUMBERS:
        return str(value.dtype).removeprefix("torch.")
    return None


def not_finite(value, dtype):
    """{nan, inf, overflow} of a tensor that holds such numbers, else {}; overflow: finite in the file, not in the model's type."""
    wide = value if value.dtype in NUMBERS[:4] else value.float()
    finite = wide.isfinite()
    if finite.all() and (wide.to(dtype).isfinite().all()):
        return {}
    nan = int(wide.isnan().sum())
    overflow = int((finite & ~wide.to(dtype).isfinite()).sum())
    return {"nan": nan, "inf": int((~finite).sum()) - nan, "overflow": overflow}
