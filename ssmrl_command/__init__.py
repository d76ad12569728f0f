"""The ``ssmrl`` command, on top of all rooms; a room is imported only when it is needed."""
