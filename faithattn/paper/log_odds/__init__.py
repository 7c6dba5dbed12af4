"""Words by what a bag-of-words logistic regression makes of them."""

from faithattn.paper.log_odds.regression import accuracy, fit_log_odds
from faithattn.paper.log_odds.weights import LogOdds

__all__ = ["LogOdds", "accuracy", "fit_log_odds"]
