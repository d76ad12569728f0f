"""How points are chosen: an Optuna study behind the interface of Tune's searchers."""
