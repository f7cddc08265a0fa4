"""Weights of task gradients, from their Gram matrix: small, exact, in float64 on the CPU.

J (T×D) holds a row g_i per task, T = 1…10, G = J Jᵀ, and d = Jᵀw is the update's direction,
θ ← θ − ηd. Solvers look at the rows' norms n_i and cosines C_ij, so that tolerances mean the same
for gradients of any size. Rows of norm 0 get weight 0 and take no part. Norms lie within 1e±70, or
are 0; rows that are not finite are the caller's business. No argument is changed.
"""

from mtlkit.solvers.bargaining import fair, nash
from mtlkit.solvers.convex import conflict_averse, min_norm, upgrad
from mtlkit.solvers.spectral import aligned, impartial
from mtlkit.solvers.surgery import Vaccination, gradvac, pcgrad

__all__ = [
    "Vaccination",
    "aligned",
    "conflict_averse",
    "fair",
    "gradvac",
    "impartial",
    "min_norm",
    "nash",
    "pcgrad",
    "upgrad",
]
