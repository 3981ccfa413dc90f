"""The resident GPTBigCode engine: tokens and tensors, no editors.

Shape legend, used in trailing comments everywhere below: `B` batch, `T` new tokens, `S` all tokens so far,
`E` embedding, `H` heads, `K` key/value heads (1 for multi-query attention, H otherwise), `D` head size,
`V` vocabulary, `L` layers, `C` cache capacity.
"""
