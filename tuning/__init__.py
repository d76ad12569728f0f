"""From one configuration to many trials and one table: search spaces, searchers, reports."""
