"""Time the parts of the fast lane one by one, both twins side by side."""
