"""From a network of a search or a training to files, measured and held against budgets."""
