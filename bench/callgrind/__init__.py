"""Count the machine instructions of a call: the same on a busy machine as on a quiet one."""
