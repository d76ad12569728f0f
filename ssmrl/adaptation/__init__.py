"""Adaptation of a trained model to the data that it meets when it is used."""
