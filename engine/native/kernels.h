/* What each instruction set brings: the arithmetic of one row, one panel or one block. model.c puts it together. */
#ifndef MIDFILL_KERNELS_H
#define MIDFILL_KERNELS_H

#include <stdint.h>

#define PANEL 16     /* outputs whose weights lie side by side */
#define KEY_BLOCK 64 /* keys after which attention merges what it has: the same for every row, so that no split shows */

enum activation { ACT_NONE, ACT_ADD, ACT_GELU_TANH, ACT_GELU_ERF, ACT_RELU };

/* Weights (N, K) as [N/16][K/2][16][2], zeros where N or K end early. */
struct linear {
  const int8_t *weights;
  const float *scales, *bias; /* (N), in whole panels */
  int n_in, n_out;
  const struct linear *rest; /* what rounding took from the weights, in its turn; NULL where that is given up */
};

struct kernels {
  const char *name;
  int tile_rows; /* rows that one pass over a panel serves */
  /* Up to tile_rows rows as levels of -max_level … max_level, a pair of one row beside that of the next, `stride` rows in all.
   * gamma NULL: no norm. With one, `scratch` has room for the rows in whole panels. */
  void (*quantize)(const float *x, long ld, int n_rows, const float *gamma, const float *beta, float eps, int n, int max_level, float *scratch, int16_t *levels, int stride, float *scales);
  /* One panel for up to tile_rows rows: (levels · weights) * scale + bias, stored, added or activated; n_valid columns. */
  void (*panel)(const struct linear *linear, int panel_idx, const int16_t *levels, const float *scales, int n_rows, float *out, long ld, int n_valid, enum activation act);
  /* Sixteen queries, transposed and scaled (D, 16), over the block's keys, of which lane i sees limits[i]: their own
   * maximum (16), sum (16) and mixed values (D, 16). `scores` has room for (KEY_BLOCK, 16). */
  void (*attend)(const float *queries, const float *kv, int n_keys, int head_dim, const float *limits, float *scores, float *partial);
  /* Joins a later block's partial result to that of the earlier ones. */
  void (*merge)(float *into, const float *partial, int head_dim);
  /* The lanes' results, (16, D), from the joined partial one. */
  void (*finish)(const float *joined, int head_dim, float *out);
};

#define PARTIAL_FLOATS(head_dim) (((head_dim) + 2) * 16)

#endif
