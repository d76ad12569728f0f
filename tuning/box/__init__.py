"""The trust box: statistics that move a search space between the rounds of a sweep."""
