"""Videos of what a policy does on one task; it is imported only where one is made."""
