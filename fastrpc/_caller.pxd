# cython: language_level=3
"""What `_chain.pyx` uses of the compiled callers."""

cdef double shorter(double timeout, object inherited, object clock) except -1.0
