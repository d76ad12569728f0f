"""The statistics that move a space between rounds."""
