"""Run clients, servers and a registry as state machines, in random schedules, without a clock."""
