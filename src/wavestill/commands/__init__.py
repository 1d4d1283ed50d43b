"""The commands: each module one function, called with the arguments of its subcommand."""
