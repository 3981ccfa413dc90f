"""The recipe of the model that ships: corpus, tokenizer, training, evaluation, export.

`python -m engine.training corpus|tokenizer|train|eval|export` runs its steps in that order. Nothing here is on the
serving path: the engine never imports this package.
"""
