"""What errors have in common that a user can cause."""


class UserError(RuntimeError):
    """An error whose message says all that there is to say: the command line prints it without a traceback."""
