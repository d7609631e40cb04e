"""The `tuner` commands, one module a topic; heavy imports happen inside the commands."""
