"""What ``import goldnas`` offers: five verbs, and the nouns that they pass on.

Nothing here computes: each function puts together what the other packages do.
"""
