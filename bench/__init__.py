"""Measure fastrpc: beside its peers, part by part, and in counted instructions."""
