# cython: language_level=3
"""What `_chain.pyx` uses of the compiled callers."""

cdef double seconds_in(object var) except? -1.0
cdef double shorter(double timeout, object inherited, object clock) except -1.0
