"""Run fastrpc and the programs people use instead of it side by side."""
