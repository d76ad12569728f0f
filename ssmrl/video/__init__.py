"""Videos of a policy on one task; this package is imported only if a video is made."""
