"""How points are chosen: a study behind the interface of Tune's searchers."""
