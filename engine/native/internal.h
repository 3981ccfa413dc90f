/* What the parts of the library share. */
#ifndef MIDFILL_INTERNAL_H
#define MIDFILL_INTERNAL_H

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "pool.h"

#define N_PIECES 8 /* that a share is taken in: so much of it can be left to others */

enum { STEP_ATTN, STEP_ATTEND, STEP_PROJ, STEP_FC, STEP_MLP, N_STEPS };

/* Where a thread is in its own share of a step's work. */
struct counter { _Alignas(64) atomic_int n_taken; };

/* Some rows as integers, in tiles of at most tile_rows: [tile][K/2][rows of the tile][2]. */
struct levels {
  int16_t *values;
  float *scales;
};

struct own { /* one thread's */
  float *scratch, *queries, *scores, *partial;
  int16_t *levels; /* of a single row: cheaper made by each thread than waited for */
  float scale;
};

struct midfill_model {
  struct midfill_shape shape;
  struct midfill_block *blocks;
  struct midfill_norm final_norm;
  struct linear head;
  struct midfill_exact exact;
  const struct kernels *kernels;
  struct pool *pool;
  struct own *own;
  int n_rows; /* that the buffers below have room for */
  struct levels levels;
  float *queries, *mixed, *inner;
  float *partials;
  long n_partials;
  struct counter *counters;
};

struct pass {
  struct midfill_model *model;
  int first, n_layers, n_new, n_cached;
  float *h, *kv;
  long layer_stride, head_stride;
};

static inline int panels(int n) { return (n + PANEL - 1) / PANEL; }
static inline int padded(int n) { return panels(n) * PANEL; }
static inline int smaller(int a, int b) { return a < b ? a : b; }
static inline int larger(int a, int b) { return a > b ? a : b; }

static inline void *room(size_t n_bytes) { return aligned_alloc(64, (n_bytes + 127) / 64 * 64); }

/* So many levels that no sum of n_in products leaves an int32. */
static inline int max_level(int n_in) { return smaller(INT16_MAX, INT_MAX / 127 / larger(n_in, 1)); }

/* The part of n_all that is a thread's to begin with: long reads, always at the same place. */
static inline int share(int n_all, int n_threads, int rank) { return (int)((long)n_all * rank / n_threads); }

/* The next piece: of the thread's own share, and when that is done of another's that is late. False when all are taken. */
static inline int take(struct counter *counters, int n_all, int n_threads, int rank, int *from, int *to) {
  for (int turn = 0; turn < n_threads; turn++) {
    int whose = (rank + turn) % n_threads, start = share(n_all, n_threads, whose), end = share(n_all, n_threads, whose + 1);
    int n = turn ? 1 : larger(1, (end - start) / N_PIECES);
    *from = start + atomic_fetch_add_explicit(&counters[whose].n_taken, n, memory_order_relaxed);
    *to = smaller(*from + n, end);
    if (*from < end) return 1;
  }
  return 0;
}

static inline int attention_tiles(const struct midfill_model *model, int n_new) {
  return model->shape.n_kv_head * panels(n_new * (model->shape.n_head / model->shape.n_kv_head));
}

static inline int n_blocks(int n_keys) { return (n_keys + KEY_BLOCK - 1) / KEY_BLOCK; }

/* Whether there are so few queries that threads share the keys. */
static inline int shares_blocks(const struct midfill_model *model, int n_new) {
  return n_new == 1 || attention_tiles(model, n_new) < 8 * pool_size(model->pool);
}

/* Attention of the queries in model->queries; the rows (T, E), which every thread may read. Passes a barrier. */
const float *mix(const struct pass *pass, int rank, struct counter *counters, const float *kv);

/* Puts right, in a row's scores, the order of those that are so near to the best that rounding may have changed it. The row is
 * given as levels, each pair `stride` behind the one before; x has room for it. */
void settle(const struct midfill_model *model, const int16_t *levels, int stride, float scale, float *x, float *scores);

/* Frees the buffers for rows. */
void forget_rows(struct midfill_model *model);

#endif
